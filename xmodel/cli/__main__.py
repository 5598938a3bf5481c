"""``python -m xmodel.cli``: the same as ``xmodel``."""

from xmodel.cli.program import main

main()
