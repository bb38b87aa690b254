"""`edgeship setup PART`: what a target needs is fetched once, into edgeship's own cache folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgeship.core.cache_folder import cache_folder
from edgeship.core.errors import RefusedError
from edgeship.core.progress import say
from edgeship.validate.targets.arm64_root import set_up as set_up_arm64
from edgeship.validate.targets.browser_files import MODULES, VERSIONS

# The libraries themselves; npm brings what they need.
BROWSER_PACKAGES = {modules[0]: VERSIONS[modules[0]] for modules in MODULES.values()}
COMMAND_SECONDS = 900


def set_up_browser() -> Path:
    """Fetch the web runtimes with npm; the folder of the modules. No script of a package is run.

    Raises:
        RefusedError: npm is missing or failed.
    """
    if shutil.which("npm") is None:
        raise RefusedError("browser: expected npm, found none; apt install npm (or Node.js from nodejs.org)")
    target = cache_folder() / "browser"
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".browser-", dir=target.parent))
    work.chmod(0o755)
    try:
        (work / "package.json").write_text(json.dumps({"private": True}))
        wanted = [f"{name}@{version}" for name, version in BROWSER_PACKAGES.items()]
        say(f"browser: fetching {', '.join(wanted)}")
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", *wanted],
            cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=COMMAND_SECONDS, check=False,
        )
        if done.returncode:
            words = [line for line in done.stderr.splitlines() if line.strip()]
            raise RefusedError(f"browser: npm failed: {' | '.join(words[:3])}")
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefusedError(f"browser: npm failed: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target / "node_modules"


SETUPS: dict[str, Callable[[], Path]] = {"arm64": set_up_arm64, "browser": set_up_browser}
