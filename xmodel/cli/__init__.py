"""The command line: each command parses its arguments, calls one library function, and prints."""

from xmodel.cli import demo as _demo
from xmodel.cli import report as _report
from xmodel.cli import runs as _runs
from xmodel.cli import score as _score
from xmodel.cli import selfcheck as _selfcheck
from xmodel.cli import steer as _steer
from xmodel.cli import sweep as _sweep
from xmodel.cli import words as _words
from xmodel.cli.program import app, main

__all__ = ["app", "main"]

_COMMANDS = (_words, _runs, _demo, _score, _steer, _report, _selfcheck, _sweep)
