"""Two networks that must be one: their answers held against each other, and the first layer that differs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.core.integers import sqnr_db
from edgeship.model.keras2 import read_by
from edgeship.quantize.simplifying.precision import float32_policy
from edgeship.quantize.simplifying.rebuild import Copies, call, nodes_of, rebuild

# Signal to rounding noise that float32 leaves at the least. One addition rounds by 2**-24 / sqrt(3) of its result (root
# mean square): -149 dB. A sum of n products rounds n times on partial sums half as large: n = 2,304 (3x3x256) adds
# 31 dB. LAYERS_AT_LEAST of such layers in a row, each noise of its own, add 20 dB, and both networks round: 3 dB.
# The sums of real networks are shorter, and their kernels add in several lanes: found are 110 to 150 dB.
LEAST_SQNR_DB = 95.0
# Some networks amplify every rounding (deep ones of random weights, small differences of large numbers): where 95 dB
# are missed, the model itself is asked what one unit in the last place of every tensor makes of its answers; a sum of
# some hundred products rounds by ten such units (20 dB).
UNIT = 2.0**-23
UNITS_DB = 20.0
PROBE_BATCH, LEAST_BATCH = 8, 2
PROBE_NUMBERS = 2**17  # of an input: large pictures need no eight examples, and each of them is two forward passes
PROBE_SIZE = 32  # for sizes the model leaves open


def noise_of(inputs: Sequence[Any], spans: Sequence[tuple[float, float]], *, seed: int = 0) -> list[np.ndarray]:
    """Uniform noise for a model's inputs, each within its span: float32 `(batch, ...)`."""
    generator = np.random.default_rng(seed)
    sizes = [[size or PROBE_SIZE for size in tensor.shape[1:]] for tensor in inputs]
    batch = max(LEAST_BATCH, min(PROBE_BATCH, PROBE_NUMBERS // max(map(math.prod, sizes))))
    return [
        generator.uniform(*span, size=(tensor.shape[0] or batch, *size)).astype(np.float32)
        for tensor, size, span in zip(inputs, sizes, spans, strict=True)
    ]


def check_same(model: tf_keras.Model, other: tf_keras.Model, batch: Sequence[np.ndarray], *, what: str) -> None:
    """Hold `other`, which was made from `model`, against it.

    Args:
        batch: one float32 array for every input.
        what: who `other` is and what both were run on, for the message.

    Raises:
        LoweringError: an output of the two differs by more than float32 rounding. The message names the first layer
            of `model` behind which nothing is equal.
    """
    expected, found = (_answers(network, network.outputs, batch) for network in (model, other))
    for position, name in enumerate(model.output_names):
        one, two = expected[position], found[position]
        if is_same(one, two, least_db=LEAST_SQNR_DB):
            continue
        least = min(LEAST_SQNR_DB, _own_sqnr_db(model, batch, position) - UNITS_DB)
        if is_same(one, two, least_db=least):
            continue
        ratio = sqnr_db(one, two) if one.shape == two.shape else None
        measured = "" if ratio is None else f" ({ratio:.1f} dB, float32 rounding leaves {least:.0f} dB)"
        raise LoweringError(
            f"{model.name}: {what} computes another {name!r} than the model{measured}; the first layer that differs "
            f"is {_first_that_differs(model, other, batch, least)}. This is a fault of edgeship; write that layer in "
            "another way until it is mended"
        )


def is_same(one: np.ndarray, two: np.ndarray, *, least_db: float) -> bool:
    """Whether two tensors are equal as far as float32 tells; what is not finite must be equal."""
    if one.shape != two.shape:
        return False
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(two)):
        return False
    one, two = one[finite].astype(np.float64), two[finite].astype(np.float64)
    noise, power = float(np.sum((one - two) ** 2)), float(np.sum(one**2))
    return noise <= power * 10 ** (-least_db / 10)


def _own_sqnr_db(model: tf_keras.Model, batch: Sequence[np.ndarray], output: int) -> float:
    """Signal to noise of one of a model's outputs when every tensor moves by a unit in its last place, up or down."""
    copies, signs = Copies(), itertools.cycle((1.0, -1.0))

    def moved(old: Any, new: Any) -> Any:
        return layers.Rescaling(1.0 + next(signs) * UNIT)(new) if new.dtype.is_floating else new

    with float32_policy():
        other = rebuild(model, lambda node, args, kwargs: call(copies, node.layer, args, kwargs), forward=moved)
    one, two = (_answers(network, [network.outputs[output]], batch)[0] for network in (model, other))
    ratio = sqnr_db(one, two)
    return LEAST_SQNR_DB + UNITS_DB if ratio is None else ratio


def _answers(network: tf_keras.Model, tensors: Sequence[Any], batch: Sequence[np.ndarray]) -> list[np.ndarray]:
    inside = tf_keras.Model(network.inputs, list(tensors))
    inputs = [tf.constant(array) for array in batch]
    return [np.asarray(values) for values in tf.nest.flatten(inside(inputs[0] if len(inputs) == 1 else inputs))]


def _first_that_differs(model: tf_keras.Model, other: tf_keras.Model, batch: Sequence[np.ndarray], least: float) -> str:
    """The first layer of `model` such that neither its own result nor any that is computed from it is in `other`."""
    nodes = list(nodes_of(model))
    tensors = [tensor for node in nodes for tensor in tf.nest.flatten(node.outputs)]
    own = dict(zip(map(id, tensors), _answers(model, tensors, batch), strict=True))
    others: dict[tuple[int, ...], list[np.ndarray]] = {}
    there = [tensor for node in nodes_of(other) for tensor in tf.nest.flatten(node.outputs)]
    for values in _answers(other, there, batch):
        others.setdefault(values.shape, []).append(values)
    found: set[int] = set()  # tensors that are in `other`, or from which one is computed that is
    missing = []
    for node in reversed(nodes):
        outputs = tf.nest.flatten(node.outputs)
        if any(id(tensor) in found or any(
            is_same(own[id(tensor)], values, least_db=least) for values in others.get(own[id(tensor)].shape, ())
        ) for tensor in outputs):
            found |= {id(tensor) for tensor in (*outputs, *read_by(node))}
        else:
            missing.append(node.layer)
    return f"{missing[-1].name} ({type(missing[-1]).__name__})" if missing else "the last one"
