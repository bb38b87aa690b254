"""Progress of the calls from Python: nothing, the lines of the command line, or a function of the user's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from edgeship.core import progress

Progress = bool | Callable[[str], None]


@contextlib.contextmanager
def showing(wanted: Progress) -> Iterator[None]:
    """Say nothing (False), write lines and bars to standard error (True), or give each line to a function."""
    if wanted is True:
        yield
    elif wanted is False:
        with progress.quiet():
            yield
    else:
        with progress.lines_to(wanted):
            yield
