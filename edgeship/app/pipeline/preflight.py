"""Before the first training step: everything that could be refused afterwards is tried on the untrained network."""

from __future__ import annotations

import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back

# isort: split
import dataclasses
from dataclasses import dataclass

import numpy as np
import tf_keras

from edgeship.app.pipeline import lowered
from edgeship.app.pipeline.export_stage import export_schemes
from edgeship.core.artifact import Preprocessing
from edgeship.core.config import Config
from edgeship.core.errors import EdgeshipError, ExportError, ModelError
from edgeship.core.output_forms import AUTO, PROBABILITIES
from edgeship.core.progress import doing, quiet
from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES
from edgeship.data import Splits
from edgeship.data.examples import examples_of_images
from edgeship.model import build
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.keep_float import kept_layers
from edgeship.quantize.output_form import check_form, for_training
from edgeship.quantize.prepare import finish, prepare, seed_ranges

# Up to here a trial export is a matter of seconds beside a training of minutes: two schemes in two formats took 8 s for
# 5 layers, 66 s for 156 (two busy cores). More parameters make every file larger, and so each step of it slower.
LARGEST_TRIAL_LAYERS = 100
LARGEST_TRIAL_PARAMETERS = 5_000_000
TRIAL_IMAGES = 8
TRIAL_SEEDS = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What is checked, and on which images."""

    config: Config
    splits: Splits
    spec: Preprocessing
    tries_export: bool  # False where there is nothing to find: the home model, whose export the tests cover

    def check(self, model: tf_keras.Model, flat: tf_keras.Model) -> str:
        """Check a model that is not trained yet.

        Args:
            model: as the user's code makes it; it is left as it was.
            flat: the same, lowered.

        Returns:
            What was checked, in one sentence.

        Raises:
            ModelError: the outputs are not probabilities.
            ConfigError: a form of the output that the network cannot have.
            LoweringError: the network cannot be saved, a layer has no integer form and is not kept in float, or a name
                in `quantize.keep_float` means no layer.
            ExportError: a file cannot be made.
        """
        self._check_outputs(model)
        lowered.check_can_be_saved(flat, examples_of_images(self.splits.test, self.spec))
        kept_layers(flat, self.config.quantize.keep_float)
        check_form(self.config.export.output, flat)
        done = [f"lowered to {len(flat.layers)} layers with the same answers", "saved and loaded"]
        if self._integer_schemes:
            account = self._prepare(flat).account
            done.append(f"integer grids planned ({account.sentence})")
        done.append(self._trial(flat))
        return f"checked before training: {model.name}: " + "; ".join(item for item in done if item)

    @property
    def _integer_schemes(self) -> list[str]:
        return [name for name in self.config.quantize.schemes if SCHEMES[name].source == FAKE_QUANTIZED]

    @property
    def _output(self) -> str:
        """The form that is tried: an untrained network's probabilities say nothing of a trained one's."""
        asked = self.config.export.output
        return PROBABILITIES if asked == AUTO else asked

    def _prepare(self, flat: tf_keras.Model) -> QuantizedModel:
        config = self.config.quantize
        made = prepare(flat, spec=self.spec, config=config, keep_float=config.keep_float)
        return for_training(made, self._output)

    def _check_outputs(self, model: tf_keras.Model) -> None:
        try:
            build.check_probabilities(model, self.splits.test, spec=self.spec)
        except ModelError:
            # An untrained network may overflow where a trained one does not: batch norms have not seen anything yet.
            if np.all(np.isfinite(build.probe(model, self.splits.test, spec=self.spec))):
                raise

    def _trial(self, flat: tf_keras.Model) -> str:
        """Export the untrained network, where that takes seconds; returns what was done.

        Values of an untrained network can be odd, so a file that is refused for its numbers is no proof against the
        trained one. Therefore nothing is exactly as it was initialized, and a refusal counts when networks of two
        other sets of weights meet it.
        """
        if not self.tries_export:
            return ""
        if flat.count_params() > LARGEST_TRIAL_PARAMETERS or len(flat.layers) > LARGEST_TRIAL_LAYERS:
            return "no trial export of a network this large"
        doing("trying the export")
        refusals: list[ExportError] = []
        for seed in TRIAL_SEEDS:
            try:
                with quiet():
                    files = self._export(_shaken(flat, seed))
                return f"trial export of {files} files"
            except ExportError as error:
                refusals.append(error)
            except EdgeshipError as error:
                return f"no trial export ({error})"
        raise ExportError(f"{refusals[0]} (tried before training, with the untrained network)") from refusals[0]

    def _export(self, flat: tf_keras.Model) -> int:
        calibration = self.splits.calibration
        few = calibration.select(np.arange(min(TRIAL_IMAGES, len(calibration))))
        quantized = {}
        for scheme in self._integer_schemes:
            quantized[scheme] = self._prepare(flat)
            method = SCHEMES[scheme].ranges or self.config.quantize.calibration
            seed_ranges(quantized[scheme], few, spec=self.spec, method=method)
            finish(quantized[scheme])
        exported = export_schemes(
            flat, quantized, splits=dataclasses.replace(self.splits, calibration=few), spec=self.spec,
            config=self.config, output=self._output,
        )
        return len(exported.files)


def _shaken(flat: tf_keras.Model, seed: int) -> tf_keras.Model:
    """A copy whose trainable weights and moving statistics are moved a little, as by training.

    Biases are zero at the start, the scales of a residual branch's last batch norm often too; a converter simplifies
    what is exactly zero or one, and no range can be taken from it.
    """
    copy = tf_keras.models.clone_model(flat)
    generator = np.random.default_rng(seed)
    moved = {id(variable) for layer in flat.layers if layer.trainable for variable in layer.weights}
    values = []
    for variable in flat.weights:
        value = variable.numpy()
        if id(variable) in moved and np.issubdtype(value.dtype, np.floating) and value.size:
            # Little enough for deep networks without trained statistics, whose values would run away.
            spread = 0.1 * float(value.std()) or 0.05
            value = (value + generator.uniform(-spread, spread, value.shape)).astype(value.dtype)
            if "variance" in variable.name:
                value = np.abs(value)
        values.append(value)
    copy.set_weights(values)
    return copy


