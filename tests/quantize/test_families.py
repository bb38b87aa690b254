"""Many families of models, each from a float Keras model to two integer files that both runtimes execute."""

from __future__ import annotations

import families
import pytest
from family_row import float_difference, measure, quantize

from quantize.lower import lower

# What ONNX Runtime computes in float, and why. Everything else it computes in integers.
IN_FLOAT = {
    # Its integer Resize cuts off what is behind the point instead of rounding; exact integer arithmetic around it
    # takes twice as long as float.
    "pyramid, bilinear": {"DequantizeLinear", "Resize", "QuantizeLinear"},
}
# Rounding moves an answer only where two of the 10 kinds of images are all but equal; a wrong graph agrees on 1 in 10.
AGREEMENT = 0.95


@pytest.mark.parametrize("name", families.SMALL)
def test_a_family_becomes_two_integer_files_that_agree(name):
    row = measure(name)
    assert row.float_difference == 0
    assert sorted(row.found) == sorted(row.expected)
    assert row.fully_integer, row.float_operations
    assert {operation.split(" ", 1)[0] for operation in row.executed.float_ops} == IN_FLOAT.get(name, set())
    assert row.executed.per_channel == row.executed.weighted
    assert row.agreement >= AGREEMENT
    assert row.fidelity >= AGREEMENT


@pytest.mark.parametrize("name", ["MobileNetV3Small", "ResNet50V2", "DenseNet121"])
def test_a_published_network_is_planned_whole_in_integers(name):
    """Its conversion takes a minute and is part of benchmarks/families.py."""
    model = families.build(name)
    flat = lower(model)
    assert float_difference(model, flat) == 0
    account = quantize(flat).account
    convolutions = [layer for layer in model.layers if "Conv2D" in type(layer).__name__]
    dense = [layer for layer in model.layers if type(layer).__name__ == "Dense"]
    assert len(account.quantized) == len(convolutions) + len(dense)
    assert not account.kept_float
