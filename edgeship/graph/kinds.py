"""Kinds of operations by what they do, in both formats' own words: the one vocabulary of all that reads a graph.

A kind in capitals is TFLite's, any other is ONNX's or ONNX Runtime's.
"""

from __future__ import annotations

# What multiplies by weights -----------------------------------------------------------------------------

# Kind -> positions of (data, weights, bias) among the inputs; None where the kind has no bias input.
WEIGHTED: dict[str, tuple[int, int, int | None]] = {
    "CONV_2D": (0, 1, 2), "CONV_3D": (0, 1, 2), "DEPTHWISE_CONV_2D": (0, 1, 2), "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3), "BATCH_MATMUL": (0, 1, None),
    "Conv": (0, 1, 2), "FusedConv": (0, 1, 2), "ConvTranspose": (0, 1, 2), "Gemm": (0, 1, 2),
    "FusedGemm": (0, 1, 2), "MatMul": (0, 1, None), "FusedMatMul": (0, 1, None),
    "ConvInteger": (0, 1, None), "MatMulInteger": (0, 1, None), "MatMulIntegerToFloat": (0, 1, 6),
    "QLinearConv": (0, 3, 8), "QLinearMatMul": (0, 3, None), "QGemm": (0, 3, 6),
}
# A product of two activations (attention) has these kinds too, so they count only with constant weights.
PRODUCTS = frozenset(kind for kind in WEIGHTED if "MatMul" in kind or kind == "BATCH_MATMUL")
# Their scales stand behind them, in the Mul of the result.
DYNAMIC_PRODUCTS = frozenset({"ConvInteger", "MatMulInteger"})
TFLITE_CONVOLUTIONS = frozenset({"CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"})
CONVOLUTIONS = TFLITE_CONVOLUTIONS | {"Conv", "FusedConv", "ConvTranspose", "QLinearConv"}
TRANSPOSED_CONVOLUTIONS = frozenset({"TRANSPOSE_CONV", "ConvTranspose"})
# An integer kernel of these exists only where their constants are on a grid too.
ARITHMETIC = frozenset({*WEIGHTED, "Add", "Sub", "Mul", "Div"})

# What converts, clips or moves --------------------------------------------------------------------------

TFLITE_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
CONVERSIONS = TFLITE_CONVERSIONS | QDQ
# What may stand between a constant and the product that reads it, when it is stored in fewer bytes.
STORING = frozenset({"DEQUANTIZE", "Cast", "Mul"})
# What may stand between an operation of a QDQ file and the QuantizeLinear that gives its output a grid.
CLIPS = frozenset({"Relu", "Clip"})
RELUS = frozenset({"RELU", "RELU6", "Relu"})
TFLITE_RESHAPES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})
ONNX_RESHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
RESHAPES = TFLITE_RESHAPES | ONNX_RESHAPES
TRANSPOSES = frozenset({"TRANSPOSE", "Transpose"})
PADS = frozenset({"PAD", "PADV2", "MIRROR_PAD", "Pad"})
# The result of these has the input's values, each once.
MOVES = RESHAPES | TRANSPOSES | {"Identity"}
# ONNX operations that move or pick values and so keep a tensor's grid.
ONNX_MOVES = ONNX_RESHAPES | {"Transpose", "Identity"}
GRID_KEEPING = ONNX_MOVES | {"MaxPool", "NhwcMaxPool", "Slice", "Gather"}
# The result of these has the input's elements in their places, rounded or clipped.
SAME_PLACE = CONVERSIONS | CLIPS | RELUS | {"CAST", "RELU_N1_TO_1", "Cast", "Identity", "Dropout"}
