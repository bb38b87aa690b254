"""From the lowered float network and each scheme's ranges to the files of a bundle."""

from __future__ import annotations

from collections.abc import Mapping

import tf_keras

from edgeship.core.artifact import Preprocessing
from edgeship.core.config import Config
from edgeship.data import Splits
from edgeship.export.files import export_files
from edgeship.export.proof.exported import Exported
from edgeship.export.samples import samples_of_images
from edgeship.model.prepared import Prepared
from edgeship.quantize.insert import QuantizedModel, kept_layers, weighted_layers


def export_schemes(
    flat: tf_keras.Model,
    quantized: Mapping[str, QuantizedModel],
    *,
    splits: Splits,
    spec: Preprocessing,
    config: Config,
) -> Exported:
    """Every scheme and format of the configuration, in memory, each file held against its promises.

    Args:
        flat: the lowered float network.
        quantized: for every scheme that has ranges, its network with ranges that are final.

    Raises:
        LoweringError: a name in `quantize.keep_float` that means no layer.
        ExportError: a converter refused, or a file breaks a promise.
    """
    samples = samples_of_images(splits, spec=spec, golden_images=config.export.golden_images)
    prepared = prepared_schemes(flat, quantized, config=config)
    return export_files(prepared, samples=samples, config=config, spec=spec, labels=splits.labels)


def prepared_schemes(
    flat: tf_keras.Model, quantized: Mapping[str, QuantizedModel], *, config: Config
) -> list[Prepared]:
    """Return the network of every scheme of the configuration, in its order. Raises LoweringError."""
    kept = kept_layers(flat, config.quantize.keep_float)
    weighted = set(weighted_layers(flat))
    kernels = tuple(layer.name for layer in flat.layers if layer.name in weighted)
    return [
        quantized[scheme].prepared(scheme) if scheme in quantized
        else Prepared(scheme=scheme, model=flat, kept_float=kept, expected=kernels)
        for scheme in config.quantize.schemes
    ]
