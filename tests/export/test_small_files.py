"""float16, dynamic-int8 and weight-only-int8: the same kernels in both formats, and what the runtimes make of them."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.artifact import Artifact
from edgeship.core.errors import ExportError
from edgeship.export.weights import onnx as onnx_weights
from edgeship.export.weights import tflite as tflite_weights
from edgeship.export.weights.codes import quantize_per_channel
from edgeship.graph import read_graph
from edgeship.validate.subject.bundle import Bundle, load_bundle

SCHEMES = ("float16", "dynamic-int8", "weight-only-int8")


@pytest.fixture(scope="module")
def bundle(every_scheme: Pipeline) -> Bundle:
    return load_bundle(every_scheme.bundle_folder)


def weights(path: Path) -> list[tuple[np.ndarray, np.ndarray | None, int | None]]:
    """Stored values, scales and channel axis of every kernel, in the file's order."""
    return [
        (item.weights.data, item.weights.scales, item.weights.axis) for item in read_graph(path).weighted_operations()
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_both_formats_store_the_same_numbers(bundle: Bundle, scheme: str) -> None:
    first, second = (weights(bundle.folder / f"{scheme}.{suffix}") for suffix in ("tflite", "onnx"))
    assert len(first) == len(second) == 7
    # Each format orders its operations in its own way; sorted values know no layout.
    for left, right in zip(sorted(first, key=_numbers), sorted(second, key=_numbers), strict=True):
        assert _numbers(left) == _numbers(right)
        if scheme != "float16":
            np.testing.assert_array_equal(left[1], right[1])
            assert len(left[1]) == left[0].shape[left[2]] == right[0].shape[right[2]]


def _numbers(kernel: tuple[np.ndarray, np.ndarray | None, int | None]) -> list[float]:
    signed = kernel[0].astype(np.float32) - (128 if kernel[0].dtype == np.uint8 else 0)
    return np.sort(signed, axis=None).tolist()


@pytest.mark.parametrize(("scheme", "bytes_per_weight"), [
    ("float32", 4), ("float16", 2), ("dynamic-int8", 1), ("weight-only-int8", 1), ("int16x8-ptq", 1),
])
@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_the_size_is_that_of_the_weights(bundle: Bundle, scheme: str, bytes_per_weight: int, suffix: str) -> None:
    """What is left besides the kernels depends on the operations alone, whose descriptions take this much."""
    path = bundle.folder / f"{scheme}.{suffix}"
    if not path.exists():
        assert (scheme, suffix) == ("int16x8-ptq", "onnx")
        return
    kernels = sum(values.size for values, _, _ in weights(bundle.folder / "float32.tflite"))
    graph = read_graph(path)
    # Per tensor a name, a shape and a grid; per operation its options: measured at most 260 bytes each in either
    # format. Biases and scales are 4 bytes a channel, and the metadata is the text in the file.
    text = sum(map(len, graph.metadata.values()))
    constants = sum(tensor.data.nbytes for tensor in graph.tensors.values() if tensor.data is not None)
    small = constants - kernels * bytes_per_weight
    described = 260 * (len(graph.operations) + len(graph.tensors)) + 2048
    assert kernels * bytes_per_weight < path.stat().st_size <= kernels * bytes_per_weight + small + 2 * text + described
    assert 0 <= small < 4096


def lite(artifact: Path, images: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(str(artifact))
    interpreter.allocate_tensors()
    answers = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        answers.append(np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])))
    return np.concatenate(answers)


def ort(artifact: Path, images: np.ndarray, *, plan: Path | None = None) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if plan is None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        options.optimized_model_filepath = str(plan)
    session = onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


@pytest.mark.parametrize("scheme", ["float16", "weight-only-int8"])
def test_stored_weights_are_computed_with_in_float32_and_folded_at_load(
    bundle: Bundle, scheme: str, tmp_path: Path
) -> None:
    (images,) = bundle.golden.inputs
    folded = ort(bundle.folder / f"{scheme}.onnx", images, plan=tmp_path / "plan.onnx")
    kinds = collections.Counter(node.op_type for node in onnx.load(tmp_path / "plan.onnx").graph.node)
    # Nothing is left to be done at run time, and nothing was quantized behind our back.
    assert not {"Cast", "Mul", "DequantizeLinear", "QLinearConv", "MatMulNBits"} & set(kinds)
    assert kinds["Conv"] + kinds["FusedConv"] == 6 and kinds["Gemm"] == 1
    # Two orders of summing probabilities below 1, over 7 layers: float32's eps with a margin of 100.
    tolerance = 100 * float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(folded, ort(bundle.folder / f"{scheme}.onnx", images), atol=tolerance)
    np.testing.assert_allclose(folded, lite(bundle.folder / f"{scheme}.tflite", images), atol=tolerance)


def test_dynamic_activations_are_multiplied_as_integers(bundle: Bundle, tmp_path: Path) -> None:
    (images,) = bundle.golden.inputs
    answers = ort(bundle.folder / "dynamic-int8.onnx", images, plan=tmp_path / "plan.onnx")
    kinds = collections.Counter(node.op_type for node in onnx.load(tmp_path / "plan.onnx").graph.node)
    assert kinds["ConvInteger"] == 6 and kinds["MatMulInteger"] + kinds["DynamicQuantizeMatMul"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "MatMul"} & set(kinds)
    np.testing.assert_allclose(answers, ort(bundle.folder / "dynamic-int8.onnx", images), atol=1e-5)
    # The two runtimes round activations of 255 steps in their own ways: a few steps of 1/255 at the logits.
    assert np.abs(answers - lite(bundle.folder / "dynamic-int8.tflite", images)).max() < 0.05


def test_artifacts_say_what_they_are(bundle: Bundle) -> None:
    artifacts: dict[str, Artifact] = {artifact.name: artifact for artifact in bundle.manifest.artifacts}
    for scheme in SCHEMES:
        for suffix in ("tflite", "onnx"):
            artifact = artifacts[f"{scheme}.{suffix}"]
            assert (artifact.inputs[0].dtype, artifact.outputs[0].dtype) == ("float32", "float32")
            assert artifact.same_grid_as is None
    assert artifacts["int16x8-ptq.tflite"].inputs[0].dtype == "int16"
    accounts = bundle.manifest.quantization
    assert set(accounts) == {"dynamic-int8", "weight-only-int8", "int16x8-ptq", "int8-ptq-mse"}
    for account in accounts.values():
        assert (account.kept_float, account.weights_expected, account.weights_quantized) == ((), 7, 7)


# Every kind of kernel, one operation a file -------------------------------------------------------------------


def one_layer(kind: str) -> bytes:
    """A float32 TFLite file of one weighted layer with a bias, stride 2 and padding where it has them."""
    import tf_keras

    from edgeship.export.tflite.convert import convert_tflite

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(1)
    conv = {"strides": 2, "padding": "same", "bias_initializer": "random_normal", "name": "layer"}
    shape, layer = {
        "conv": ((9, 7, 3), lambda: layers.Conv2D(5, 3, **conv)),
        "grouped": ((9, 7, 4), lambda: layers.Conv2D(6, 3, groups=2, **conv)),
        "depthwise": ((9, 7, 3), lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, **conv)),
        "transposed": ((4, 3, 3), lambda: layers.Conv2DTranspose(5, 3, **conv)),
        "dense": ((6,), lambda: layers.Dense(4, bias_initializer="random_normal", name="layer")),
        "without bias": ((6,), lambda: layers.Dense(4, use_bias=False, name="layer")),
    }[kind]
    image = layers.Input(shape, name="image")
    return convert_tflite(tf_keras.Model(image, layer()(image), name="one"))


KINDS = ("conv", "grouped", "depthwise", "transposed", "dense", "without bias")


def run_lite(content: bytes, image: np.ndarray, resolver: OpResolverType) -> np.ndarray:
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_kernel_in_every_form_computes_what_it_should(kind: str) -> None:
    from edgeship.export.onnx.convert import convert_onnx

    plain = one_layer(kind)
    image_shape = read_tensor_shape(plain)
    image = np.random.default_rng(3).normal(0.3, 1.0, image_shape).astype(np.float32)
    exact = run_lite(plain, image, OpResolverType.BUILTIN_REF)
    (kernel,) = (item for item in _graph(plain, "a.tflite").weighted_operations())
    axis = 3 if kind == "depthwise" else 0
    quantized = quantize_per_channel(kernel.weights.data, axis=axis, name="layer")
    # Each product is off by half a step of the kernel, and of the input (255 steps) where that is rounded too.
    products = int(np.prod(kernel.weights.shape)) // kernel.weights.shape[axis]
    largest = np.abs(image).max() * products * quantized.scales.max() / 2
    input_step = (max(image.max(), 0) - min(image.min(), 0)) / 255
    dynamic = largest + products * np.abs(kernel.weights.data).max() * input_step
    half = np.abs(image).max() * products * np.abs(kernel.weights.data).max() * 2.0**-11

    float_onnx = convert_onnx(plain, variant=None)
    forms = {
        "float16": (
            tflite_weights.with_float16_weights(plain, layers=["layer"]),
            onnx_weights.with_float16_weights(float_onnx), half,
        ),
        "weight-only": (
            tflite_weights.with_int8_weights(plain, layers=["layer"], keep_float=(), dynamic=False),
            onnx_weights.with_int8_weights(float_onnx, dynamic=False), largest,
        ),
        "dynamic": (
            tflite_weights.with_int8_weights(plain, layers=["layer"], keep_float=(), dynamic=True),
            onnx_weights.with_int8_weights(float_onnx, dynamic=True), dynamic,
        ),
    }
    for name, (tflite, onnx_content, bound) in forms.items():
        answers = {
            resolver: run_lite(tflite, image, resolver)
            for resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF)
        }
        session = onnxruntime.InferenceSession(onnx_content, providers=["CPUExecutionProvider"])
        answers["onnxruntime"] = session.run(None, {"image": image})[0]
        for runtime, answer in answers.items():
            assert np.abs(answer - exact).max() <= bound, (name, runtime)
        if name != "dynamic":  # the same numbers, so the same answers
            np.testing.assert_allclose(
                answers["onnxruntime"], answers[OpResolverType.AUTO], rtol=0, atol=1e-5 * np.abs(exact).max()
            )


def _graph(content: bytes, name: str):
    from edgeship.graph import read_onnx, read_tflite

    return (read_tflite if name.endswith("tflite") else read_onnx)(content, where=Path(name))


def read_tensor_shape(content: bytes) -> tuple[int, ...]:
    graph = _graph(content, "a.tflite")
    return graph.tensors[graph.inputs[0]].shape


def test_a_kernel_kept_in_float_is_float_in_both_formats() -> None:
    from edgeship.export.onnx.convert import convert_onnx

    plain = one_layer("conv")
    tflite = tflite_weights.with_int8_weights(plain, layers=["layer"], keep_float=["layer"], dynamic=True)
    (kept,) = _graph(tflite, "a.tflite").weighted_operations()
    assert kept.weights.dtype == "float32"
    numbers = [onnx_weights.same_numbers(kept.weights.data)]
    content = onnx_weights.with_int8_weights(convert_onnx(plain, variant=None), dynamic=True, kept=numbers)
    (kept,) = _graph(content, "a.onnx").weighted_operations()
    assert kept.weights.dtype == "float32"
    with pytest.raises(ExportError, match="1 of 2 kernels that stay in float are not in the ONNX file"):
        onnx_weights.with_int8_weights(
            convert_onnx(plain, variant=None), dynamic=True, kept=[*numbers, b"of another model"]
        )


def test_weights_that_do_not_fit_are_named_in_both_formats() -> None:
    import tf_keras

    from edgeship.export.onnx.convert import convert_onnx
    from edgeship.export.tflite.convert import convert_tflite

    image = tf_keras.layers.Input((3,), name="image")
    large = tf_keras.initializers.Constant(1e5)
    model = tf_keras.Model(image, tf_keras.layers.Dense(2, kernel_initializer=large, name="big")(image), name="m")
    plain = convert_tflite(model)
    with pytest.raises(ExportError, match="big/kernel: expected weights within"):
        tflite_weights.with_float16_weights(plain, layers=["big"])
    with pytest.raises(ExportError, match="expected weights within"):
        onnx_weights.with_float16_weights(convert_onnx(plain, variant=None))
