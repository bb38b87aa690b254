"""How each layer is quantized: tfmot's default 8-bit scheme, plus what its registry lacks.

Convolutions get a weight scale per output channel. Dense kernels keep tfmot's one scale per tensor: with a scale
per unit the TFLite converter (2.21) stops at "'tfl.transpose' op has mismatched quantized axes". `Multiply`
(squeeze-and-excitation) is unknown to tfmot 0.8.1 and gets an output range here.
"""

from __future__ import annotations

from typing import Any

import tensorflow_model_optimization as tfmot
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs as configs,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_registry as registry,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_scheme as scheme,
)
from tf_keras import layers


class EdgeshipRegistry(registry.Default8BitQuantizeRegistry):
    """tfmot's table of layers, and Multiply."""

    def __init__(self) -> None:
        super().__init__()
        self._layer_quantize_map[layers.Multiply] = configs.Default8BitOutputQuantizeConfig()


class EdgeshipScheme(scheme.Default8BitQuantizeScheme):
    """tfmot's 8-bit scheme (its folding patterns included) on our table of layers."""

    def get_quantize_registry(self) -> EdgeshipRegistry:
        return EdgeshipRegistry()


def quantize_scope() -> Any:
    """A context in which models of this scheme can be cloned and loaded."""
    # tfmot's own scope lacks one of tfmot's own configurations.
    return tfmot.quantization.keras.quantize_scope(
        {"Default8BitOutputQuantizeConfig": configs.Default8BitOutputQuantizeConfig}
    )
