"""Two real files of one network belong together, whatever is called how, and nothing that is changed is missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
import tf_keras
from onnx import numpy_helper
from tf_keras import layers

from edgeship.export.onnx.convert import convert_onnx
from edgeship.graph import Graph, read_onnx
from edgeship.graph.differences import Comparison, compare
from edgeship.graph.layouts import Layouts
from edgeship.graph.matching import match
from edgeship.quantize.lowering.lower import lower
from edgeship.validate.probes.layers import Given, Layers
from edgeship.validate.probes.litert import KeepingTensors
from tests.support.networks import convert, quantized_model, randomize

SHAPE = (8, 8, 4)


def convolution(x, width, name, activation=None, **options):
    return layers.Conv2D(width, 3, padding="same", activation=activation, name=name, **options)(x)


def joined(x):
    """Concatenations of two and of three, one in the other, behind every kind of activation; parts of a tensor."""
    x = convolution(x, 6, "stem", "relu")
    inner = layers.Concatenate(name="inner")([convolution(x, 4, "a", "relu"), convolution(x, 4, "b")])
    outer = layers.Concatenate(name="outer")([convolution(inner, 4, "c", tf.nn.relu6), x, inner])
    left, middle, right = tf.split(outer, 3, axis=-1)
    cut = layers.ZeroPadding2D(1, name="border")(outer[:, 1:-1, 1:-1, :])
    return convolution(tf.concat([right, convolution(left, 4, "d"), middle, cut], -1), 8, "last", "relu")


def axes(x):
    """A softmax over another axis, the largest of all channels, a factor for each channel, tokens."""
    x = convolution(x, 8, "stem", "relu")
    x = x * layers.Softmax(axis=1, name="soft")(convolution(x, 8, "logits"))
    largest, mean = tf.reduce_max(x, axis=-1, keepdims=True), tf.reduce_mean(x, axis=-1, keepdims=True)
    x = x * convolution(tf.concat([largest, mean], -1), 1, "where", "sigmoid")
    scale = layers.Dense(8, "sigmoid", name="scale")(layers.GlobalAveragePooling2D(name="squeeze")(x))
    x = layers.Reshape((64, 8), name="tokens")(x * layers.Reshape((1, 1, 8), name="wide")(scale))
    x = layers.Reshape((8, 8, 8), name="back")(layers.Permute((2, 1), name="turn")(x))
    return convolution(x, 8, "last", "relu")


def squares(x):
    """Kernels that are as large transposed, and several of one shape; one layer called twice."""
    twice = layers.Conv2D(4, 4, padding="same", activation="relu", name="twice")
    x = layers.Add(name="sum")([twice(twice(x)), layers.Conv2D(4, 1, name="shortcut")(x)])
    x = layers.Flatten(name="flat")(layers.MaxPooling2D(4, name="pool")(x))
    for index in range(3):
        x = layers.Dense(16, "relu", name=f"dense{index}")(x)
    return x


NETWORKS = {function.__name__: function for function in (joined, axes, squares)}


@pytest.fixture(scope="module", params=NETWORKS)
def files(request: pytest.FixtureRequest) -> tuple[bytes, Graph, onnx.ModelProto]:
    image = layers.Input(SHAPE, name="image")
    x = NETWORKS[request.param](image)
    if x.shape.rank == 4:
        x = layers.GlobalAveragePooling2D(name="mean")(x)
    model = tf_keras.Model(image, layers.Dense(5, activation="softmax", name="probabilities")(x))
    content, graph = convert(quantized_model(lower(randomize(model)))[0])
    return content, graph, onnx.load_from_string(convert_onnx(content, variant="u8u8"))


def compared(tflite: Graph, model: onnx.ModelProto) -> Comparison:
    other = read_onnx(model.SerializeToString(), where=Path("model.onnx"))
    return compare(tflite, other, match(tflite, other))


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every tensor under another name."""
    result = copied(model)
    names: dict[str, str] = {"": ""}
    for node in result.graph.node:
        node.input[:] = [names.setdefault(name, f"t{len(names)}") for name in node.input]
        node.output[:] = [names.setdefault(name, f"t{len(names)}") for name in node.output]
    for item in (*result.graph.initializer, *result.graph.input, *result.graph.output):
        item.name = names[item.name]
    return result


def test_right_files_are_matched_whole(files: tuple[bytes, Graph, onnx.ModelProto]) -> None:
    _, tflite, model = files
    found = compared(tflite, model)
    assert (found.differences, found.not_compared) == ((), ())
    grids = sum(tensor.is_integer and tensor.scales is not None for tensor in tflite.tensors.values())
    assert found.compared == grids
    other = read_onnx(model.SerializeToString(), where=Path("model.onnx"))
    matched = {pair.tflite.outputs[0] for pair in match(tflite, other).operations}
    assert {item.operation.outputs[0] for item in tflite.weighted_operations()} <= matched


def test_names_only_help(files: tuple[bytes, Graph, onnx.ModelProto]) -> None:
    _, tflite, model = files
    found = compared(tflite, renamed(model))
    assert found.differences == ()
    # Parts of one tensor look alike without a name; what reads them is found by its kernel.
    assert set(found.not_compared) <= {"slice", "border", "split_2", "split_3"}


def test_layers_answer_alike_in_whatever_layout(
    files: tuple[bytes, Graph, onnx.ModelProto], tmp_path: Path
) -> None:
    content, tflite, model = files
    (tmp_path / "model.tflite").write_bytes(content)
    onnx.save(model, tmp_path / "model.onnx")
    runtime = KeepingTensors(str(tmp_path / "model.tflite"), threads=1)
    image = np.random.default_rng(0).integers(-128, 128, (1, *SHAPE)).astype(np.int8)
    tensors = {name: values[None] for name, values in runtime.tensors([image]).items()}
    other = read_onnx(model.SerializeToString(), where=Path("model.onnx"))
    matching = match(tflite, other)
    layouts = Layouts(tflite, other, matching)
    orders = {pair.onnx.name: layouts.order(pair) for pair in matching.pairs if pair.same_integers}
    assert None not in [None if order is None else True for order in orders.values()]
    places = {pair.onnx.name: pair.tflite.name for pair in matching.pairs if pair.same_integers}
    given = Given(tensors, {str(index): orders[name] for index, name in enumerate(places)}, places)
    found = Layers(str(tmp_path / "model.onnx"), threads=1).compare(given, progress=lambda done: None)
    assert found["skipped"] == [] and len(found["layers"]) > 5
    assert max(layer["max_lsb"] for layer in found["layers"]) <= 1


Change = tuple[str, list[tuple[onnx.TensorProto, np.ndarray]]]


def constants_of(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {item.name: item for item in model.graph.initializer}


def scales(model: onnx.ModelProto) -> Iterator[Change]:
    """One scale, by one step of float32; of several, the first two in each other's place."""
    constants = constants_of(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            values = numpy_helper.to_array(constants[node.input[1]])
            flat = values.reshape(-1).copy()
            if flat.size > 1 and flat[0] != flat[1]:
                flat[:2] = flat[1::-1]
            else:
                flat[0] = np.nextafter(flat[0], np.float32(9))
            yield node.name, [(constants[node.input[1]], flat.reshape(values.shape))]


def zero_points(model: onnx.ModelProto) -> Iterator[Change]:
    constants = constants_of(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            values = numpy_helper.to_array(constants[node.input[2]])
            if values.dtype != np.int32:  # of a bias, always 0
                yield node.name, [(constants[node.input[2]], (values + 1).astype(values.dtype))]


def kernels(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    constants = constants_of(model)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            yield constants[node.input[0]]


def integers(model: onnx.ModelProto) -> Iterator[Change]:
    for constant in kernels(model):
        values = numpy_helper.to_array(constant).copy()
        values.reshape(-1)[-1] ^= 1
        yield constant.name, [(constant, values)]


def transposed(model: onnx.ModelProto) -> Iterator[Change]:
    """Every kernel that is as large with two of its axes in each other's place."""
    for constant in kernels(model):
        values = numpy_helper.to_array(constant)
        for one, other in ((0, 1), (-1, -2)):
            moved = values.swapaxes(one, other) if values.ndim >= 2 else values
            if moved.shape == values.shape and not np.array_equal(values, moved):
                yield constant.name, [(constant, moved)]


def exchanged(model: onnx.ModelProto) -> Iterator[Change]:
    """Two kernels, or biases, of one shape in each other's place."""
    found = list(kernels(model))
    for index, one in enumerate(found):
        for other in found[index + 1:]:
            first, second = numpy_helper.to_array(one), numpy_helper.to_array(other)
            alike = first.shape == second.shape and first.dtype == second.dtype
            if alike and not np.array_equal(first, second):
                yield f"{one.name}, {other.name}", [(one, second), (other, first)]


@pytest.mark.parametrize("mutate", [scales, zero_points, integers, transposed, exchanged])
def test_nothing_that_is_changed_is_missed(
    files: tuple[bytes, Graph, onnx.ModelProto], mutate: Callable[[onnx.ModelProto], Iterator[Change]]
) -> None:
    _, tflite, model = files
    changed = copied(model)
    missed, tried = [], 0
    for what, changes in mutate(changed):
        before = [(constant, constant.SerializeToString()) for constant, _ in changes]
        for constant, values in changes:
            constant.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), constant.name))
        missed += [] if compared(tflite, changed).differences else [what]
        tried += 1
        for constant, content in before:
            constant.ParseFromString(content)
    assert missed == []
    assert tried > 0 or mutate in (transposed, exchanged)


def test_a_bias_that_is_dropped_is_told_by_name(files: tuple[bytes, Graph, onnx.ModelProto]) -> None:
    _, tflite, model = files
    biased = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm") and len(node.input) == 3]
    assert biased
    for index, node in enumerate(model.graph.node):
        if node in biased:
            changed = copied(model)
            bias = changed.graph.node[index].input[2].removesuffix("/DequantizeLinear")
            del changed.graph.node[index].input[2:]
            assert compared(tflite, changed).differences == (f"{bias}: not in the ONNX file",)


def test_operands_of_a_concatenation_may_not_change_places(files: tuple[bytes, Graph, onnx.ModelProto]) -> None:
    _, tflite, model = files
    for index, node in enumerate(model.graph.node):
        if node.op_type == "Concat":
            changed = copied(model)
            names = list(node.input)
            changed.graph.node[index].input[:] = [names[1], names[0], *names[2:]]
            (sentence, *_) = compared(tflite, changed).differences
            assert "in another order" in sentence


def test_another_network_is_not_compared_and_not_called_different() -> None:
    """What has no counterpart is named, and is no difference."""
    value = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, (1, *SHAPE))
    nodes = [onnx.helper.make_node("Tanh", ["image"], ["a"]), onnx.helper.make_node("Exp", ["a"], ["b"])]
    graph = onnx.helper.make_graph(nodes, "other", [value], [onnx.ValueInfoProto(name="b")])
    other = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    image = layers.Input(SHAPE, name="image")
    model = tf_keras.Model(image, layers.Dense(5, name="dense")(layers.Flatten(name="flat")(image)))
    _, tflite = convert(quantized_model(lower(randomize(model)))[0])
    found = compared(tflite, other)
    assert found.differences == () and "dense" in found.not_compared
