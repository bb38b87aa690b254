"""Where a browser and the runtimes' npm modules are, and what to say where they are not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from edgeship.core.cache_folder import cache_folder

PAGE_FOLDER = Path(__file__).parent / "browser_page"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

# Runtime -> its npm modules, the first one being the library itself.
MODULES: dict[str, tuple[str, ...]] = {
    "onnxruntime-web": ("onnxruntime-web",),
    "litert-web": ("@litertjs/core", "@litertjs/wasm-utils"),
}
# The versions these pages were written against and tested with.
VERSIONS = {"onnxruntime-web": "1.30.0", "@litertjs/core": "2.5.3", "@litertjs/wasm-utils": "2.5.3"}


def find_chromium() -> Path | None:
    """The browser that EDGESHIP_CHROMIUM names, else the first known name on PATH; None where there is none."""
    names = (os.environ["EDGESHIP_CHROMIUM"],) if os.environ.get("EDGESHIP_CHROMIUM") else CHROMIUM_NAMES
    found = next(filter(None, map(shutil.which, names)), None)
    return None if found is None else Path(found)


def find_modules() -> Path | None:
    """The node_modules folder that EDGESHIP_BROWSER_MODULES names, else edgeship's own; None if it is not there."""
    named = os.environ.get("EDGESHIP_BROWSER_MODULES")
    folder = Path(named) if named else cache_folder() / "browser" / "node_modules"
    return folder if folder.is_dir() else None


def require_chromium(path: Path | None) -> Path:
    """`path`, if it is a program. Raises ModuleNotFoundError: it says what to install."""
    if path is None or shutil.which(path) is None:
        where = f"one of {', '.join(CHROMIUM_NAMES)} on PATH" if path is None else f"at {path}"
        raise ModuleNotFoundError(
            f"No browser 'chromium' ({where} was expected): install it, for example with `apt install chromium`, "
            "or set EDGESHIP_CHROMIUM to a Chromium or Chrome", name="chromium",
        )
    return path


def require_modules(folder: Path | None, runtime: str) -> tuple[Path, dict[str, str]]:
    """The folder, and {"module": version} of what `runtime` needs. Raises ModuleNotFoundError."""
    versions = {}
    for module in MODULES[runtime]:
        version = None if folder is None else _version(folder / module / "package.json")
        if version is None:
            where = "no node_modules folder was found" if folder is None else f"not in {folder}"
            raise ModuleNotFoundError(
                f"No npm module '{module}' ({where}): run `edgeship setup browser`, or "
                f"`npm install {module}@{VERSIONS[module]}` and set EDGESHIP_BROWSER_MODULES to its node_modules "
                "folder", name=module,
            )
        versions[module] = version
    assert folder is not None
    return folder, versions


def _version(package: Path) -> str | None:
    """The version in a package.json; None where there is no such module."""
    try:
        return str(json.loads(package.read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
