"""What the tests of emulated processors share."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.core.errors import RefusedError
from edgeship.validate.targets import arm64_root as root


@pytest.fixture(scope="session")
def arm64_root() -> Path:
    """The root file system in the user's cache folder; made where there is none yet, as the documented command does."""
    if root.installed_versions() is None:
        try:
            root.set_up()
        except RefusedError as error:
            pytest.skip(f"the root file system could not be fetched: {error}")
    return root.root_folder()
