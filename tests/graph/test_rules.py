"""What integer kernels take for granted of scales and zero points."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.graph.records import Tensor
from edgeship.graph.rules import bias_scale_holds, has_sane_scales, wastes_codes

EPSILON = np.finfo(np.float32).eps
INPUT = np.array([0.013], np.float32)
WEIGHTS = np.random.default_rng(0).uniform(1e-4, 1e-1, 1000).astype(np.float32)


def tensor(dtype: str = "int8", *, scale: float = 0.1, zero_point: int = 0) -> Tensor:
    return Tensor(
        name="x", dtype=dtype, shape=(1,), scales=np.array([scale], np.float32), zero_points=np.array([zero_point])
    )


def test_a_product_in_float32_is_the_bias_scale_and_a_few_roundings_more_are() -> None:
    product = INPUT * WEIGHTS
    assert bias_scale_holds(product, INPUT, WEIGHTS)
    assert bias_scale_holds(product * np.float32(1 + 2 * EPSILON), INPUT, WEIGHTS)
    assert not bias_scale_holds(product * np.float32(1 + 8 * EPSILON), INPUT, WEIGHTS)


def test_a_bias_scale_of_exact_scales_that_are_rounded_afterwards() -> None:
    data, weights = 0.0123456789, np.random.default_rng(1).uniform(1e-4, 1e-1, 1000)
    stored = [np.float32(numbers).reshape(-1) for numbers in (data * weights, data, weights)]
    assert bias_scale_holds(*stored)


@pytest.mark.parametrize(("bias", "weights", "holds"), [(1, 1, True), (1, 3, True), (3, 1, True), (2, 3, False)])
def test_one_scale_stands_for_all_channels(bias: int, weights: int, holds: bool) -> None:
    scales = [np.full(count, 0.5, np.float32) for count in (bias, 1, weights)]
    scales[0] *= 0.5
    assert bias_scale_holds(*scales) == holds


@pytest.mark.parametrize("scale", [0, -0.1, np.nan, np.inf, 1e-39])
def test_scales_that_nothing_can_be_divided_by(scale: float) -> None:
    assert not has_sane_scales(tensor(scale=scale))
    assert has_sane_scales(tensor(scale=0.1))


@pytest.mark.parametrize(("dtype", "zero_point", "wasted"), [
    ("int8", -128, False), ("int8", 0, True), ("uint8", 0, False), ("uint8", 128, True), ("int32", 0, False),
])
def test_codes_below_the_zero_point_of_a_relu(dtype: str, zero_point: int, wasted: bool) -> None:
    assert wastes_codes(tensor(dtype, zero_point=zero_point)) == wasted
