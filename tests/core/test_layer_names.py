"""Names of wrapped layers, there and back."""

from __future__ import annotations

from edgeship.core.layer_names import layer_name, wrapper_name


def test_a_name_comes_back_from_its_wrapper() -> None:
    assert layer_name(wrapper_name("conv")) == "conv"
    assert layer_name(wrapper_name("quant_conv")) == "quant_conv"  # one prefix is taken off, not two


def test_a_layer_without_a_wrapper_keeps_its_name() -> None:
    assert layer_name("conv_quant_2") == "conv_quant_2"
