"""The command line: each command parses its arguments, calls one library function, and prints."""

from xmodel.cli import demo as _demo
from xmodel.cli import runs as _runs
from xmodel.cli import words as _words
from xmodel.cli.program import app, main

__all__ = ["app", "main"]

_COMMANDS = (_words, _runs, _demo)
