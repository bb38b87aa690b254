"""From the lowered float network and the calibration data to the form of its output: output.json."""

from __future__ import annotations

import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back

# isort: split
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import tf_keras

from edgeship.app.pipeline.output_record import write_output
from edgeship.core.output_forms import AUTO, resolve
from edgeship.core.progress import fact
from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES
from edgeship.quantize.output_form import check_form, measure_softmax, softmax_outputs


def choose_output(
    flat: tf_keras.Model, batches: Callable[[], Iterable[Any]], *, asked: str, schemes: Sequence[str], path: Path
) -> None:
    """Resolve `export.output`, tell it, and write it.

    Args:
        batches: gives the calibration data, an array or a list of arrays each; not called where nothing is to choose.
        asked: the configuration's word for it.
        schemes: those of the configuration; only int8 activations make an int8 softmax.

    Raises:
        ConfigError: a form that a network without a softmax at its end cannot have.
    """
    check_form(asked, flat)
    form, why = None, "the network does not end in a softmax"
    if softmax_outputs(flat):
        form, why = asked, "as export.output says"
        if asked == AUTO:
            has_int8 = any(SCHEMES[name].source == FAKE_QUANTIZED for name in schemes)
            facts = measure_softmax(flat, batches()) if has_int8 else ()
            form = resolve(asked, facts)
            why = "; ".join(item.sentence for item in facts) or "no scheme has an int8 softmax"
    fact(f"{form or 'as the network gives it'}: {why}")
    write_output(path, form, asked=asked, why=why)
