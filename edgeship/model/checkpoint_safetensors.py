"""A .safetensors file: a JSON header and raw numbers, in torch's names and layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from edgeship.core.errors import ModelError
from edgeship.model.checkpoint_tensors import TORCH, Checkpoint, bfloat16_to_float32

# The format's number types (https://huggingface.co/docs/safetensors) that have an exact float32 form, or may stand
# beside weights.
TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U8": "<u1", "BOOL": "?",
}


def read_safetensors(path: Path) -> Checkpoint:
    """Every tensor of the file. Raises ModelError: damaged, or a number type such as float8."""
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: not a whole .safetensors file ({error}); fetch it again") from error
    return Checkpoint(layout=TORCH, tensors={name: _array(path, name, entry) for name, entry in entries})


def _array(path: Path, name: str, entry: dict[str, Any]) -> np.ndarray:
    dtype = entry["dtype"]
    if dtype not in TYPES:
        raise ModelError(
            f"{path}: {name} is stored as {dtype}; expected one of {', '.join(TYPES)}; take another checkpoint"
        )
    array = np.frombuffer(entry["data"], TYPES[dtype]).reshape(entry["shape"])
    array = bfloat16_to_float32(array) if dtype == "BF16" else array
    return array.astype(array.dtype.newbyteorder("="), copy=False)
