"""Quantization-aware training of a prepared model: seed, train, freeze."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import tf_keras

from edgeship.core.artifact import Preprocessing
from edgeship.core.config import QuantizeConfig
from edgeship.data import Images
from edgeship.model.train import Phase, Schedule, fit
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.prepare import finish, freeze_ranges, seed_ranges

SEEDED = 0.05  # where the bar of the stage stands when the ranges are seeded


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
    seed_ranges(quantized, calibration, spec=spec, method=config.calibration, share=SEEDED)
    schedule = Schedule(
        epochs=config.epochs, batch_size=config.batch_size, learning_rate=config.learning_rate,
        augmentation=augmentation, seed=config.seed,
    )
    total = config.epochs * schedule.steps_per_epoch(len(images))

    freeze = Phase(
        first_step=int(config.freeze_ranges_at * total), begin=functools.partial(freeze_ranges, quantized)
    )
    fit(
        quantized.model, images, spec=spec,
        schedule=dataclasses.replace(schedule, phases=(Phase(first_step=0), freeze)),
        label="quantization-aware training", teacher=teacher, teacher_weight=config.distillation,
        checkpoints=checkpoints, validation=validation,
    )
    finish(quantized)
