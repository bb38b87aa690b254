"""The browser target: a headless Chromium on this machine, through the bridge in validate/bridges/browser.py."""

from __future__ import annotations

import sys
from typing import Any

from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.targets.browser_files import MODULES, find_chromium, find_modules
from edgeship.validate.targets.target import NATIVE, Target, TargetFailure


class BrowserTarget(Target):
    """The WebAssembly that a phone's browser runs, compiled for this machine's processor."""

    kind = NATIVE
    runtimes = tuple(name for name in RUNTIMES if name in MODULES)
    times_together = False  # a browser each

    @property
    def processes(self) -> int:
        """One page."""
        return 1

    def __enter__(self) -> BrowserTarget:
        if find_chromium() is None:
            raise TargetFailure(
                f"{self.name}: expected Chromium, found none; apt install chromium, or name it in EDGESHIP_CHROMIUM"
            )
        if find_modules() is None:
            raise TargetFailure(
                f"{self.name}: the web runtimes are not set up; run `edgeship setup browser` (about 180 MB)"
            )
        return self

    def command(self, runtime: str) -> list[str]:
        """The bridge, which starts a browser of its own."""
        return [
            sys.executable, "-P", "-m", "edgeship.validate.bridges.browser",
            "--chromium", str(find_chromium()), "--modules", str(find_modules()),
        ]

    def describe(self) -> dict[str, Any]:
        """Which browser and which modules."""
        return {"chromium": str(find_chromium()), "modules": str(find_modules())}
