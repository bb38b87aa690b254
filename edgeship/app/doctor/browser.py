"""What `edgeship doctor` says of the browser and the web runtimes: each of them runs an inference in a Chromium."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

from edgeship.app.doctor.findings import Finding
from edgeship.app.doctor.trials import BUSY, GROUP_SECONDS, at_once, infer
from edgeship.core.errors import RuntimeFailure
from edgeship.validate.targets.browser import BrowserTarget
from edgeship.validate.targets.browser_files import (
    CHROMIUM_NAMES,
    MODULES,
    VERSIONS,
    find_chromium,
    find_modules,
    require_modules,
)

INSTALL_CHROMIUM = "apt install chromium"
NO_PAGE = "BrowserEnded"  # how the bridge names what is the browser's failure, not the runtime's


def examine_browser() -> list[Finding]:
    """The web runtimes, then the browser as a target: it works where a page came up."""
    chromium = find_chromium()
    modules = {runtime: _modules(runtime) for runtime in MODULES}
    ready = [runtime for runtime, (_, missing) in modules.items() if chromium is not None and not missing]
    tried = dict(zip(ready, at_once(
        [functools.partial(infer, BrowserTarget("browser"), runtime) for runtime in ready], seconds=GROUP_SECONDS
    ), strict=True))
    runtimes = [
        _runtime(name, versions, missing, tried.get(name)) for name, (versions, missing) in modules.items()
    ]
    return [*runtimes, _browser(chromium, list(tried.values()))]


def _modules(runtime: str) -> tuple[dict[str, str], str]:
    """The versions of the runtime's npm modules, or which one is missing."""
    try:
        return require_modules(find_modules(), runtime)[1], ""
    except ModuleNotFoundError as error:
        folder = find_modules()
        where = "no node_modules folder is set up" if folder is None else f"it is not in {folder}"
        return {}, f"expected the npm module {error.name}, but {where}"


def _runtime(name: str, versions: dict[str, str], missing: str, tried: dict[str, str] | Exception | None) -> Finding:
    """`tried` is None where nothing could be tried."""
    found = ", ".join(f"{module} {version}" for module, version in versions.items())
    others = ", ".join(f"{module} {VERSIONS[module]}" for module in versions if versions[module] != VERSIONS[module])
    if others:
        found += f" (edgeship was made for {others})"
    install = _set_up() if missing or others else None
    if missing:
        works, detail = False, missing
    elif tried is None:
        works, detail, install = False, f"{found}; not tried without a browser", INSTALL_CHROMIUM
    elif isinstance(tried, Exception):
        works, detail = False, f"{found}: {tried}"
        if not _is_browsers_fault(tried):
            install = _set_up()
    else:
        works, detail = True, found
    return Finding(name=name, kind="runtime", works=works, detail=detail, how_to_install=install)


def _browser(chromium: Path | None, tried: list[dict[str, str] | Exception]) -> Finding:
    came_up = [result.get("chromium", "of unknown version") for result in tried if isinstance(result, dict)]
    install = None
    if chromium is None:
        works, install, named = False, INSTALL_CHROMIUM, os.environ.get("EDGESHIP_CHROMIUM")
        if named:
            detail = f"EDGESHIP_CHROMIUM: expected a program, found none at {named}"
            install = "unset EDGESHIP_CHROMIUM"
            if not any(map(shutil.which, CHROMIUM_NAMES)):
                install += f"; {INSTALL_CHROMIUM}"
        else:
            detail = f"expected one of {', '.join(CHROMIUM_NAMES)} on PATH, found none"
    elif not tried:
        works, detail, install = False, f"{chromium}; not tried without a web runtime", _set_up()
    elif came_up:
        works, detail = True, f"Chromium {came_up[0]} ({chromium}), a page of its own for each runtime"
    else:
        faults = [result for result in tried if isinstance(result, Exception) and _is_browsers_fault(result)]
        works = not faults
        detail = f"{chromium}: {faults[0]}" if faults else f"{chromium}; its page came up, the runtimes failed in it"
    return Finding(name="browser", kind="target", works=works, detail=detail, how_to_install=install)


def _is_browsers_fault(error: Exception) -> bool:
    """Whether it says nothing of the runtime: no page, or no answer."""
    return not isinstance(error, RuntimeFailure) or NO_PAGE in str(error) or str(error).endswith(BUSY)


def _set_up() -> str:
    """The command that fetches the web runtimes, and tools that it needs."""
    steps = []
    if shutil.which("npm") is None:
        steps.append("apt install npm")
    if os.environ.get("EDGESHIP_BROWSER_MODULES"):
        steps.append("unset EDGESHIP_BROWSER_MODULES")
    return " && ".join([*steps, "edgeship setup browser"])
