"""`edgeship inspect`: the record, its JSON, the terminal, and every warning, on files made here."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.errors import ArtifactError
from edgeship.core.variants import PROCESSORS
from edgeship.graph import Graph, Operation, Tensor, read_onnx
from edgeship.graph.form import form_of
from edgeship.graph.held import held_weights
from edgeship.graph.traps import TRAPS, classify, find_traps
from edgeship.inspect.inspection import (
    LABELS_KEY,
    PREPROCESSING_KEY,
    Inspection,
    inspect_file,
    inspection_to_dict,
    render,
)

X_SCALE, Y_SCALE = np.float32(0.5), np.float32(0.25)
W_SCALES = np.array([0.1, 0.2, 0.3], np.float32)
UINT8_WEIGHTS = {"w": np.full((3, 2, 1, 1), 130, np.uint8), "w_zero": np.full(3, 128, np.uint8)}
INT8_WEIGHTS = {"w": np.full((3, 2, 1, 1), 100, np.int8), "w_zero": np.zeros(3, np.int8)}


def qdq_model(*, float_weights: bool = False, pad: bool = False, **constants: np.ndarray) -> onnx.ModelProto:
    """x -> DequantizeLinear -> [Pad, Q, DQ ->] Conv 1x1 -> Relu -> QuantizeLinear -> y, U8U8 unless changed."""
    values = {
        "x_scale": X_SCALE, "x_zero": np.uint8(127), "y_scale": Y_SCALE, "y_zero": np.uint8(0),
        "w_scale": W_SCALES, "b": np.ones(3, np.int32), "b_scale": X_SCALE * W_SCALES,
        **UINT8_WEIGHTS, **constants,
    }
    weights = "w_float"
    nodes = [helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["x_float"])]
    data = "x_float"
    if pad:
        values["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1])
        nodes += [
            helper.make_node("Pad", ["x_float", "pads"], ["p"], name="pad"),
            helper.make_node("QuantizeLinear", ["p", "x_scale", "x_zero"], ["p_integer"]),
            helper.make_node("DequantizeLinear", ["p_integer", "x_scale", "x_zero"], ["p_float"]),
        ]
        data = "p_float"
    if float_weights:
        values["w_float"] = np.ones((3, 2, 1, 1), np.float32)
        del values["w"], values["w_scale"], values["w_zero"]
    else:
        axis = {"axis": 0} if np.size(values["w_scale"]) > 1 else {}
        nodes.append(helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], [weights], **axis))
    axis = {"axis": 0} if np.size(values["b_scale"]) > 1 else {}
    nodes += [
        helper.make_node("DequantizeLinear", ["b", "b_scale"], ["b_float"], **axis),
        helper.make_node("Conv", [data, weights, "b_float"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("QuantizeLinear", ["r", "y_scale", "y_zero"], ["y"]),
    ]
    dtype = helper.np_dtype_to_tensor_dtype(np.asarray(values["x_zero"]).dtype)
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info("x", dtype, ["batch", 2, 4, 4])],
        [helper.make_tensor_value_info("y", dtype, ["batch", 3, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="a test")


def codes(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    onnx.checker.check_model(model)
    graph = read_onnx(model.SerializeToString(), where=Path("model.onnx"))
    return {trap.code: trap.where for trap in find_traps(graph)}


def inspected(tmp_path: Path, model: onnx.ModelProto) -> Inspection:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return inspect_file(path)


def shown(inspection: Inspection) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(render(inspection))
    return stream.getvalue()


# The record --------------------------------------------------------------------------------------------------


def test_record_of_a_qdq_file(tmp_path: Path) -> None:
    inspection = inspected(tmp_path, qdq_model())
    content = (tmp_path / "model.onnx").read_bytes()
    assert inspection.format == "onnx"
    assert inspection.size_bytes == len(content)
    assert inspection.sha256 == hashlib.sha256(content).hexdigest()
    (port,) = inspection.inputs
    assert (port.name, port.dtype, port.shape) == ("x", "uint8", (None, 2, 4, 4))
    assert (port.scale, port.zero_point) == (0.5, 127)
    assert inspection.outputs[0].scale == 0.25
    assert inspection.operations == {"DequantizeLinear": 3, "Conv": 1, "Relu": 1, "QuantizeLinear": 1}
    assert (inspection.integer_operations, inspection.float_operations) == (2, 0)
    assert inspection.conversion_operations == 4
    assert (inspection.per_channel_operations, inspection.weighted_operations) == (1, 1)
    assert inspection.parameters == 3 * 2 + 3
    assert inspection.weights_by_dtype == {"uint8": 6}
    assert (inspection.preprocessing, inspection.labels) == (None, None)
    assert inspection.metadata == {"producer": "a test"}
    assert inspection.warnings == ()


def test_record_of_a_float_file(tmp_path: Path) -> None:
    model = helper.make_model(helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])], "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])],
        [numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32), "w")],
    ))
    inspection = inspected(tmp_path, model)
    assert (inspection.integer_operations, inspection.float_operations) == (0, 2)
    assert inspection.weights_by_dtype == {"float32": 6}
    assert inspection.inputs[0].scale is None
    assert inspection.warnings == ()  # a float model is not a quantized one that went wrong


def test_integers_that_are_no_grid_do_not_make_a_model_quantized() -> None:
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Reshape", ["x", "s"], ["y"])]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    assert codes(helper.make_model(helper.make_graph(nodes, "graph", ports[:1], ports[1:]))) == {}


def test_preprocessing_and_labels_from_the_metadata(tmp_path: Path) -> None:
    model = qdq_model()
    helper.set_model_props(model, {
        PREPROCESSING_KEY: '{"image_size": 32}', LABELS_KEY: '["cat", "dog"]',
    })
    inspection = inspected(tmp_path, model)
    assert inspection.preprocessing == {"image_size": 32}
    assert inspection.labels == ("cat", "dog")
    lines = [line.rstrip() for line in shown(inspection).splitlines()]
    assert "image_size  32" in lines
    assert "labels              2: cat, dog" in lines
    assert inspection.tflite_metadata is None


@pytest.mark.parametrize("text", [
    "{", "[NaN]", "[1e999]", "7", "[" * 100_000, "[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300,
])
def test_metadata_of_another_form_is_shown_but_not_believed(tmp_path: Path, text: str) -> None:
    model = qdq_model()
    helper.set_model_props(model, {PREPROCESSING_KEY: text, LABELS_KEY: text})
    inspection = inspected(tmp_path, model)
    assert (inspection.preprocessing, inspection.labels) == (None, None)
    assert inspection_to_dict(inspection)["metadata"][LABELS_KEY] == text
    shown_text = shown(inspection)
    assert shown_text.count("in the file, but unreadable") == 2
    assert f"metadata: {LABELS_KEY}" in shown_text


def test_preprocessing_of_another_program_is_shown_up_to_a_limit(tmp_path: Path) -> None:
    model = qdq_model()
    fields = {f"[bold]{index}\x1b": "f" * 10_000 for index in range(100)} | {"nested": {"a": [1, 0.5, None], "b": {}}}
    helper.set_model_props(model, {PREPROCESSING_KEY: json.dumps(dict(reversed(fields.items())))})
    text = shown(inspected(tmp_path, model))
    assert re.search(r"^nested +a 1, 0\.5, null, b *$", text, re.MULTILINE)
    assert "[bold]99�" in text and "\x1b" not in text
    assert "and 85 more" in text
    assert "f" * 201 not in text.replace("\n", "").replace(" ", "")


def test_json_is_plain(tmp_path: Path) -> None:
    inspection = inspected(tmp_path, qdq_model(x_scale=np.float32("nan"), **INT8_WEIGHTS))
    document = inspection_to_dict(inspection)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document.keys() == {field.name for field in dataclasses.fields(Inspection)}
    assert document["inputs"][0]["scale"] is None
    assert document["inputs"][0]["shape"] == [None, 2, 4, 4]
    assert {warning["code"] for warning in document["warnings"]} >= {"broken-scales", "u8s8"}
    found = document["saturation"]
    assert (found["cannot_saturate"], found["pairs"], found["layers"][0]["unsafe_pairs"]) == (False, 3, 3)
    assert found["sentence"].startswith("can saturate on x86 processors without VNNI: 3 of 3 pairs of weights")


def test_render_names_what_matters(tmp_path: Path) -> None:
    text = shown(inspected(tmp_path, qdq_model(**INT8_WEIGHTS)))
    for expected in ("onnx (ir", "ai.onnx 17", "1 of 1", "? x 2 x 4 x 4", "DequantizeLinear", "warning u8s8"):
        assert expected in text
    assert re.search("saturation +can saturate on x86 processors without VNNI: 3 of 3 pairs", text)
    text = shown(inspected(tmp_path, qdq_model()))
    assert re.search("saturation +cannot saturate on any x86 processor: 1 product with uint8 weights", text)
    assert "conv" in text


def test_render_does_not_trust_names(tmp_path: Path) -> None:
    """Neither rich's markup nor a terminal's escape sequences in a file's names do anything."""
    model = qdq_model()
    for node in model.graph.node:
        node.input[:] = ["[bold]\x1b[31m" if name == "x" else name for name in node.input]
    model.graph.input[0].name = "[bold]\x1b[31m"
    helper.set_model_props(model, {"sha256": "f" * 10_000})
    text = shown(inspected(tmp_path, model))
    assert "[bold]�[31m" in text
    assert "\x1b" not in text
    assert "metadata: sha256" in text
    assert "f" * 201 not in text


def test_a_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match=r"a\.onnx: expected an ONNX model"):
        inspect_file(tmp_path / "a.onnx")


# Warnings about ONNX files -----------------------------------------------------------------------------------


def test_a_good_file_has_no_warnings() -> None:
    assert codes(qdq_model()) == {}


def test_int8_activations() -> None:
    model = qdq_model(x_zero=np.int8(-1), y_zero=np.int8(-128), **INT8_WEIGHTS)
    assert codes(model) == {"int8-activations": ("y",)}


def test_lost_weights() -> None:
    found = codes(qdq_model(float_weights=True))
    assert found["lost-weights"] == ("conv",)
    assert found["float-operations"] == ("conv", "relu")


def test_weights_per_tensor() -> None:
    model = qdq_model(w_scale=np.float32(0.1), w_zero=np.uint8(128), b_scale=X_SCALE * np.float32(0.1))
    assert codes(model) == {"weights-per-tensor": ("conv",)}


def test_u8s8() -> None:
    assert codes(qdq_model(**INT8_WEIGHTS)) == {"u8s8": ("conv",)}
    # 7 bits: two products of a uint8 with them fit the 16 bits that saturate.
    assert codes(qdq_model(**INT8_WEIGHTS | {"w": np.full((3, 2, 1, 1), 63, np.int8)})) == {}


@pytest.mark.parametrize(("changes", "variant", "exact", "fastest"), [
    ({}, "u8u8", tuple(PROCESSORS), ("x86", "arm64-dot", "browser")),
    (INT8_WEIGHTS, "u8s8", ("x86-vnni", "x86-sse", "arm64-dot", "arm64-neon", "browser"),
     ("x86-vnni", "x86-sse")),
    (INT8_WEIGHTS | {"w": np.full((3, 2, 1, 1), 63, np.int8)}, "u8s8", tuple(PROCESSORS),
     ("x86-vnni", "x86", "x86-sse")),
])
def test_the_processors_that_a_file_is_for(changes, variant: str, exact, fastest, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(qdq_model(**changes).SerializeToString())
    inspection = inspect_file(path)
    assert inspection.processors is not None
    assert (inspection.processors.variant, inspection.processors.exact_on) == (variant, exact)
    assert inspection.processors.fastest_on == fastest
    assert inspection_to_dict(inspection)["processors"]["exact_on"] == list(exact)
    assert inspection.processors.sentence.startswith(f"{variant.upper()}: exact on x86 with VNNI, ")


def test_a_file_that_computes_in_float_is_for_no_processor_in_particular(chain, tmp_path: Path) -> None:
    assert inspect_file(chain(1)).processors is None
    path = tmp_path / "lost.onnx"
    path.write_bytes(qdq_model(float_weights=True).SerializeToString())
    assert inspect_file(path).processors is None


def test_explicit_pad() -> None:
    assert codes(qdq_model(pad=True)) == {"explicit-pad": ("pad",)}


def test_shared_weight_constants() -> None:
    model = qdq_model(**INT8_WEIGHTS)
    model.graph.node[2].input.append("w_zero")  # the bias reads the weights' zero point too
    model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.zeros(3, np.int8), "w_zero"))
    graph = read_onnx(model.SerializeToString(), where=Path("model.onnx"))
    found = {trap.code: trap.where for trap in find_traps(graph)}
    assert found["shared-weight-constants"] == ("w_zero",)


def test_relu_zero_point() -> None:
    assert codes(qdq_model(y_zero=np.uint8(3))) == {"relu-zero-point": ("relu",)}


def test_bias_scale() -> None:
    assert codes(qdq_model(b_scale=X_SCALE * W_SCALES * np.float32(1.001))) == {"bias-scale": ("conv",)}
    rounded = np.nextafter(X_SCALE * W_SCALES, np.float32(1))
    assert codes(qdq_model(b_scale=rounded)) == {}


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_broken_scales(scale: float) -> None:
    assert codes(qdq_model(y_scale=np.float32(scale)))["broken-scales"] == ("y",)


def test_float_operation_in_a_quantized_onnx_file() -> None:
    model = qdq_model()
    model.graph.node.append(helper.make_node("DequantizeLinear", ["y", "y_scale", "y_zero"], ["y_float"]))
    model.graph.node.append(helper.make_node("Softmax", ["y_float"], ["z"], name="softmax"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, [None] * 4))
    assert codes(model) == {"float-operations": ("softmax",)}


# Warnings about TFLite files, on graphs as the reader gives them ---------------------------------------------


def grid(name: str, shape: tuple[int, ...], dtype: str = "int8", *, scale=0.5, zero=-128, axis=None, data=None):
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    zero_points = np.broadcast_to(np.asarray(zero, np.int64), scales.shape)
    return Tensor(
        name=name, dtype=dtype, shape=shape, scales=scales, zero_points=zero_points, axis=axis, data=data
    )


def operation(kind: str, inputs: tuple[str, ...], output: str, **attributes: str) -> Operation:
    return Operation(kind=kind, name=output, inputs=inputs, outputs=(output,), attributes=attributes)


def tflite_graph(*more: Operation, tensors: tuple[Tensor, ...] = ()) -> Graph:
    """x -> CONV_2D (fused RELU) -> y, then whatever `more` does; `tensors` replace and add."""
    weights = np.ones((3, 1, 1, 2), np.int8)
    known = (
        grid("x", (1, 4, 4, 2)),
        grid("w", weights.shape, scale=W_SCALES, zero=0, axis=0, data=weights),
        grid("b", (3,), "int32", scale=X_SCALE * W_SCALES, zero=0, axis=0, data=np.ones(3, np.int32)),
        grid("y", (1, 4, 4, 3), scale=Y_SCALE),
        *tensors,
    )
    conv = operation("CONV_2D", ("x", "w", "b"), "y", fused_activation_function="RELU")
    operations = (conv, *more)
    return Graph(
        format="tflite", inputs=("x",), outputs=(operations[-1].outputs[0],),
        tensors={tensor.name: tensor for tensor in known}, operations=operations,
        versions={"schema": 3}, metadata={},
    )


def found_in(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {trap.code: trap.where for trap in find_traps(graph)}


def test_a_good_tflite_file_has_no_warnings() -> None:
    graph = tflite_graph()
    assert found_in(graph) == {}
    assert classify(graph).integer == ("y",)


def test_conversions_inside_but_not_at_the_ends() -> None:
    tensors = (grid("q", (1, 4, 4, 3), scale=0.125), grid("s", (1, 4, 4, 3)))
    quantize, logistic = operation("QUANTIZE", ("y",), "q"), operation("LOGISTIC", ("q",), "s")
    assert found_in(tflite_graph(quantize, logistic, tensors=tensors)) == {"conversions-inside": ("q",)}
    assert found_in(tflite_graph(quantize, tensors=tensors)) == {}


def test_float_operations_of_a_tflite_file() -> None:
    tensors = tuple(Tensor(name=name, dtype="float32", shape=(1, 4, 4, 3)) for name in "ft")
    graph = tflite_graph(
        operation("DEQUANTIZE", ("y",), "f"), operation("TANH", ("f",), "t"), tensors=tensors
    )
    assert found_in(graph) == {"float-operations": ("t",), "conversions-inside": ("f",)}
    assert classify(graph).conversions == ("f",)


def test_activations_quantized_when_they_are_computed_are_no_trap() -> None:
    tensors = tuple(Tensor(name=name, dtype="float32", shape=(1, 4, 4, 3)) for name in "xyb")
    assert found_in(tflite_graph(tensors=tensors)) == {}
    assert form_of(tflite_graph(tensors=tensors)) == "int8 weights, activations quantized when they are computed"


def test_int16_activations_are_symmetric() -> None:
    tensors = tuple(grid(name, (1, 4, 4, 3), "int16", zero=0) for name in "xy")
    assert "relu-zero-point" not in found_in(tflite_graph(tensors=tensors))
    assert form_of(tflite_graph(tensors=tensors)) == "int8 weights, int16 activations"


def test_the_form_counts_products_that_stay_in_float() -> None:
    weights = np.ones((3, 1, 1, 3), np.float32)
    tensors = (
        *(Tensor(name=name, dtype="float32", shape=(1, 4, 4, 3)) for name in "fz"),
        Tensor(name="v", dtype="float32", shape=weights.shape, data=weights),
    )
    graph = tflite_graph(
        operation("DEQUANTIZE", ("y",), "f"), operation("CONV_2D", ("f", "v"), "z"), tensors=tensors
    )
    assert form_of(graph) == "int8, but for 1 of 2 products in float32"
    assert form_of(tflite_graph()) == "int8"


@pytest.mark.parametrize(("name", "form", "dtypes", "per_channel"), [
    ("float32", "float32", {"float32"}, False),
    ("float16", "float16 weights, computed in float32", {"float16"}, False),
    ("weight-only-int8", "int8 weights, computed in float32", {"int8"}, True),
    ("dynamic-int8", "int8 weights, activations quantized when they are computed", {"int8", "uint8"}, True),
    ("int16x8-ptq", "int8 weights, int16 activations", {"int8"}, True),
])
def test_the_form_of_every_scheme(
    every_scheme: Pipeline, name: str, form: str, dtypes: set[str], per_channel: bool
) -> None:
    formats = ("tflite",) if name == "int16x8-ptq" else ("tflite", "onnx")
    for suffix in formats:
        inspection = inspect_file(every_scheme.bundle_folder / f"{name}.{suffix}")
        assert inspection.form == form
        assert set(inspection.weights_by_dtype) <= dtypes
        assert inspection.per_channel_operations == (inspection.weighted_operations if per_channel else 0)
        assert inspection.warnings == ()
        assert re.search(rf"^form +{re.escape(form)} *$", shown(inspection), re.MULTILINE)


def microsoft(
    kind: str, constants: dict[str, np.ndarray], inputs: tuple[str, ...], *, domain: str = "com.microsoft",
    **attributes: object,
) -> Graph:
    """A graph of one operation, x and y float32 of shape (1, 64)."""
    node = helper.make_node(kind, [*inputs], ["y"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node], "held", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    return read_onnx(model.SerializeToString(), where=Path("held.onnx"))


BYTES = np.ones((32, 2, 16), np.uint8)
SCALES = np.ones(64, np.float32)
FLOATS = np.ones((1, 8, 4), np.float32)


@pytest.mark.parametrize(("graph", "form", "values"), [
    (microsoft("MatMulNBits", {"b": BYTES, "s": SCALES}, ("x", "b", "s"), K=64, N=32, bits=4, block_size=32),
     "int4 weights, computed in float32", {"int4": 2048}),
    (microsoft("MatMulNBits", {"b": np.ones((32, 2, 32), np.uint8), "s": SCALES}, ("x", "b", "s"), K=60, N=32, bits=8,
               block_size=32), "int8 weights, computed in float32", {"int8": 1920}),
    (microsoft("MatMulBnb4", {"b": np.ones(1024, np.uint8), "s": SCALES}, ("x", "b", "s"), K=64, N=32, block_size=32,
               quant_type=1), "float4 weights, computed in float32", {"float4": 2048}),
    (microsoft("GatherBlockQuantized", {"t": np.ones((100, 32), np.uint8), "s": np.ones((100, 2), np.float32)},
               ("t", "x", "s"), bits=4, block_size=32), "int4 weights, computed in float32", {"int4": 6400}),
    (microsoft("DynamicQuantizeMatMul", {"b": np.ones((64, 32), np.int8), "s": SCALES[:1]}, ("x", "b", "s")),
     "int8 weights, activations quantized when they are computed", {"int8": 2048}),
    (microsoft("Attention", {"w": np.ones((64, 192), np.float16)}, ("x", "w"), num_heads=4),
     "float16 weights, computed in float32", {"float16": 12288}),
    (microsoft("LSTM", {"w": FLOATS, "r": np.ones((1, 8, 2), np.float32)}, ("x", "w", "r"), domain="", hidden_size=2),
     "float32", {"float32": 48}),
    (microsoft("MatMulNBits", {"s": SCALES}, ("x", "x", "s"), K=64, N=32, bits=4, block_size=32), "no weights", {}),
    (microsoft("MatMulNBits", {"b": BYTES, "s": SCALES}, ("x", "b", "s"), K=-7, N=2**62, bits=99, block_size=32),
     "int4 weights, computed in float32", {"int4": 2048}),
])
def test_weights_inside_an_operation_are_counted(
    graph: Graph, form: str, values: dict[str, int], tmp_path: Path
) -> None:
    """Packed, in attention, in recurrent layers; and attributes that cannot be true are not believed."""
    assert form_of(graph) == form
    found = {item.dtype: 0 for item in held_weights(graph)}
    for item in held_weights(graph):
        found[item.dtype] += item.values
    assert found == values


def test_held_weights_are_in_the_record(tmp_path: Path) -> None:
    b, s = numpy_helper.from_array(BYTES, "b"), numpy_helper.from_array(SCALES, "s")
    node = helper.make_node("MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", K=64, N=32, block_size=32)
    graph = helper.make_graph(
        [node], "held", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])], [b, s],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "packed.onnx")
    inspection = inspect_file(tmp_path / "packed.onnx")
    assert (inspection.form, inspection.parameters) == ("int4 weights, computed in float32", 2048)
    assert inspection.weights_by_dtype == {"int4": 2048}
    assert "2,048 int4" in shown(inspection)


def test_fused_relu_with_another_zero_point() -> None:
    assert found_in(tflite_graph(tensors=(grid("y", (1, 4, 4, 3), zero=-14),))) == {"relu-zero-point": ("y",)}


def test_bias_scale_and_per_tensor_weights_in_tflite() -> None:
    weights = grid("w", (3, 1, 1, 2), scale=0.1, zero=0, data=np.ones((3, 1, 1, 2), np.int8))
    found = found_in(tflite_graph(tensors=(weights,)))
    assert found == {"weights-per-tensor": ("y",), "bias-scale": ("y",)}


def test_per_tensor_depthwise_weights_look_at_the_last_axis() -> None:
    weights = grid("d", (1, 3, 3, 3), scale=0.1, zero=0, data=np.ones((1, 3, 3, 3), np.int8))
    depthwise = operation("DEPTHWISE_CONV_2D", ("y", "d"), "z")
    assert found_in(tflite_graph(depthwise, tensors=(weights, grid("z", (1, 4, 4, 3))))) == {
        "weights-per-tensor": ("z",)
    }


def test_every_warning_has_a_test_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [code for _, code, _, _ in TRAPS if f'"{code}"' not in source] == []
