"""From the lowered float network and each scheme's ranges to the files of a bundle."""

from __future__ import annotations

import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back

# isort: split
from collections.abc import Mapping

import tf_keras

from edgeship.app.pipeline.output_record import form_for_graphs
from edgeship.core.artifact import Preprocessing
from edgeship.core.config import Config
from edgeship.core.output_forms import LOGITS
from edgeship.data import Splits
from edgeship.export.files import export_files
from edgeship.export.meanings import meanings_of
from edgeship.export.proof.exported import Exported
from edgeship.export.samples import samples_of_images
from edgeship.model.prepared import Prepared
from edgeship.quantize.float_schemes import prepared_float
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.keep_float import kept_layers
from edgeship.quantize.output_form import for_files, softmax_outputs


def export_schemes(
    flat: tf_keras.Model,
    quantized: Mapping[str, QuantizedModel],
    *,
    splits: Splits,
    spec: Preprocessing,
    config: Config,
    output: str | None = None,
) -> Exported:
    """Every scheme and format of the configuration, in memory, each file held against its promises.

    Args:
        flat: the lowered float network.
        quantized: for every scheme that has ranges, its network with ranges that are final.
        output: the form of the output (edgeship/core/output_forms.py); None: as the network gives it.

    Raises:
        LoweringError: a name in `quantize.keep_float` that means no layer.
        ExportError: a converter refused, or a file breaks a promise.
    """
    samples = samples_of_images(splits, spec=spec, golden_images=config.export.golden_images)
    prepared = prepared_schemes(flat, quantized, config=config, output=output)
    return export_files(
        prepared, samples=samples, config=config, spec=spec, labels=splits.labels,
        meanings=output_meanings(flat, output),
    )


def output_meanings(flat: tf_keras.Model, output: str | None) -> tuple[str, ...]:
    """Return what the files' outputs are, in words."""
    return meanings_of(flat, without_softmax=softmax_outputs(flat) if output == LOGITS else ())


def prepared_schemes(
    flat: tf_keras.Model, quantized: Mapping[str, QuantizedModel], *, config: Config, output: str | None = None
) -> list[Prepared]:
    """Return the network of every scheme of the configuration, in its order. Raises LoweringError."""
    kept = kept_layers(flat, config.quantize.keep_float)
    schemes, form = config.quantize.schemes, form_for_graphs(output)
    floats = prepared_float(flat, form, [scheme for scheme in schemes if scheme not in quantized], kept=kept)
    return [
        for_files(quantized[scheme], form).prepared(scheme) if scheme in quantized else floats[scheme]
        for scheme in schemes
    ]
