"""Marks of tests that need an emulator or a browser, which not every machine has."""

from __future__ import annotations

import shutil

import pytest

from edgeship.validate.targets import arm64_root as root
from edgeship.validate.targets.arm64 import QEMU
from edgeship.validate.targets.browser_files import find_chromium, find_modules

TOOLS_MISSING = [package for tool, package in {QEMU: "qemu-user", **root.TOOLS}.items() if shutil.which(tool) is None]
needs_emulator = pytest.mark.skipif(bool(TOOLS_MISSING), reason=f"not installed: {', '.join(TOOLS_MISSING)}")
NO_BROWSER = (
    "no Chromium on PATH" if find_chromium() is None else
    "no npm modules (EDGESHIP_BROWSER_MODULES)" if find_modules() is None else ""
)
needs_browser = pytest.mark.skipif(bool(NO_BROWSER), reason=NO_BROWSER)
