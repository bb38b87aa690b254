"""Quantization-aware training of a flat float model: seed, train, freeze."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.artifact import Preprocessing
from edgeship.core.config import QuantizeConfig
from edgeship.core.errors import ModelError
from edgeship.core.layer_names import wrapper_name
from edgeship.core.progress import say
from edgeship.data import Images, preprocessed_batches
from edgeship.model.train import Phase, Schedule, fit
from edgeship.quantize.insert import QuantizedModel, insert_fake_quantization

CALIBRATION_BATCH = 32
CHECKED_IMAGES = 8  # on which the network is held against the float model before it is calibrated
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
        weight_bits=config.weight_bits, keep_float=keep_float,
    )


def train(
    quantized: QuantizedModel,
    *,
    calibration: Images,
    images: Images,
    spec: Preprocessing,
    config: QuantizeConfig,
    augmentation: str,
    teacher: tf_keras.Model,
    checkpoints: Path | None = None,
    validation: Images | None = None,
) -> None:
    """Seed the ranges on `calibration`, then train in place on `images`, towards `teacher`, the float model.

    Batch norm is folded before (`simplify`), its statistics, gamma and beta with it: the network that trains is the
    one that ships. The ranges follow until `config.freeze_ranges_at` of the steps, then only kernels and biases move.
    (Schedule after torchvision's references/classification/train_quantization.py, which freezes observers late.)
    """
    seed_ranges(quantized, calibration, spec=spec, method=config.calibration)
    schedule = Schedule(
        epochs=config.epochs, batch_size=config.batch_size, learning_rate=config.learning_rate,
        augmentation=augmentation, seed=config.seed,
    )
    total = config.epochs * schedule.steps_per_epoch(len(images))

    freeze = Phase(
        first_step=int(config.freeze_ranges_at * total), begin=functools.partial(_freeze_ranges, quantized)
    )
    fit(
        quantized.model, images, spec=spec,
        schedule=dataclasses.replace(schedule, phases=(Phase(first_step=0), freeze)),
        label="quantization-aware training", teacher=teacher, teacher_weight=config.distillation,
        checkpoints=checkpoints, validation=validation,
    )
    finish(quantized)


def seed_ranges(quantized: QuantizedModel, calibration: Images, *, spec: Preprocessing, method: str) -> None:
    """Seed every range from the calibration images, by one of `calibration.CALIBRATIONS`.

    Raises:
        ModelError: no images, or a tensor that is NaN on them.
        LoweringError: with all rounding switched off the network answers some of the images otherwise than in float.
    """
    if not len(calibration.labels):
        raise ModelError(
            "data.calibration_images: the calibration split is empty; the integer ranges need some images"
        )
    first = next(iter(preprocessed_batches(calibration, spec, size=CHECKED_IMAGES)))
    quantized.check_in_float([first] * len(quantized.model.inputs), on="calibration images")
    calibrate(quantized, preprocessed_batches(calibration, spec, size=CALIBRATION_BATCH), method=method)


def calibrate(quantized: QuantizedModel, batches: Iterable[Any], *, method: str) -> None:
    """Run float32 batches (an array, or a list of them for several inputs) through the model and seed every range."""
    for batch in batches:
        quantized.model(tf.nest.map_structure(tf.constant, batch), training=False)
    for item in quantized.ranges:
        item.seed(method)
    if dead := [item.name.removesuffix("_range") for item in quantized.ranges if item.is_dead]:
        say(f"quantize: {', '.join(dead)}: only zeros on all calibration images; is this meant?")


def finish(quantized: QuantizedModel) -> None:
    """After calibration, training or loading: freeze the ranges, and give every bias an integer that fits.

    A channel whose weights are (nearly) zero would get a scale so small that its bias, in units of input scale times
    weight scale, does not fit int32.
    """
    _freeze_ranges(quantized)
    for name, quantizer in quantized.weights.items():
        layer = quantized.model.get_layer(wrapper_name(name)).layer
        if not layer.use_bias:
            continue
        layer.bias.assign(_not_all_equal(layer.bias.numpy()))
        scale = min(item.scale for item in quantized.inputs[name])
        quantizer.keep_biases_below(LARGEST_BIAS_CODE, biases=layer.bias.numpy(), input_scale=scale)


def _freeze_ranges(quantized: QuantizedModel) -> None:
    for item in quantized.ranges:
        item.freeze()


def _not_all_equal(biases: np.ndarray) -> np.ndarray:
    """The same biases, the first moved by one unit in the last place where all are one number other than 0.

    The TFLite converter (TensorFlow 2.21) stores such a constant as one value, and divides it by the first channel's
    scale for all channels: every other channel's bias comes out wrong by the ratio of the scales.
    """
    if len(biases) > 1 and biases[0] != 0 and np.all(biases == biases[0]):
        biases = biases.copy()
        biases[0] = np.nextafter(biases[0], np.float32(0))
    return biases
