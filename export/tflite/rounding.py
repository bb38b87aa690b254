"""A fake-quantized model with and without the rounding of its activations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tf_keras


def rounding_layers(model: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    """The layers that round a tensor to its grid (`quantize/ranges.py`), known by what they say of themselves."""
    return [layer for layer in model.layers if getattr(layer, "rounds_to_grid", False)]


@contextlib.contextmanager
def without_rounding(model: tf_keras.Model) -> Iterator[None]:
    """Let every activation pass as it is; its kernels stay on their integers."""
    with contextlib.ExitStack() as stack:
        for layer in rounding_layers(model):
            stack.enter_context(layer.off())
        yield
