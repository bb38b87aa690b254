"""Keras models of your own for the peers' table: files, SavedModel folders, or folders of them, and their inputs.

    python -m benchmarks.peers models PATH... [--inputs FILE.npz] [--times LAUNCHES] [--weight-scales per-tensor]
                                              [--custom-objects MODULE...]

PATH is a `.keras` or `.h5` file, a SavedModel folder, or a folder with some of these. Inputs are float32 arrays as the
model takes them: `x_calibration` and `x_test` of an `.npz` file, which is `--inputs` or has the model's name beside it.
Without one the inputs are noise, and the network's name says so: what noise tells of a network is not what data do.
Modules with layers of your own are imported by name.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tf_keras

from benchmarks.ptq_best import CALIBRATION, TESTS, Work
from edgeship.core.config import PER_CHANNEL, PER_TENSOR
from edgeship.core.errors import DataError, EdgeshipError, ModelError, in_one_line
from edgeship.core.progress import say
from edgeship.model.build import load_model
from edgeship.model.keras3 import as_keras2
from edgeship.model.saved_model import is_saved_model

SUFFIXES = (".keras", ".h5")
ARRAYS = ("x_calibration", "x_test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `works`, and those of the table."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--inputs", type=Path, metavar="NPZ", help=f"with {' and '.join(ARRAYS)}, for all models")
    parser.add_argument("--custom-objects", nargs="+", default=[], metavar="MODULE", help="with layers of your own")
    parser.add_argument("--times", type=int, metavar="LAUNCHES", help="launches per runtime, 6 at the least")
    parser.add_argument("--weight-scales", choices=(PER_CHANNEL, PER_TENSOR), default=PER_CHANNEL)


def works(
    paths: Sequence[Path], *, inputs: Path | None, weight_scales: str = PER_CHANNEL, modules: Sequence[str] = ()
) -> Iterator[Work]:
    """Yield each model with its inputs; say of one that cannot be loaded or measured why, and go on.

    Raises:
        ModelError: a path with no model.
    """
    found = [model for path in paths for model in models_at(path)]
    for name in modules:
        importlib.import_module(name)
    for path in found:
        try:
            model = as_keras2(load_model(path, modules=tuple(modules)))
            yield _work(path, model, inputs, weight_scales)
        except EdgeshipError as error:
            say(f"{path.name}: not measured: {error}")


def models_at(path: Path) -> list[Path]:
    """Return the models that a path stands for. Raises ModelError where there is none."""
    if (path.suffix in SUFFIXES and path.is_file()) or is_saved_model(path):
        return [path]
    found = sorted(
        item for item in (path.iterdir() if path.is_dir() else ())
        if item.suffix in SUFFIXES or is_saved_model(item)
    )
    if not found:
        raise ModelError(
            f"{path}: expected a Keras model ({', '.join(SUFFIXES)}, or a SavedModel folder) or a folder of them, "
            "found none"
        )
    return found


def _work(path: Path, model: tf_keras.Model, inputs: Path | None, weight_scales: str) -> Work:
    if len(model.inputs) > 1 or len(model.outputs) > 1:
        raise ModelError(f"expected one input and one output, found {len(model.inputs)} and {len(model.outputs)}")
    beside = path.with_suffix(".npz")
    if inputs is not None or beside.is_file():
        name, (calibration, tests) = path.stem, _arrays(inputs or beside, model)
    else:
        name, (calibration, tests) = f"{path.stem}, on noise", _noise(model)
    return Work(name=name, model=model, calibration=calibration, tests=tests, weight_scales=weight_scales)


def _arrays(file: Path, model: tf_keras.Model) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            calibration, tests = (arrays[name].astype(np.float32) for name in ARRAYS)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{file}: expected an .npz file with {' and '.join(ARRAYS)}, found none ({in_one_line(error)})"
        ) from error
    for name, array in zip(ARRAYS, (calibration, tests), strict=True):
        shape = model.inputs[0].shape[1:]
        if not shape.is_compatible_with(array.shape[1:]):
            raise DataError(f"{file}: {name}: expected examples of shape {tuple(shape)}, found {array.shape[1:]}")
    return calibration, tests


def _noise(model: tf_keras.Model) -> tuple[np.ndarray, np.ndarray]:
    shape = tuple(model.inputs[0].shape[1:])
    if None in shape:
        raise ModelError(f"its input is of an open size {shape}; bring inputs ({', '.join(ARRAYS)}) in an .npz file")
    generator = np.random.default_rng(0)
    calibration, tests = (
        generator.normal(size=(count, *shape)).astype(np.float32) for count in (CALIBRATION, TESTS)
    )
    return calibration, tests
