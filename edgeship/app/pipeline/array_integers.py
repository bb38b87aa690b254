"""From the lowered float network to the integer ranges of each scheme, for data that are arrays."""

from __future__ import annotations

import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back

# isort: split
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from edgeship.app.pipeline.output_record import form_for_graphs
from edgeship.core.config import QuantizeConfig
from edgeship.core.files import write_atomically
from edgeship.core.progress import fact
from edgeship.core.schemes import SCHEMES, SEARCHED_SCHEMES, TRAINING
from edgeship.data.array_source import ArraySplits
from edgeship.data.examples import as_model_takes
from edgeship.quantize import best
from edgeship.quantize.distillation import distill
from edgeship.quantize.insert import QuantizedModel, insert_fake_quantization
from edgeship.quantize.output_form import for_training
from edgeship.quantize.prepare import CALIBRATION_BATCH, CHECKED_EXAMPLES, calibrate, finish
from edgeship.quantize.state import state_bytes

ON = "calibration data"


def calibration_batches(splits: ArraySplits) -> Iterator[Any]:
    """Yield the calibration examples as the model takes them."""
    return map(as_model_takes, splits.calibration.batches(CALIBRATION_BATCH))


@dataclass(frozen=True)
class ArrayIntegers:
    """One configuration's way from float to integers."""

    config: QuantizeConfig
    splits: ArraySplits
    output: str | None  # the form of its output (edgeship/core/output_forms.py); None: it does not end in a softmax

    def quantize(self, flat: tf_keras.Model, scheme: str, path: Path) -> None:
        """Find a scheme's ranges, by training too where it says so, and write weights and ranges."""
        config, notes = self.config, {}
        quantized = self.prepare(flat, config.keep_float)
        fact(quantized.account.sentence)
        if scheme in SEARCHED_SCHEMES:
            notes = self._find_best(quantized)
        else:
            self._calibrate(quantized, SCHEMES[scheme].ranges or config.calibration)
        if SCHEMES[scheme].needs == TRAINING:
            examples = self.splits.train or self.splits.calibration
            distill(
                quantized, examples, epochs=config.epochs, batch_size=config.batch_size,
                learning_rate=config.learning_rate, freeze_ranges_at=config.freeze_ranges_at, seed=config.seed,
            )
        finish(quantized)
        write_atomically(path, state_bytes(quantized, keep_float=config.keep_float, notes=notes))

    def prepare(self, flat: tf_keras.Model, keep_float: tuple[str, ...]) -> QuantizedModel:
        """The network with fake quantization, without ranges. Raises LoweringError."""
        config = self.config
        made = insert_fake_quantization(
            flat, input_ranges=[None] * len(flat.inputs), ema_decay=config.ema_decay, weight_bits=config.weight_bits,
            weight_range=config.weight_range, weight_scales=config.weight_scales, keep_float=keep_float,
        )
        return for_training(made, form_for_graphs(self.output))

    def _calibrate(self, quantized: QuantizedModel, method: str) -> None:
        calibration = self.splits.calibration
        quantized.check_in_float(calibration.read(np.arange(min(CHECKED_EXAMPLES, len(calibration)))), on=ON)
        calibrate(quantized, calibration_batches(self.splits), method=method)

    def _find_best(self, quantized: QuantizedModel) -> dict[str, Any]:
        calibration, held_out = best.parts(list(calibration_batches(self.splits)))
        first = calibration[0] if isinstance(calibration[0], list) else [calibration[0]]
        quantized.check_in_float([array[:CHECKED_EXAMPLES] for array in first], on=ON)
        return best.found(quantized, calibration, held_out)
