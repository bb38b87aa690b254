from __future__ import annotations

import numpy as np
import pytest

from edgeship.core.artifact import TensorSpec
from edgeship.core.integers import dequantize, grid_steps, quantize

INT8 = TensorSpec(name="x", shape=(1,), dtype="int8", scale=0.5, zero_point=-128)
UINT8 = TensorSpec(name="x", shape=(1,), dtype="uint8", scale=0.5, zero_point=0)
FLOAT = TensorSpec(name="x", shape=(1,), dtype="float32")


def test_halves_go_to_even_and_the_ends_are_clipped() -> None:
    values = np.array([0.0, 0.25, 0.75, 1.25, -7.0, 1e9], np.float32)
    assert quantize(values, INT8).tolist() == [-128, -128, -126, -126, -128, 127]
    assert quantize(values, INT8).dtype == np.int8


def test_int8_and_uint8_are_one_grid() -> None:
    values = np.linspace(0, 127, 999, dtype=np.float32)
    signed, unsigned = quantize(values, INT8), quantize(values, UINT8)
    assert np.array_equal(grid_steps(signed, INT8), grid_steps(unsigned, UINT8))
    assert np.array_equal(dequantize(signed, INT8), dequantize(unsigned, UINT8))
    assert np.abs(dequantize(signed, INT8) - values).max() <= 0.25  # half a step


def test_the_widest_difference_fits() -> None:
    ends = np.array([-128, 127], np.int8)
    low = grid_steps(ends, TensorSpec(name="x", shape=(1,), dtype="int8", scale=1.0, zero_point=127))
    high = grid_steps(ends, INT8)
    assert (high - low).max() == 255 and low.tolist() == [-255, 0]


def test_floats_pass_through() -> None:
    values = np.array([0.1, 3.0], np.float32)
    assert quantize(values, FLOAT) is values
    assert dequantize(values, FLOAT) is values
    with pytest.raises(ValueError, match="no grid steps"):
        grid_steps(values, FLOAT)
