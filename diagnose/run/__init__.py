"""`llmdoctor run`: a command keeps its terminal, signals and exit code, and has a witness who can tell why it ended."""
