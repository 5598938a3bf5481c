"""The machine that a benchmark runs on, and what a process of it took."""

import os
import sys
from pathlib import Path

import numpy as np


def describe_machine(*more: str) -> str:
    """Processor, cores and versions; and whatever else decides a benchmark's figures."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        model = platform.processor() or platform.machine()
    parts = [model, f"{os.cpu_count()} cores", f"Python {sys.version.split()[0]}", f"numpy {np.__version__}"]
    return ", ".join([*parts, *more])


def read_peak() -> int:
    """Most bytes of memory that this process has had."""
    try:  # getrusage would give the parent's peak where that was higher
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
