"""The most memory a process has held since a moment, and what it holds now.

Linux keeps the peak of a process's resident memory (``VmHWM``) since it began; writing 5 to ``clear_refs`` starts it
anew, so that the second job of a process is not billed for the first. Where that is not possible (no procfs, a
sandbox), the peak is that of the whole process.
"""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
PEAK_ONLY = "5"


def reset_peak() -> None:
    """Let the peak begin at what the process holds now."""
    try:
        CLEAR.write_text(PEAK_ONLY)
    except OSError:
        return


def peak_bytes() -> int:
    """Return the most memory held since `reset_peak`, or since the process began where it cannot be reset."""
    held = _status("VmHWM:")
    if held is not None:
        return held
    # Bytes on macOS, KiB elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_bytes() -> int:
    """Return the memory the process holds now: interpreter, libraries and data."""
    held = _status("VmRSS:")
    return peak_bytes() if held is None else held


def _status(key: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(key)), None)
