"""A float32 ONNX file with its kernels in fewer bytes: float16, or int8 with one scale per output channel.

    stored    Cast (and Mul by the scales) make float32 of a kernel. ONNX Runtime folds both into a float32 constant
              when it loads the file, so inference is as fast as in float32. Not DequantizeLinear, the operator that is
              made for it: ONNX Runtime 1.32 keeps that to be executed on every inference (measured: five times as slow
              on a ResNet-34), and turns a matrix product behind one into MatMulNBits, which quantizes its input too.
    dynamic   DynamicQuantizeLinear gives the input a uint8 grid on the range it has now, ConvInteger or MatMulInteger
              multiply integers, and one Mul gives the sums their scale back. The kernel's scales are per output
              channel: ConvInteger takes one zero point only, but the scales stand behind it. Its codes are uint8 with
              zero point 128, whose products no x86 processor saturates.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper

from edgeship.core.errors import ExportError
from edgeship.core.integers import UINT8_SHIFT
from edgeship.export.onnx_passes.editing import add_initializer, array, initializers, replace_array, set_nodes
from edgeship.export.weights.codes import PerChannel, as_float16, quantize_per_channel

# Kind -> the axis of its kernel's output channels, and its integer form (None: ONNX has none).
KINDS: dict[str, tuple[int, str | None]] = {
    "Conv": (0, "ConvInteger"), "ConvTranspose": (1, None),
    "Gemm": (1, "MatMulInteger"), "MatMul": (1, "MatMulInteger"),
}
STORED, SCALES = "/stored", "/scales"  # after a kernel's name


def with_float16_weights(content: bytes) -> bytes:
    """The same model with float16 kernels, computed in float32.

    Raises:
        ExportError: a kernel that does not fit float16.
    """
    model = onnx.ModelProto.FromString(content)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        kernel = _kernel(model, node)
        if kernel is not None:
            name, values = kernel.name, array(kernel)
            replace_array(kernel, as_float16(values, name=name))
            kernel.name = name + STORED
            nodes.append(helper.make_node("Cast", [kernel.name], [name], name=name, to=onnx.TensorProto.FLOAT))
        nodes.append(node)
    return _with_nodes(model, nodes)


def with_int8_weights(content: bytes, *, dynamic: bool, kept: Collection[bytes] = ()) -> bytes:
    """The same model with int8 kernels, one symmetric scale per output channel.

    Args:
        dynamic: quantize the inputs of what multiplies too, when it runs (ConvTranspose has no such operator and is
            stored); otherwise everything is computed in float32.
        kept: `same_numbers` of the kernels that stay as they are.

    Raises:
        ExportError: a kernel that has no int8 form, or a kept one that is not there.
    """
    model = onnx.ModelProto.FromString(content)
    nodes: list[onnx.NodeProto] = []
    found: set[bytes] = set()
    grids: set[str] = set()  # activations that are quantized already
    for node in model.graph.node:
        kernel = _kernel(model, node)
        if kernel is None or (numbers := same_numbers(array(kernel))) in kept:
            found |= set() if kernel is None else {numbers}
            nodes.append(node)
            continue
        axis, integer_kind = _axis(node)
        quantized = quantize_per_channel(array(kernel), axis=axis, name=kernel.name)
        if dynamic and integer_kind is not None:
            nodes += _dynamic(model, node, kernel, quantized, integer_kind, grids)
        else:
            nodes += [*_stored_int8(model, node, kernel, quantized, axis), node]
    if missing := set(kept) - found:
        raise ExportError(f"{len(missing)} of {len(kept)} kernels that stay in float are not in the ONNX file")
    return _with_nodes(model, nodes)


def same_numbers(kernel: np.ndarray) -> bytes:
    """What tells a kernel in any layout: tf2onnx transposes them, and a dense layer's loses its name."""
    return np.sort(kernel, axis=None).tobytes()


def _kernel(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The constant float32 kernel of a convolution or matrix product."""
    if node.op_type not in KINDS:
        return None
    found = next((tensor for tensor in model.graph.initializer if tensor.name == node.input[1]), None)
    is_kernel = found is not None and found.data_type == onnx.TensorProto.FLOAT and len(found.dims) > 1
    return found if is_kernel else None


def _axis(node: onnx.NodeProto) -> tuple[int, str | None]:
    axis, integer_kind = KINDS[node.op_type]
    return (0 if _value(node, "transB") else axis), integer_kind


def _value(node: onnx.NodeProto, name: str) -> int:
    """An `int` attribute; 0 when absent."""
    return next((int(item.i) for item in node.attribute if item.name == name), 0)


def _stored_int8(
    model: onnx.ModelProto, node: onnx.NodeProto, kernel: onnx.TensorProto, quantized: PerChannel, axis: int
) -> list[onnx.NodeProto]:
    name, shape = kernel.name, [1] * quantized.codes.ndim
    shape[axis] = -1
    replace_array(kernel, quantized.codes)
    kernel.name = name + STORED
    scales = add_initializer(model, name + SCALES, quantized.scales.reshape(shape))
    wide = f"{name}/Cast"
    return [
        helper.make_node("Cast", [kernel.name], [wide], name=wide, to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [wide, scales], [name], name=name),
    ]


def _dynamic(
    model: onnx.ModelProto, node: onnx.NodeProto, kernel: onnx.TensorProto, quantized: PerChannel, kind: str,
    grids: set[str],
) -> list[onnx.NodeProto]:
    """DynamicQuantizeLinear -> kind -> Cast -> Mul by (input scale x kernel scales) -> Add bias -> the output."""
    data, output = node.input[0], node.output[0]
    codes = quantized.codes.T if _value(node, "transB") else quantized.codes
    channels = [1, -1, 1, 1] if kind == "ConvInteger" else [-1]
    replace_array(kernel, (codes.astype(np.int16) + UINT8_SHIFT).astype(np.uint8))
    scales = add_initializer(model, kernel.name + SCALES, quantized.scales.reshape(channels))
    zero_point = add_initializer(model, f"{kernel.name}/zero_point", np.array(UINT8_SHIFT, np.uint8))
    grid = [f"{data}/integers", f"{data}/scale", f"{data}/zero_point"]
    nodes = []
    if data not in grids:
        grids.add(data)
        nodes.append(helper.make_node("DynamicQuantizeLinear", [data], grid, name=grid[0]))
    product = helper.make_node(
        kind, [grid[0], kernel.name, grid[2], zero_point], [f"{output}/{kind}"], name=f"{output}/{kind}"
    )
    if kind == "ConvInteger":
        product.attribute.extend(node.attribute)
    biased = len(node.input) > 2 and bool(node.input[2])
    scaled, cast = f"{output}/Mul" if biased else output, f"{output}/Cast"
    nodes += [
        product,
        helper.make_node("Cast", [product.output[0]], [cast], name=cast, to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [grid[1], scales], [f"{output}/scale"], name=f"{output}/scale"),
        helper.make_node("Mul", [cast, f"{output}/scale"], [scaled], name=scaled),
    ]
    if biased:
        bias = initializers(model)[node.input[2]]
        replace_array(bias, array(bias).reshape(channels))
        nodes.append(helper.make_node("Add", [scaled, bias.name], [output], name=output))
    return nodes


def _with_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> bytes:
    set_nodes(model, nodes)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX checker refused the exported model: {error}") from error
    return bytes(model.SerializeToString(deterministic=True))
