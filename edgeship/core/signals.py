"""The names of the signals that end processes."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """11 -> "SIGSEGV"; "signal 99" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
