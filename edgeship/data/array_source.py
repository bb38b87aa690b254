"""The user's own arrays of a configuration: from `data.factory`, or from an .npz file of any shapes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError, in_one_line
from edgeship.data.arrays import Port, given_arrays, given_targets
from edgeship.data.examples import Examples, examples_of_arrays, examples_sha256
from edgeship.data.npz import read_arrays

PARTS = ("train", "calibration", "test")
FORM = (
    'a dict with "test" and "train" or "calibration", each inputs (an array, a list or a dict of arrays) or a pair '
    "(inputs, targets)"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySplits:
    """Three parts of the user's data; what is not there is None."""

    train: Examples | None
    calibration: Examples
    test: Examples

    def record(self) -> dict[str, dict[str, Any]]:
        """Return what a manifest says of each part."""
        parts = {"train": self.train, "calibration": self.calibration, "test": self.test}
        return {
            name: {"images": len(part), "sha256": examples_sha256(part)}
            for name, part in parts.items() if part is not None
        }


def load_arrays(config: DataConfig, ports: Sequence[Port]) -> ArraySplits:
    """Return the data that `data.factory` or `data.path` brings, checked against a model's inputs.

    Without a part "calibration", the first `data.calibration_images` examples of "train" are taken.

    Raises:
        DataError: no such module, function or file; data of another form; arrays that do not fit the model.
    """
    where = f"data.factory: {config.factory}" if config.factory else f"data.path: {config.path}"
    given = _called(config.factory) if config.factory else _read(Path(str(config.path)))
    if not isinstance(given, Mapping) or not set(given) <= set(PARTS) or "test" not in given or len(given) < 2:
        found = sorted(given) if isinstance(given, Mapping) else type(given).__name__
        raise DataError(f"{where}: expected {FORM}; found {found}")
    parts = {name: _examples(value, ports, who=f"{where}: {name}") for name, value in given.items()}
    train, calibration = parts.get("train"), parts.get("calibration")
    if calibration is None:
        assert train is not None  # there are two parts at least
        calibration = train.first(config.calibration_images)
    return ArraySplits(train=train, calibration=calibration, test=parts["test"])


def _examples(value: Any, ports: Sequence[Port], *, who: str) -> Examples:
    inputs, targets = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    given = given_arrays(inputs, ports, who=who)
    wanted = given.targets if targets is None else given_targets(targets, who=f"{who}: targets")
    try:
        return examples_of_arrays(given.inputs, wanted)
    except DataError as error:
        raise DataError(f"{who}: {error}") from error


def _called(factory: str) -> Any:
    module, _, name = factory.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        return function()
    except DataError:
        raise
    # The user's code may raise anything.
    except (Exception, SystemExit) as error:
        raise DataError(
            f"data.factory: {factory}: expected a function without arguments that returns {FORM}; it failed: "
            f"{in_one_line(error)}"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file: "test_inputs", "test_targets" and so on; of several inputs "test_inputs/NAME"."""
    arrays = read_arrays(path)
    given: dict[str, Any] = {}
    for part in PARTS:
        key = f"{part}_inputs"
        several = {name.removeprefix(f"{key}/"): array for name, array in arrays.items() if name.startswith(f"{key}/")}
        inputs = arrays.get(key, several or None)
        if inputs is not None:
            targets = arrays.get(f"{part}_targets")
            given[part] = inputs if targets is None else (inputs, targets)
    if not given:
        raise DataError(
            f"data.path: {path}: expected the arrays test_inputs, test_targets, train_inputs ... , found "
            f"{', '.join(sorted(arrays)) or 'none'}; rename them"
        )
    return given
