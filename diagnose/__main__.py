"""`python -m diagnose` is `llmdoctor`."""

from diagnose.cli import main

main()
