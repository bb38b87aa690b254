"""The network of the schemes that start from the float one: its answers in the form of the output, twins joined."""

from __future__ import annotations

from collections.abc import Sequence

import tf_keras

from edgeship.model.prepared import Prepared
from edgeship.quantize.insert import weighted_layers
from edgeship.quantize.output_form import float_form
from edgeship.quantize.simplifying.twins import twins_of, without_twins


def prepared_float(
    flat: tf_keras.Model, form: str, schemes: Sequence[str], *, kept: Sequence[str] = ()
) -> dict[str, Prepared]:
    """Return scheme -> the network its files are made from, one network for all of them.

    Args:
        flat: the lowered float network.
        form: of the output, "probabilities", "float-probabilities" or "logits".
        schemes: those that are not found by fake quantization.
        kept: names of the lowered layers that stay in float.
    """
    if not schemes:
        return {}
    weighted, answers = set(weighted_layers(flat)), float_form(flat, form)
    twins = twins_of(answers, apart=kept)
    kernels = tuple(
        layer.name for layer in flat.layers if layer.name in weighted and layer.name not in twins.layers
    )
    model = without_twins(answers, twins)
    return {
        scheme: Prepared(scheme=scheme, model=model, kept_float=tuple(kept), expected=kernels) for scheme in schemes
    }
