"""One constant per use, named after the tensor it belongs to.

tf2onnx merges equal constants, so one zero point serves thirty tensors (and a bias of zeros may be called
"zero_point"). ONNX Runtime's `session.x64quantprecision=1` rewrites constants in place and fails on such sharing.
"""

from __future__ import annotations

import onnx

from edgeship.export.onnx_passes.editing import array, initializers

DEQUANTIZED = "_dequant"  # tf2onnx names the DequantizeLinear of a TFLite tensor x "x_dequant"


def unshare(model: onnx.ModelProto) -> None:
    """Give every input that is a constant a constant of its own, and TFLite's names to its integer tensors.

    Ensures: no constant is read twice; a constant dequantized as "x_dequant" is called "x". The other names are
    for the time being: `canonical` gives the final ones.
    """
    shared = initializers(model)
    fresh: list[onnx.TensorProto] = []
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name not in shared:
                continue
            wanted = f"{node.output[0]}/input{position}"
            if position == 0 and node.op_type == "DequantizeLinear" and node.name.endswith(DEQUANTIZED):
                wanted = node.name.removesuffix(DEQUANTIZED)
            copy = onnx.TensorProto()
            copy.CopyFrom(shared[name])
            copy.name = wanted
            fresh.append(copy)
            node.input[position] = wanted
    del model.graph.initializer[:]
    model.graph.initializer.extend(fresh)


def constant_quantization(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Integer constants and the DequantizeLinear that reads each (requires unshared constants)."""
    constants = initializers(model)
    return {
        node.input[0]: node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in constants
        and array(constants[node.input[0]]).dtype.kind in "iu"
    }
