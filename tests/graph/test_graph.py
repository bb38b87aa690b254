"""Reading .tflite and .onnx files: what is in them, and that broken ones end in one clear message."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.core.errors import ArtifactError
from edgeship.graph import Graph, graph_from_bytes, read_graph, read_onnx, read_tflite
from edgeship.graph import tflite as tflite_module
from edgeship.graph.traps import classify, find_traps
from edgeship.inspect.inspection import inspect_file, inspection_to_dict

WHERE = Path("model")
schema = tflite_module._schema()

CHANNELS = 3
WEIGHTS = np.random.default_rng(0).integers(-127, 128, (CHANNELS, 1, 1, 2)).astype(np.int8)
WEIGHT_SCALES = np.array([0.1, 0.2, 0.3], np.float32)
BIAS = np.array([1, -2, 3], np.int32)
INPUT_SCALE = np.float32(0.5)


# A convolution in TFLite, with the schema's object API --------------------------------------------------


def tflite_tensor(name: str, shape: tuple[int, ...], dtype: str, *, buffer: int = 0, **grid):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name.encode(), list(shape), buffer
    tensor.type = getattr(schema.TensorType, dtype.upper())
    if grid:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.atleast_1d(grid["scale"]).astype(np.float32)
        tensor.quantization.zeroPoint = np.atleast_1d(grid["zero_point"]).astype(np.int64)
        tensor.quantization.quantizedDimension = grid.get("axis", 0)
    return tensor


def tflite_model():
    """x int8 (1, 4, 4, 2) -> CONV_2D 1x1 with fused RELU -> y int8 (1, 4, 4, 3), as a ModelT to be varied."""
    options = schema.Conv2DOptionsT()
    options.padding, options.strideW, options.strideH = schema.Padding.SAME, 1, 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    convolution = schema.OperatorT()
    convolution.inputs, convolution.outputs = [0, 1, 2], [3]
    convolution.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    convolution.builtinOptions = options

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D

    subgraph = schema.SubGraphT()
    zeros = [0] * CHANNELS
    subgraph.tensors = [
        tflite_tensor("x", (1, 4, 4, 2), "int8", scale=INPUT_SCALE, zero_point=-1),
        tflite_tensor("w", WEIGHTS.shape, "int8", buffer=1, scale=WEIGHT_SCALES, zero_point=zeros),
        tflite_tensor("b", (3,), "int32", buffer=2, scale=INPUT_SCALE * WEIGHT_SCALES, zero_point=zeros),
        tflite_tensor("y", (1, 4, 4, 3), "int8", scale=0.25, zero_point=-128),
    ]
    subgraph.inputs, subgraph.outputs, subgraph.operators = [0], [3], [convolution]

    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [subgraph]
    model.buffers = [tflite_buffer(data) for data in (None, WEIGHTS, BIAS, b"1.14.0\0\0", b"\x01\xff")]
    model.description = b"a test"
    model.metadata = [tflite_metadata(b"min_runtime_version", 3), tflite_metadata(b"binary", 4)]
    return model


def tflite_buffer(data: np.ndarray | bytes | None):
    buffer = schema.BufferT()
    if data is not None:
        buffer.data = np.frombuffer(data if isinstance(data, bytes) else data.tobytes(), np.uint8)
    return buffer


def tflite_metadata(name: bytes, buffer: int):
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, buffer
    return entry


def pack(model) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


TFLITE = pack(tflite_model())


# The same convolution in ONNX, as QDQ -------------------------------------------------------------------


def onnx_model() -> onnx.ModelProto:
    """x uint8 (1, 2, 4, 4) -> DequantizeLinear, Conv, Relu, QuantizeLinear -> y uint8."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["x_float"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_float"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "b_scale"], ["b_float"], axis=0),
        helper.make_node("Conv", ["x_float", "w_float", "b_float"], ["c"], name="conv", pads=[0, 0, 0, 0]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "y_scale", "y_zero"], ["y"]),
    ]
    constants = {
        "x_scale": INPUT_SCALE, "x_zero": np.uint8(127), "y_scale": np.float32(0.25), "y_zero": np.uint8(0),
        "w": WEIGHTS.transpose(0, 3, 1, 2), "w_scale": WEIGHT_SCALES, "w_zero": np.zeros(3, np.int8),
        "b": BIAS, "b_scale": INPUT_SCALE * WEIGHT_SCALES,
    }
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["batch", 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, ["batch", 3, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="a test")
    helper.set_model_props(model, {"key": "value"})
    return model


ONNX = onnx_model().SerializeToString()


def read(model: onnx.ModelProto) -> Graph:
    return read_onnx(model.SerializeToString(), where=WHERE)


# What is in the files -----------------------------------------------------------------------------------


def test_tflite_convolution() -> None:
    graph = read_tflite(TFLITE, where=WHERE)
    assert (graph.format, graph.inputs, graph.outputs) == ("tflite", ("x",), ("y",))
    assert graph.versions == {"schema": 3}
    assert graph.metadata == {
        "description": "a test", "min_runtime_version": "1.14.0", "binary": "<2 bytes>"
    }
    (operation,) = graph.operations
    assert (operation.kind, operation.name) == ("CONV_2D", "y")
    assert (operation.inputs, operation.outputs) == (("x", "w", "b"), ("y",))
    assert operation.attributes["fused_activation_function"] == "RELU"
    assert operation.attributes["padding"] == "SAME"
    assert operation.attributes["stride_w"] == 1

    weights = graph.tensors["w"]
    assert (weights.dtype, weights.shape, weights.axis) == ("int8", (3, 1, 1, 2), 0)
    np.testing.assert_array_equal(weights.data, WEIGHTS)
    np.testing.assert_array_equal(weights.scales, WEIGHT_SCALES)
    assert weights.scales.dtype == np.float32
    assert weights.zero_points.dtype == np.int64
    assert (graph.tensors["x"].axis, graph.tensors["x"].zero_points.tolist()) == (None, [-1])
    assert graph.is_constant("b")
    assert not graph.is_constant("x")


def test_binary_metadata_is_not_taken_for_text() -> None:
    """Small flatbuffers are valid UTF-8 with a line break now and then."""
    model = tflite_model()
    model.buffers[3] = tflite_buffer(b"\x0c\0\0\0M001\n\0\x08\0name")
    model.buffers[4] = tflite_buffer(b"several\nlines\tof text\0\0")
    graph = read_tflite(pack(model), where=WHERE)
    assert graph.metadata["min_runtime_version"] == "<16 bytes>"
    assert graph.metadata["binary"] == "several\nlines\tof text"


def test_onnx_convolution() -> None:
    graph = read_onnx(ONNX, where=WHERE)
    assert (graph.format, graph.inputs, graph.outputs) == ("onnx", ("x",), ("y",))
    assert graph.versions["ai.onnx"] == 17
    assert graph.metadata["key"] == "value"
    assert graph.tensors["x"].shape == (None, 2, 4, 4)
    assert graph.tensors["c"].shape is None  # not declared in the file, and no runtime is asked
    assert graph.tensors["c"].dtype == "float32"
    assert graph.tensors["x"].zero_points.tolist() == [127]
    assert graph.tensors["y"].scales.tolist() == [0.25]
    conv = graph.operations[3]
    assert (conv.name, conv.attributes["pads"]) == ("conv", (0, 0, 0, 0))


@pytest.mark.parametrize("content", [TFLITE, ONNX], ids=["tflite", "onnx"])
def test_weighted_operation_has_the_integer_tensors(content: bytes) -> None:
    graph = graph_from_bytes(content, where=Path("m.tflite" if content is TFLITE else "m.onnx"))
    (weighted,) = graph.weighted_operations()
    assert (weighted.input.name, weighted.weights.name, weighted.output.name) == ("x", "w", "y")
    assert weighted.bias is not None
    np.testing.assert_array_equal(weighted.bias.data, BIAS)
    np.testing.assert_array_equal(weighted.bias.scales, INPUT_SCALE * WEIGHT_SCALES)
    np.testing.assert_array_equal(weighted.weights.scales, WEIGHT_SCALES)
    assert weighted.weights.axis == 0
    assert classify(graph).floating == ()
    assert {trap.code for trap in find_traps(graph)} <= {"u8s8"}


def test_constants_are_read_only_views() -> None:
    for content, graph in (
        (TFLITE, read_tflite(TFLITE, where=WHERE)), (ONNX, read_onnx(ONNX, where=WHERE)),
    ):
        assert content
        with pytest.raises(ValueError, match="read-only"):
            graph.tensors["w"].data[0] = 1


def test_reading_loads_no_native_runtime(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(TFLITE)
    (tmp_path / "m.onnx").write_bytes(ONNX)
    code = (
        "import sys; from pathlib import Path; from edgeship.graph import read_graph\n"
        f"for name in ('m.tflite', 'm.onnx'): read_graph(Path({str(tmp_path)!r}) / name)\n"
        "print(sorted({'tensorflow', 'onnxruntime', 'ai_edge_litert'} & set(sys.modules)))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


# Details of TFLite --------------------------------------------------------------------------------------


def test_tflite_names_that_repeat_or_are_missing() -> None:
    model = tflite_model()
    model.subgraphs[0].tensors[3].name = b"x"
    model.subgraphs[0].tensors[2].name = b""
    graph = read_tflite(pack(model), where=WHERE)
    assert list(graph.tensors) == ["x", "w", "#2", "x#3"]
    assert graph.operations[0].inputs == ("x", "w", "#2")
    assert graph.outputs == ("x#3",)


def test_tflite_absent_bias_dynamic_batch_and_custom_operation() -> None:
    model = tflite_model()
    subgraph = model.subgraphs[0]
    subgraph.operators[0].inputs = [0, 1, -1]
    subgraph.tensors[0].shapeSignature = [-1, 4, 4, 2]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"Mine"
    custom = schema.OperatorT()
    custom.opcodeIndex, custom.inputs, custom.outputs = 1, [0], []
    model.operatorCodes.append(code)
    subgraph.operators.append(custom)
    graph = read_tflite(pack(model), where=WHERE)
    assert graph.operations[0].inputs == ("x", "w", "")
    assert graph.weighted_operations()[0].bias is None
    assert graph.tensors["x"].shape == (None, 4, 4, 2)
    assert (graph.operations[1].kind, graph.operations[1].attributes) == ("CUSTOM", {"custom_code": "Mine"})


def test_tflite_packed_int4_keeps_its_bytes() -> None:
    model = tflite_model()
    model.subgraphs[0].tensors[1].type = schema.TensorType.INT4
    model.buffers[1] = tflite_buffer(b"\x12\x34\x56")  # 6 values
    tensor = read_tflite(pack(model), where=WHERE).tensors["w"]
    assert (tensor.dtype, tensor.shape, tensor.data.tolist()) == ("int4", (3, 1, 1, 2), [0x12, 0x34, 0x56])


def test_tflite_weights_behind_the_flatbuffer() -> None:
    model = tflite_model()
    model.buffers[1] = schema.BufferT()
    model.buffers[1].offset, model.buffers[1].size = 2, WEIGHTS.size
    size = len(pack(model))
    model.buffers[1].offset = size
    content = pack(model)
    assert len(content) == size
    graph = read_tflite(content + WEIGHTS.tobytes(), where=WHERE)
    np.testing.assert_array_equal(graph.tensors["w"].data, WEIGHTS)
    with pytest.raises(ArtifactError, match="broken or cut off"):
        read_tflite(content + WEIGHTS.tobytes()[:-1], where=WHERE)


def several_subgraphs(model) -> None:
    model.subgraphs = model.subgraphs * 2


def sparse_weights(model) -> None:
    model.subgraphs[0].tensors[1].sparsity = schema.SparsityParametersT()


def tensor_index_too_large(model) -> None:
    model.subgraphs[0].operators[0].inputs = [0, 1, 99]


def absent_weights(model) -> None:
    model.subgraphs[0].operators[0].inputs = [0, -1, 2]


def buffer_index_too_large(model) -> None:
    model.subgraphs[0].tensors[1].buffer = 99


def shape_larger_than_its_data(model) -> None:
    model.subgraphs[0].tensors[1].shape = [3, 2**15, 2**15, 2]


def wrong_number_of_scales(model) -> None:
    model.subgraphs[0].tensors[1].quantization.scale = np.ones(2, np.float32)


def negative_input(model) -> None:
    model.subgraphs[0].inputs = [-1]


def no_operations(model) -> None:
    model.subgraphs[0].operators = []


@pytest.mark.parametrize(("change", "message"), [
    (several_subgraphs, "expected one subgraph, found 2"),
    (sparse_weights, "sparse"),
    (tensor_index_too_large, "beyond the 4 tensors"),
    (absent_weights, "lacks an operand"),
    (buffer_index_too_large, "buffer 99"),
    (shape_larger_than_its_data, "bytes, not"),
    (wrong_number_of_scales, "2 scales along axis 0"),
    (negative_input, "index -1"),
    (no_operations, "0 operations"),
])
def test_tflite_refusals(change, message: str) -> None:
    model = tflite_model()
    change(model)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_tflite(pack(model), where=Path("my.tflite"))
    assert str(caught.value).startswith("my.tflite: ")


def test_a_small_tflite_file_cannot_describe_an_endless_graph() -> None:
    """Half a million references to one tensor: 2 MB that would take minutes to walk."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    name = builder.CreateString("x" * 1000)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    tensor = schema.TensorEnd(builder)
    count = 500_000
    schema.SubGraphStartTensorsVector(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    subgraph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(subgraph)
    subgraphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, subgraphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    started = time.perf_counter()
    with pytest.raises(ArtifactError, match="more than 1,000,000"):
        read_tflite(bytes(builder.Output()), where=WHERE)
    assert time.perf_counter() - started < 5


# Details of ONNX ----------------------------------------------------------------------------------------


def test_onnx_shared_constant_has_the_scales_of_each_use() -> None:
    model = onnx_model()
    model.graph.initializer.append(numpy_helper.from_array(np.full(3, 7, np.float32), "other_scale"))
    model.graph.node.insert(3, helper.make_node("DequantizeLinear", ["b", "other_scale"], ["b2"], axis=0))
    graph = read(model)
    assert graph.tensors["b"].scales is None
    assert graph.before_dequantize("b2").scales.tolist() == [7, 7, 7]
    np.testing.assert_array_equal(graph.before_dequantize("b_float").scales, INPUT_SCALE * WEIGHT_SCALES)


def test_onnx_grid_of_an_input_behind_a_transpose() -> None:
    model = onnx_model()
    model.graph.input[0].name = "nhwc"
    model.graph.node.insert(0, helper.make_node("Transpose", ["nhwc"], ["x"], perm=[0, 3, 1, 2]))
    graph = read(model)
    assert graph.inputs == ("nhwc",)
    assert graph.tensors["nhwc"].scales.tolist() == [0.5]


def test_onnx_qoperator_form() -> None:
    nodes = [
        helper.make_node(
            "QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"], name="conv"
        ),
        helper.make_node(
            "QLinearConcat", ["zs", "zz", "y", "ys", "yz", "y", "ys", "yz"], ["z"], domain="com.microsoft"
        ),
    ]
    constants = {
        "xs": INPUT_SCALE, "xz": np.uint8(3), "w": WEIGHTS.transpose(0, 3, 1, 2), "ws": WEIGHT_SCALES,
        "wz": np.zeros(3, np.int8), "ys": np.float32(2), "yz": np.uint8(5), "b": BIAS,
        "zs": np.float32(4), "zz": np.uint8(6),
    }
    model = helper.make_model(helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("z", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    ))
    graph = read(model)
    (weighted,) = graph.weighted_operations()
    assert (weighted.input.scales.tolist(), weighted.output.zero_points.tolist()) == ([0.5], [5])
    np.testing.assert_array_equal(weighted.bias.scales, INPUT_SCALE * WEIGHT_SCALES)
    assert (graph.tensors["y"].dtype, graph.tensors["z"].scales.tolist()) == ("uint8", [4])
    assert graph.tensors["z"].zero_points.tolist() == [6]
    assert graph.operations[1].domain == "com.microsoft"
    assert classify(graph).integer == ("conv", "z")


def test_onnx_matrix_products_need_constant_weights() -> None:
    constants = [numpy_helper.from_array(np.ones((2, 2), np.float32), "w")]
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"]),
        helper.make_node("MatMul", ["x", "wt"], ["y"], name="dense"),
        helper.make_node("MatMul", ["y", "y"], ["z"], name="attention"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xz"]
    graph = read(helper.make_model(helper.make_graph(nodes, "graph", ports[:1], ports[1:], constants)))
    assert [weighted.operation.name for weighted in graph.weighted_operations()] == ["dense"]
    assert graph.weighted_operations()[0].weights.name == "w"
    assert find_traps(graph) == ()


def test_onnx_constant_nodes_are_constants() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(2, np.int8))),
        helper.make_node("Constant", [], ["f"], value_float=0.5),
        helper.make_node("Cast", ["c"], ["d"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["d", "f"], ["y"]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = read(helper.make_model(helper.make_graph(nodes, "graph", [], [output])))
    assert graph.tensors["c"].data.tolist() == [1, 1]
    assert (graph.tensors["f"].dtype, graph.tensors["d"].dtype) == ("float32", "float32")


def external_data(model: onnx.ModelProto) -> None:
    model.graph.initializer[4].data_location = TensorProto.EXTERNAL


def control_flow(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("If", ["x"], ["i"], then_branch=model.graph))


def functions(model: onnx.ModelProto) -> None:
    model.functions.add(name="f")


def dimensions_beyond_the_data(model: onnx.ModelProto) -> None:
    model.graph.initializer[4].dims[0] = 2**60


def negative_dimension(model: onnx.ModelProto) -> None:
    model.graph.initializer[4].dims[0] = -1


def name_made_twice(model: onnx.ModelProto) -> None:
    model.graph.node[4].output[0] = "c"


def unknown_input(model: onnx.ModelProto) -> None:
    model.graph.node[3].input[0] = "nowhere"


def unmade_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


def dequantize_without_operands(model: onnx.ModelProto) -> None:
    del model.graph.node[2].input[:]


def scales_that_do_not_fit(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute[0].i = 1


@pytest.mark.parametrize(("change", "message"), [
    (external_data, "external data"),
    (control_flow, "control flow"),
    (functions, "functions"),
    (dimensions_beyond_the_data, "reshape"),
    (negative_dimension, "has the shape"),
    (name_made_twice, "defined twice"),
    (unknown_input, "'nowhere', not made before it"),
    (unmade_output, "nothing makes the output 'nowhere'"),
    (dequantize_without_operands, "lacks an operand"),
    (scales_that_do_not_fit, "3 scales along axis 1"),
])
def test_onnx_refusals(change, message: str) -> None:
    model = onnx_model()
    change(model)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_onnx(model.SerializeToString(), where=Path("my.onnx"))
    assert str(caught.value).startswith("my.onnx: ")


# Files that are not what they say -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.tflite", b"", "empty file"),
    ("a.onnx", b"", "empty file"),
    ("a.tflite", ONNX, "expected a TFLite file"),
    ("a.onnx", TFLITE, "its content is TFLite"),
    ("a.ort", b"\0\0\0\0ORTM", "ORT|ort format"),
    ("a.bin", ONNX, "found the suffix '.bin'"),
    ("a", b"hello", "found the suffix 'none'"),
    ("a.tflite", b"\xff\xff\xff\x7fTFL3", "broken or cut off"),
    ("a.onnx", b"hello, this is text", "expected an ONNX model"),
    ("a.onnx", b"\x08\x08", "not a whole model"),
])
def test_wrong_content(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_graph(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tflite_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(TFLITE)
    assert read_graph(tmp_path / "model.bin").format == "tflite"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(ArtifactError, match="could not be read"):
            read_graph(path)


def mutations(content: bytes, *, count: int, seed: int) -> list[bytes]:
    """Truncations, bit flips, random bytes, and lengths and offsets blown up, in turn."""
    rng = random.Random(seed)
    mutated = []
    for index in range(count):
        copy = bytearray(content)
        match index % 5:
            case 0:
                copy = copy[: rng.randrange(len(copy))]
            case 1:
                for _ in range(rng.randrange(1, 8)):
                    copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
            case 2:
                at = rng.randrange(len(copy) - 4)
                copy[at : at + 4] = struct.pack("<I", rng.choice([0, 2**32 - 1, 2**31 - 1, 2**31, 2**24]))
            case 3:
                start, end = sorted(rng.randrange(len(copy)) for _ in range(2))
                copy[start:end] = rng.randbytes(min(end - start, 16))
            case 4:
                keep = copy[:8] if rng.random() < 0.5 else b""
                copy = bytearray(keep) + rng.randbytes(rng.randrange(600))
        mutated.append(bytes(copy))
    return mutated


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_broken_bytes_give_a_graph_or_one_clear_error(tmp_path: Path, name: str) -> None:
    """Whatever can be read must also be inspectable; whatever cannot be read must say so, quickly."""
    path = tmp_path / name
    outcomes, slowest = {True: 0, False: 0}, 0.0
    for content in mutations(TFLITE if name.endswith("tflite") else ONNX, count=600, seed=1):
        path.write_bytes(content)
        started = time.perf_counter()
        try:
            inspection_to_dict(inspect_file(path))
            outcomes[True] += 1
        except ArtifactError as error:
            outcomes[False] += 1
            assert str(path) in str(error)
        slowest = max(slowest, time.perf_counter() - started)
    assert min(outcomes.values()) > 10, outcomes
    assert slowest < 2


@pytest.mark.parametrize("layers", [36])
def test_a_large_file_reads_quickly(layers: int) -> None:
    """21 MB of weights, as a ResNet-34 has them."""
    weights = np.zeros((256, 256, 3, 3), np.int8)
    tflite = tflite_model()
    tflite.buffers[2] = tflite_buffer(np.zeros(layers * weights.size, np.uint8))
    tflite.subgraphs[0].tensors[2] = tflite_tensor("b", (layers * weights.size,), "uint8", buffer=2)
    model = onnx_model()
    for index in range(layers):
        model.graph.initializer.append(numpy_helper.from_array(weights, f"large{index}"))
    for read_one, content in ((read_tflite, pack(tflite)), (read_onnx, model.SerializeToString())):
        assert len(content) > 21_000_000
        started = time.perf_counter()
        read_one(content, where=WHERE)
        assert time.perf_counter() - started < 1
