"""From a flat float model to integer ranges: fake quantization is inserted, seeded from calibration images, finished.

    prepare         a lowered float model -> the same with fake quantization, without ranges
    seed_ranges     ranges from calibration images
    finish          ranges are frozen, and every bias has an integer that fits: ready for export

Post-training quantization is these three. Quantization-aware training (qat.py) trains between the second and the third.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.artifact import Preprocessing
from edgeship.core.config import QuantizeConfig
from edgeship.core.errors import ModelError
from edgeship.core.layer_names import wrapper_name
from edgeship.core.progress import say, track
from edgeship.data import Images, preprocessed_batches
from edgeship.quantize.calibration import MIN_MAX, Seen
from edgeship.quantize.insert import QuantizedModel, insert_fake_quantization
from edgeship.quantize.ranges import LEAST_RANGE

CALIBRATION_BATCH = 32
# Of inputs that pass the model at once: a dozen pictures of 224x224x3. The first tensors of a network are several times
# as large as its input, and three of them are in memory at a time; every pass rounds all weights anew.
BATCH_NUMBERS = 2**21
CHECKED_EXAMPLES = 8  # on which the network is held against the float model before it is calibrated
# The largest bias integer that a scale may lead to: the accumulator (int32) needs room for the products too.
LARGEST_BIAS_CODE = 2**30


def prepare(
    flat: tf_keras.Model, *, spec: Preprocessing, config: QuantizeConfig, keep_float: Sequence[str] = ()
) -> QuantizedModel:
    """Insert fake quantization into a lowered float model of images; ranges are not seeded yet.

    Raises:
        LoweringError: a layer that integers cannot compute, or a name in `keep_float` that no layer has.
    """
    return insert_fake_quantization(
        flat, input_ranges=[spec.input_range] * len(flat.inputs), ema_decay=config.ema_decay,
        weight_bits=config.weight_bits, weight_range=config.weight_range, weight_scales=config.weight_scales,
        keep_float=keep_float,
    )


def seed_ranges(
    quantized: QuantizedModel, calibration: Images, *, spec: Preprocessing, method: str, share: float = 1.0
) -> None:
    """Seed every range from the calibration images, by one of `calibration.CALIBRATIONS`.

    Args:
        share: of the stage's bar, that this fills.

    Raises:
        ModelError: no images, or a tensor that is NaN on them.
        LoweringError: with all rounding switched off the network answers some of the images otherwise than in float.
    """
    if not len(calibration.labels):
        raise ModelError(
            "data.calibration_images: the calibration split is empty; the integer ranges need some images"
        )
    first = next(iter(preprocessed_batches(calibration, spec, size=CHECKED_EXAMPLES)))
    quantized.check_in_float([first] * len(quantized.model.inputs), on="calibration images")
    batches = track(
        preprocessed_batches(calibration, spec, size=CALIBRATION_BATCH), label="calibration",
        total=-(-len(calibration.labels) // CALIBRATION_BATCH), share=share,
    )
    calibrate(quantized, batches, method=method)


def calibrate(quantized: QuantizedModel, batches: Iterable[Any], *, method: str) -> None:
    """Run float32 batches (an array, or a list of them for several inputs) through the model and seed every range.

    Extremes are the same in batches of any size; samples are not, and the mean of the batches' extremes is not.
    """
    if method == MIN_MAX:
        seen = observe(quantized, _small(batches, quantized.model.inputs), samples=False)
    else:
        seen = observe(quantized, batches)
    seed(quantized, seen, method=method)
    name_dead(quantized)


def _small(batches: Iterable[Any], inputs: Sequence[Any]) -> Iterator[Any]:
    """Yield the same examples in batches of at most `BATCH_NUMBERS` numbers, where the model takes any number."""
    is_open = all(tensor.shape[0] is None for tensor in inputs)
    for batch in batches:
        arrays = tf.nest.flatten(batch)
        count = len(arrays[0])
        parts = min(count, -(-sum(map(np.size, arrays)) // BATCH_NUMBERS)) if is_open else 1
        for places in np.array_split(np.arange(count), parts):
            part = slice(places[0], places[-1] + 1)
            yield tf.nest.map_structure(lambda array, part=part: array[part], batch)


def observe(quantized: QuantizedModel, batches: Iterable[Any], *, samples: bool = True) -> list[Seen]:
    """Run float32 batches through the model, its activations in float.

    Args:
        samples: of the values, beside their extremes.

    Returns:
        What each of the model's ranges has seen.
    """
    for item in quantized.ranges:
        item.observe(samples=samples)
    for batch in batches:
        quantized.model(tf.nest.map_structure(tf.constant, batch), training=False)
    return [item.seen for item in quantized.ranges]


def seed(quantized: QuantizedModel, seen: Sequence[Seen], *, method: str) -> None:
    """Seed every range from what it has seen, by one of `calibration.CALIBRATIONS`."""
    for item, values in zip(quantized.ranges, seen, strict=True):
        item.seen = values
        item.seed(method)


def name_dead(quantized: QuantizedModel) -> None:
    """Say which tensors held nothing but zeros."""
    if dead := [item.name.removesuffix("_range") for item in quantized.ranges if item.is_dead]:
        say(f"quantize: {', '.join(dead)}: only zeros on all calibration examples; is this meant?")
    if tiny := [item.name.removesuffix("_range") for item in quantized.ranges if item.is_tiny]:
        say(f"quantize: {', '.join(tiny)}: smaller than {LEAST_RANGE} on all calibration examples; is this meant?")


def freeze_ranges(quantized: QuantizedModel) -> None:
    """Let every range stay as it is from now on."""
    for item in quantized.ranges:
        item.freeze()


def finish(quantized: QuantizedModel) -> None:
    """After calibration, training or loading: freeze the ranges, and give every bias an integer that fits.

    A channel whose weights are (nearly) zero would get a scale so small that its bias, in units of input scale times
    weight scale, does not fit int32.
    """
    freeze_ranges(quantized)
    for name, quantizer in quantized.weights.items():
        layer = quantized.model.get_layer(wrapper_name(name)).layer
        if not layer.use_bias:
            continue
        layer.bias.assign(_not_all_equal(layer.bias.numpy()))
        scale = min(item.scale for item in quantized.inputs[name])
        quantizer.keep_biases_below(LARGEST_BIAS_CODE, biases=layer.bias.numpy(), input_scale=scale)


def _not_all_equal(biases: np.ndarray) -> np.ndarray:
    """The same biases, the first moved by one unit in the last place where all are one number other than 0.

    The TFLite converter (TensorFlow 2.21) stores such a constant as one value, and divides it by the first channel's
    scale for all channels: every other channel's bias comes out wrong by the ratio of the scales.
    """
    if len(biases) > 1 and biases[0] != 0 and np.all(biases == biases[0]):
        biases = biases.copy()
        biases[0] = np.nextafter(biases[0], np.float32(0))
    return biases
