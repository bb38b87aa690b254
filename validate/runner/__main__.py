"""The command line of the runner.

    python runner.pyz             answer requests
    python runner.pyz supervise   the same in a child process, and say `{"ended": exit code}` when that ends, so
                                  that over a network a crash and a broken link can be told apart
    python runner.pyz keep DIR    make a folder in DIR, say what this machine is, and remove the folder when
                                  standard input closes, however the other side came to its end
"""

from __future__ import annotations

import sys

from .protocol import serve_pipes
from .session import Session
from .supervisor import keep, supervise


def main() -> None:
    """Do what the command line says."""
    if len(sys.argv) == 1:
        serve_pipes(Session)
    elif sys.argv[1] == "supervise":
        supervise()
    elif sys.argv[1] == "keep":
        keep(sys.argv[2])
    else:
        sys.exit(f"runner: expected nothing, `supervise` or `keep DIR`; found {sys.argv[1]!r}")


if __name__ == "__main__":
    main()
