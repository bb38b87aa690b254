"""From the lowered float network to the integer ranges of each scheme, and to what each layer costs."""

from __future__ import annotations

import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back

# isort: split
import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tf_keras

from edgeship.app.pipeline.float_stage import held_out
from edgeship.app.pipeline.output_record import form_for_graphs
from edgeship.core.artifact import Preprocessing
from edgeship.core.config import Config
from edgeship.core.files import write_atomically, write_json
from edgeship.core.progress import fact
from edgeship.core.schemes import BOUNDED_SCHEMES, SCHEMES, SEARCHED_SCHEMES, TRAINING
from edgeship.core.text import some
from edgeship.data import Splits, preprocessed_batches
from edgeship.model import train
from edgeship.model.distribute import Workers
from edgeship.quantize import best, qat
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.mixed import Choice, choose_float_layers
from edgeship.quantize.output_form import for_training
from edgeship.quantize.prepare import CALIBRATION_BATCH, CHECKED_EXAMPLES, finish, prepare, seed_ranges
from edgeship.quantize.sensitivity import measure
from edgeship.quantize.state import state_bytes


@dataclass
class QuantizeStage:
    """One configuration's way from float to integers."""

    config: Config
    splits: Splits
    spec: Preprocessing
    workers: Workers
    load: Callable[[], tf_keras.Model]  # the lowered network, a fresh one with every call
    output: str | None  # the form of its output (edgeship/core/output_forms.py); None: it does not end in a softmax

    def quantize(
        self, scheme: str, scratch: Path, path: Path, *, is_chief: bool, sensitivity: Callable[[], dict[str, Any]]
    ) -> None:
        """Find a scheme's ranges, and (the chief) write weights and ranges.

        Args:
            sensitivity: what quantizing each layer alone costs; for schemes that choose layers by it.
        """
        flat, quantize = self.load(), self.config.quantize  # before the workers' scope
        keep_float, notes = quantize.keep_float, {}
        if scheme in BOUNDED_SCHEMES:
            choice = self._choose_float_layers(flat, sensitivity())
            keep_float, notes = (*keep_float, *choice.kept), choice.record
            fact(choice.sentence)
        with self.workers.scope() if SCHEMES[scheme].needs == TRAINING else contextlib.nullcontext():
            quantized = self.prepare(flat, keep_float)
            fact(quantized.account.sentence)
            if SCHEMES[scheme].needs == TRAINING:
                images, validation = held_out(self.splits, quantize.validation_images, seed=self.config.data.seed)
                qat.train(
                    quantized, calibration=self.splits.calibration, images=images, spec=self.spec, config=quantize,
                    augmentation=self.config.train.augmentation, teacher=self.load(), checkpoints=scratch,
                    validation=validation,
                )
            elif scheme in SEARCHED_SCHEMES:
                notes = self._find_best(quantized)
            else:
                self._calibrate(quantized, SCHEMES[scheme].ranges)
            top1 = train.accuracy(quantized.model, self.splits.test, spec=self.spec)
            fact(f"fake-quantized top-1 {top1:.2%} on the test split")
            state = state_bytes(quantized, keep_float=keep_float, notes=notes)
        if is_chief:
            write_atomically(path, state)

    def sensitivity(self, path: Path) -> None:
        """Measure what quantizing each layer alone costs, and write it."""
        quantized = self.prepare(self.load(), self.config.quantize.keep_float)
        self._calibrate(quantized, None)
        costs = measure(quantized, self.splits.calibration, spec=self.spec)
        fact(f"{len(costs)} layers, most expensive first: {some([cost.layer for cost in costs], shown=3)}")
        write_json(path, {
            "schema": 1, "calibration": self.config.quantize.calibration, "images": len(self.splits.calibration),
            "layers": [dataclasses.asdict(cost) for cost in costs],
        })

    def prepare(self, flat: tf_keras.Model, keep_float: tuple[str, ...]) -> QuantizedModel:
        """The network with fake quantization, without ranges. Raises LoweringError."""
        made = prepare(flat, spec=self.spec, config=self.config.quantize, keep_float=keep_float)
        return for_training(made, form_for_graphs(self.output))

    def _calibrate(self, quantized: QuantizedModel, ranges: str | None) -> None:
        method = ranges or self.config.quantize.calibration
        seed_ranges(quantized, self.splits.calibration, spec=self.spec, method=method)
        finish(quantized)

    def _find_best(self, quantized: QuantizedModel) -> dict[str, Any]:
        images = preprocessed_batches(self.splits.calibration, self.spec, size=CALIBRATION_BATCH)
        calibration, held_out = best.parts(list(images))
        first = calibration[0][:CHECKED_EXAMPLES]
        quantized.check_in_float([first] * len(quantized.model.inputs), on="calibration images")
        return best.found(quantized, calibration, held_out)

    def _choose_float_layers(self, flat: tf_keras.Model, sensitivity: dict[str, Any]) -> Choice:
        config, calibration = self.config.quantize, self.splits.calibration

        def top1_with(kept: tuple[str, ...]) -> float:
            candidate = self.prepare(flat, (*config.keep_float, *kept))
            self._calibrate(candidate, None)
            return train.accuracy(candidate.model, calibration, spec=self.spec)

        ranked = [row["layer"] for row in sensitivity["layers"] if row["has_weights"]]
        assert config.max_accuracy_drop is not None  # the configuration saw to it
        return choose_float_layers(
            ranked, top1_with, images=len(calibration), max_accuracy_drop=config.max_accuracy_drop,
            float_top1=train.accuracy(flat, calibration, spec=self.spec),
        )
