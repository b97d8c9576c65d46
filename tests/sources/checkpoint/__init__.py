"""Tests of the checkpoint source; `models` builds small model folders."""
