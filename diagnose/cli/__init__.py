"""The command line. The only package that prints or exits."""

from diagnose.cli.app import main

__all__ = ["main"]
