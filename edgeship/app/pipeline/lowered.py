"""The float network between the stages: lowered, so that no stage needs the classes it was written with, and proven.

`quantize/lowering` makes one flat graph of Keras' own layers (and a few of ours) out of any model. It is saved, and
every later stage and every bundle works on what was saved; that needs neither the user's modules nor `get_config()`.
"""

from __future__ import annotations

import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back

# isort: split
import contextlib
import json
import math
import secrets
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.errors import EdgeshipError, LoweringError, StorageError, in_one_line
from edgeship.core.integers import sqnr_db
from edgeship.data.examples import Examples, as_model_takes
from edgeship.model import build
from edgeship.model.distribute import LOST
from edgeship.model.flat_layers import PACKAGE
from edgeship.quantize.lowering.lower import answers_of, leaves_sizes_open, lower
from edgeship.quantize.simplifying.precision import least_sqnr_db

# Of whose layers a saved network may consist; none is named for what Keras finds by its class alone.
KNOWN_MODULES = ("", "keras", "tf_keras", "edgeship")
COMPARED_EXAMPLES = 8
# float32 rounds each result to 2^-24 of it (-144.5 dB). Roundings of random sign add up as the root of their number:
# for sums of up to 2^12 products in 2^7 operations one after the other, 57 dB. The same network computed in another
# order is closer than what is left; a wrong padding or a lost bias was seen at 50 dB and below.
LEAST_FLOAT_SQNR_DB = 20 * math.log10(2**24) - 10 * math.log10(2**12 * 2**7)


def lowered(model: tf_keras.Model, examples: Examples) -> tf_keras.Model:
    """The same network as a flat one, held against the model on noise (by `lower`) and on real examples.

    Raises:
        LoweringError: the model cannot be lowered (layer and operation are named), or computes something else then.
    """
    try:
        flat = lower(model, sizes=_sizes(model, examples))
    except (EdgeshipError, *LOST):
        raise
    except Exception as error:
        raise LoweringError(
            f"{model.name}: could not be taken apart into single operations ({in_one_line(error)}); "
            "leave out its layers one by one to find the one"
        ) from error
    _check_same_answers(
        model, flat, examples, what=f"{model.name}: the lowered network computes something else than the model on real "
        "examples; does a layer draw random numbers in inference, or keep something between two calls?",
    )
    return flat


def _sizes(model: tf_keras.Model, examples: Examples) -> list[tuple[int, ...]] | None:
    """The sizes of the examples, for a model that leaves some open."""
    if not leaves_sizes_open(model):
        return None
    return [array.shape[1:] for array in next(examples.batches(1))]


def save(flat: tf_keras.Model, path: Path, examples: Examples) -> None:
    """Save a lowered network, load it again, and rename it to `path` when both are the same.

    Raises:
        LoweringError: it cannot be saved, or comes back as something else.
        StorageError: the disk is full, or the folder cannot be written to; an older file stays as it was.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp.keras")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(flat, temporary)
        _check_loaded(flat, temporary, examples)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: the model could not be saved ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):  # already renamed, or its folder never came to be
            temporary.unlink(missing_ok=True)


def check_can_be_saved(flat: tf_keras.Model, examples: Examples) -> None:
    """Save and load a lowered network in a folder that is thrown away. Raises as `save`."""
    with tempfile.TemporaryDirectory(prefix="edgeship-") as folder:
        save(flat, Path(folder) / "float.keras", examples)


def as_json(flat: tf_keras.Model) -> str:
    """The layers, their settings and how they are connected; no weights. Raises LoweringError."""
    try:
        return str(flat.to_json())
    except Exception as error:
        raise _not_kept(flat, f"it could not be saved ({in_one_line(error)})") from error


def load(path: Path) -> tf_keras.Model:
    """The lowered network of an earlier stage. Raises ModelError."""
    flat = build.load_model(path)
    build.check_weights(flat)
    return flat


def _write(flat: tf_keras.Model, path: Path) -> None:
    try:
        flat.save(path)
    except OSError:
        raise
    except Exception as error:
        raise _not_kept(flat, f"it could not be saved ({in_one_line(error)})") from error


def _check_loaded(flat: tf_keras.Model, path: Path, examples: Examples) -> None:
    with zipfile.ZipFile(path) as archive:
        foreign = _foreign(json.loads(archive.read("config.json")))
    if foreign:  # here they could be loaded; where a bundle is proven they cannot
        raise _not_kept(
            flat, f"a layer of Keras' holds {', '.join(foreign)}, which only the user's code knows; write it as a "
            "layer with a call() of its own"
        )
    try:
        again = build.load_model(path)
    except EdgeshipError as error:
        reason = in_one_line(error.__cause__ or error)
        raise _not_kept(flat, f"what was saved could not be loaded ({reason})") from error
    kept, found = flat.weights, again.weights
    if len(kept) != len(found):
        raise _not_kept(flat, f"of {len(kept)} weights {len(found)} came back")
    for before, after in zip(kept, found, strict=True):
        if not np.array_equal(before.numpy(), after.numpy(), equal_nan=True):
            raise _not_kept(flat, f"the weight {before.name!r} came back as another")
    _check_same_answers(
        flat, again, examples, what=f"{flat.name}: the lowered network computes something else when it was "
        "saved and loaded; is a tensor a constant of an operator? Make it a variable or a Python number",
    )


def _foreign(value: Any) -> list[str]:
    """The classes and functions in a saved configuration that are neither Keras' nor ours."""
    if isinstance(value, list):
        return list(dict.fromkeys(name for item in value for name in _foreign(item)))
    if not isinstance(value, dict):
        return []
    found = list(dict.fromkeys(name for item in value.values() for name in _foreign(item)))
    if "class_name" not in value:
        return found
    registered = value.get("registered_name") or ""
    if value["class_name"] == "function":
        name = str(value["config"])
        known = hasattr(tf_keras.activations, name) and ">" not in registered
    else:
        name, module = str(value["class_name"]), (value.get("module") or "").partition(".")[0]
        known = registered.startswith(f"{PACKAGE}>") if ">" in registered else module in KNOWN_MODULES
    return found if known else [*found, name]


def _check_same_answers(
    model: tf_keras.Model, other: tf_keras.Model, examples: Examples, *, what: str
) -> None:
    batch = examples.read(np.arange(min(COMPARED_EXAMPLES, len(examples))))
    given = as_model_takes(batch)
    least = min(LEAST_FLOAT_SQNR_DB, least_sqnr_db(model))
    sides = (tf.nest.flatten(answers_of(network, given)) for network in (model, other))
    for pair in zip(*sides, strict=True):
        expected, found = (np.asarray(tf.cast(answer, tf.float32)) for answer in pair)
        if expected.shape == found.shape and np.array_equal(expected, found, equal_nan=True):
            continue
        ratio = sqnr_db(expected, found) if expected.shape == found.shape else None
        # A ratio that is not finite, of NaN too, is no proof.
        if ratio is None or not ratio >= least:
            shown = "not comparable" if ratio is None else f"{ratio:.0f} dB"
            raise LoweringError(f"{what} (expected {least:.0f} dB or equal, found {shown})")


def _not_kept(flat: tf_keras.Model, reason: str) -> LoweringError:
    operators = [
        f"{layer.name} (tf.{layer.get_config()['function']})" for layer in flat.layers
        if type(layer).__name__ == "TFOpLambda"
    ]
    suspects = f"; operators without a layer of their own: {', '.join(operators)}" if operators else ""
    return LoweringError(f"{flat.name}: the lowered network cannot be kept: {reason}{suspects}")

