"""A quantized model's weights, ranges and layers kept in float as the bytes of one .npz file, and back."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.prepare import finish


@dataclass(frozen=True, kw_only=True)
class State:
    """What was found for one scheme."""

    keep_float: tuple[str, ...]  # names as in `quantize.keep_float`
    notes: dict[str, Any]  # how it was found, as JSON values
    weights: tuple[np.ndarray, ...]  # of the fake-quantized model, in its order


def state_bytes(quantized: QuantizedModel, *, keep_float: tuple[str, ...], notes: dict[str, Any]) -> bytes:
    """The file's bytes."""
    stream = io.BytesIO()
    arrays = {f"weight{position:05d}": values for position, values in enumerate(quantized.model.get_weights())}
    np.savez(stream, keep_float=np.array(keep_float, np.str_), notes=np.array(json.dumps(notes)), **arrays)
    return stream.getvalue()


def load_state(path: Path) -> State:
    """Read a file of `state_bytes`."""
    with np.load(path, allow_pickle=False) as arrays:
        return State(
            keep_float=tuple(map(str, arrays["keep_float"])), notes=json.loads(str(arrays["notes"])),
            weights=tuple(arrays[name] for name in sorted(arrays.files) if name.startswith("weight")),
        )


def restore(state: State, prepare: Callable[[tuple[str, ...]], QuantizedModel]) -> QuantizedModel:
    """The model again: prepared with the same layers in float, its weights and ranges set, ready for export."""
    quantized = prepare(state.keep_float)
    quantized.model.set_weights(state.weights)
    finish(quantized)
    return dataclasses.replace(quantized, notes=state.notes)
