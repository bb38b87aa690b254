from __future__ import annotations

import numpy as np
import pytest

from edgeship.core.errors import ExportError
from edgeship.export.weights.codes import as_float16, quantize_per_channel

SIZES = np.geomspace(1e-3, 10, 8, dtype=np.float32)  # of the channels
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 4, 8)).astype(np.float32) * SIZES


@pytest.mark.parametrize("axis", [0, 3, -1])
def test_each_channel_is_off_by_half_a_step_at_most(axis: int) -> None:
    quantized = quantize_per_channel(KERNEL, axis=axis, name="k")
    shape = [1] * 4
    shape[axis] = -1
    scales = quantized.scales.reshape(shape)
    # Half a step, and the rounding of the product and of the scale: 2 eps of the largest, 127 steps.
    half = scales * (0.5 + 127 * 2 * np.finfo(np.float32).eps)
    assert np.all(np.abs(quantized.codes * scales - KERNEL) <= half)
    others = tuple(index for index in range(4) if index != axis % 4)
    np.testing.assert_array_equal(np.abs(quantized.codes).max(axis=others), 127)  # the largest weight has the last code
    assert quantized.codes.dtype == np.int8 and quantized.scales.dtype == np.float32


def test_a_channel_of_zeros_is_zeros() -> None:
    kernel = KERNEL.copy()
    kernel[..., 2] = 0
    quantized = quantize_per_channel(kernel, axis=3, name="k")
    assert quantized.scales[2] == 1 and not quantized.codes[..., 2].any()


@pytest.mark.parametrize(("value", "message"), [
    (np.nan, "conv: expected finite weights, found NaN or infinity"),
    (np.inf, "conv: expected finite weights, found NaN or infinity"),
    (1e-40, "conv: a channel whose largest weight is 9.99995e-41 has no float32 scale"),
])
def test_weights_without_an_integer_form(value: float, message: str) -> None:
    kernel = np.zeros((2, 2), np.float32)
    kernel[0, 0] = value
    with pytest.raises(ExportError, match=message):
        quantize_per_channel(kernel, axis=0, name="conv")


def test_half_precision_rounds_to_nearest_and_refuses_what_does_not_fit() -> None:
    half = as_float16(KERNEL, name="k")
    # 11 significant bits: half a unit is 2^-12 of the value, or of the smallest normal number, 2^-14.
    assert np.all(np.abs(half.astype(np.float32) - KERNEL) <= np.maximum(np.abs(KERNEL), 2.0**-14) * 2.0**-11)
    with pytest.raises(ExportError, match=r"conv: expected weights within \+-65504, .* found 70000"):
        as_float16(np.array([[7e4]], np.float32), name="conv")
