"""Quantization-aware training of a flat float model: seed, train, freeze."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

from edgeship.artifact import Preprocessing
from edgeship.config import QuantizeConfig
from edgeship.data import Images, preprocessed_batches
from edgeship.errors import LoweringError, ModelError
from edgeship.model.train import Phase, Schedule, everything, fit
from quantize.ranges import FROZEN, Observer, attach_observers, calibrate, refresh_weight_ranges
from quantize.schemes import EdgeshipScheme, quantize_scope

WEIGHTED_LAYERS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
CALIBRATION_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class QuantizedModel:
    """A Keras model that computes on fake-quantized integers, and the ranges it does so on."""

    model: tf_keras.Model
    observers: list[Observer]


def prepare(flat: tf_keras.Model, *, spec: Preprocessing, ema_decay: float) -> QuantizedModel:
    """Insert fake quantization into a lowered float model; ranges are not seeded yet.

    Raises:
        LoweringError: a layer tfmot cannot quantize, or a weight that came out without a quantizer.
    """
    expected = {layer.name for layer in flat.layers if isinstance(layer, WEIGHTED_LAYERS)}
    try:
        with quantize_scope():
            annotated = tfmot.quantization.keras.quantize_annotate_model(flat)
            model = tfmot.quantization.keras.quantize_apply(annotated, scheme=EdgeshipScheme())
    except (ValueError, RuntimeError, AttributeError) as error:
        raise LoweringError(f"{flat.name}: tfmot refused the lowered model: {error}") from error
    quantized = {layer.layer.name for layer in model.layers if getattr(layer, "_weight_vars", [])}
    if missing := sorted(expected - quantized):
        raise LoweringError(f"{', '.join(missing)}: weights expected to be quantized were left in float")
    _check_weights_survived(flat, model)
    observers = attach_observers(model, ema_decay=ema_decay, input_range=spec.input_range)
    return QuantizedModel(model=model, observers=observers)


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
) -> None:
    """Seed the ranges on `calibration`, then train in place on `images`, towards `teacher`, the float model.

    By default batch norm, its gamma and beta included, is frozen from the start: the network that trains is then the
    one that ships (measured on digits: agreement with float 99.8 % frozen, 99.6 % with batch statistics for half of
    the steps). In the last quarter the ranges freeze too and only kernels and biases move. (Schedule after
    torchvision's references/classification/train_quantization.py, which freezes observers and statistics late.)
    """
    seed_ranges(quantized, calibration, spec=spec)
    schedule = Schedule(
        epochs=config.epochs, batch_size=config.batch_size, learning_rate=config.learning_rate,
        augmentation=augmentation, seed=config.seed,
    )
    total = config.epochs * schedule.steps_per_epoch(len(images))
    batch_norms = [
        wrapper for wrapper in quantized.model.layers
        if isinstance(getattr(wrapper, "layer", None), layers.BatchNormalization)
    ]
    affine = {id(weight) for wrapper in batch_norms for weight in wrapper.layer.trainable_weights}

    def freeze_batch_norm() -> None:
        for wrapper in batch_norms:
            wrapper.layer.trainable = False

    def freeze_ranges() -> None:
        for observer in quantized.observers:
            observer.mode = FROZEN

    def without_affine(variable: object) -> bool:
        return id(variable) not in affine

    norm_step, range_step = (int(share * total) for share in (config.freeze_batch_norm_at, config.freeze_ranges_at))
    phases = (
        Phase(first_step=0),
        Phase(first_step=norm_step, begin=freeze_batch_norm, trains=without_affine),
        Phase(
            first_step=range_step, begin=freeze_ranges,
            trains=without_affine if norm_step <= range_step else everything,
        ),
    )
    fit(
        quantized.model, images, spec=spec, schedule=dataclasses.replace(schedule, phases=phases),
        label="quantization-aware training", teacher=teacher, teacher_weight=config.distillation,
        checkpoints=checkpoints,
    )
    finish(quantized)


def seed_ranges(quantized: QuantizedModel, calibration: Images, *, spec: Preprocessing) -> None:
    """Seed every range from the calibration images."""
    if not len(calibration.labels):
        raise ModelError(
            "data.calibration_images: the calibration split is empty; the integer ranges need some images"
        )
    batches = preprocessed_batches(calibration, spec, size=CALIBRATION_BATCH)
    calibrate(quantized.model, quantized.observers, batches)


def finish(quantized: QuantizedModel) -> None:
    """After training or loading: freeze the ranges, and let the weight ranges be those of the final weights."""
    for observer in quantized.observers:
        observer.mode = FROZEN
    refresh_weight_ranges(quantized.model)


def _check_weights_survived(flat: tf_keras.Model, model: tf_keras.Model) -> None:
    """quantize_apply clones and copies; hold every copied array against its original, by name."""
    copied = {weight.name: weight.numpy() for weight in model.weights}
    for weight in flat.weights:
        layer, _, variable = weight.name.partition("/")
        candidates = (weight.name, f"quant_{layer}/{variable}")
        found = next((copied[name] for name in candidates if name in copied), None)
        if found is None or not np.array_equal(found, weight.numpy()):
            raise LoweringError(f"{weight.name}: its value was lost when fake quantization was inserted")
