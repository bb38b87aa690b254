"""Python's garbage collector in a process that is edgeship's own: a command, or a worker."""

from __future__ import annotations

import gc

# In place of (700, 10, 10). TensorFlow's imports make half a million objects, and all of them stay: the collector would
# walk through them again and again, a fifth of the time that they take.
THRESHOLDS = (50_000, 20, 20)


def collect_less_often() -> None:
    """Let the collector look for garbage once many objects have been made."""
    gc.set_threshold(*THRESHOLDS)
