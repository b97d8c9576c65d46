"""llmdoctor: why an open-source LLM will not load, run, train or answer properly, and what to do about it."""

__version__ = "0.1.0"
