"""How a file of commands adds them to the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

# Adds a command: its name, what it calls (which returns the exit code), and a summary.
Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
