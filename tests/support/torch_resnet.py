"""ResNets of basic blocks in torchvision's and timm's names, and what they compute, as ONNX in ONNX Runtime.

Independent of the model under test: the graph has torch's own layouts and pads (torchvision/models/resnet.py,
timm/models/resnet.py) and says nothing of Keras.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

EPSILON = 1e-5  # torch.nn.BatchNorm2d's default


def torch_state(
    *, stage_sizes: Sequence[int], width: int, classes: int, se_ratio: int = 0, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random weights at the scale of a trained network: residual branches add less than what they are added to.

    With `se_ratio`, squeezed channels are rounded to a multiple of 8 like timm's.
    """
    generator = np.random.default_rng(seed)
    state: dict[str, np.ndarray] = {}

    def normal(shape: tuple[int, ...], scale: float) -> np.ndarray:
        return generator.normal(0, scale, shape).astype(np.float32)

    def conv(name: str, inputs: int, outputs: int, size: int) -> None:
        state[f"{name}.weight"] = normal((outputs, inputs, size, size), np.sqrt(2 / (inputs * size * size)))

    def batch_norm(name: str, channels: int, gain: float = 1.0) -> None:
        state[f"{name}.weight"] = (gain * generator.uniform(0.5, 1.5, channels)).astype(np.float32)
        state[f"{name}.bias"] = normal((channels,), 0.2)
        state[f"{name}.running_mean"] = normal((channels,), 0.2)
        state[f"{name}.running_var"] = generator.uniform(0.3, 2.0, channels).astype(np.float32)
        state[f"{name}.num_batches_tracked"] = np.array(1234, np.int64)

    conv("conv1", 3, width, 7)
    batch_norm("bn1", width)
    channels = width
    for stage, units in enumerate(stage_sizes, start=1):
        filters = width * 2 ** (stage - 1)
        for unit in range(units):
            name = f"layer{stage}.{unit}"
            conv(f"{name}.conv1", channels, filters, 3)
            batch_norm(f"{name}.bn1", filters)
            conv(f"{name}.conv2", filters, filters, 3)
            batch_norm(f"{name}.bn2", filters, gain=0.3)
            if se_ratio:
                squeezed = max(8, int(filters / se_ratio + 4) // 8 * 8)
                for layer, inputs, outputs in (("fc1", filters, squeezed), ("fc2", squeezed, filters)):
                    conv(f"{name}.se.{layer}", inputs, outputs, 1)
                    state[f"{name}.se.{layer}.bias"] = normal((outputs,), 0.2)
            if unit == 0 and stage > 1:
                conv(f"{name}.downsample.0", channels, filters, 1)
                batch_norm(f"{name}.downsample.1", filters)
            channels = filters
    state["fc.weight"] = normal((classes, channels), 1 / np.sqrt(channels))
    state["fc.bias"] = normal((classes,), 0.2)
    return state


def torch_logits(state: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """The logits of images of shape (n, height, width, 3), computed by ONNX Runtime without optimizations."""
    nodes: list[Any] = []

    def add(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [f"t{len(nodes)}"], **attributes))
        return f"t{len(nodes) - 1}"

    def conv(x: str, name: str, strides: int = 1, pad: int = 0) -> str:
        bias = [f"{name}.bias"] if f"{name}.bias" in state else []
        return add("Conv", x, f"{name}.weight", *bias, strides=[strides] * 2, pads=[pad] * 4)

    def batch_norm(x: str, name: str) -> str:
        names = [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return add("BatchNormalization", x, *names, epsilon=EPSILON)

    def excite(x: str, name: str) -> str:
        squeezed = add("Relu", conv(add("GlobalAveragePool", x), f"{name}.fc1"))
        return add("Mul", x, add("Sigmoid", conv(squeezed, f"{name}.fc2")))

    x = add("Relu", batch_norm(conv("image", "conv1", strides=2, pad=3), "bn1"))
    x = add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for name in _units(state):
        strides = 2 if f"{name}.downsample.0.weight" in state else 1
        main = add("Relu", batch_norm(conv(x, f"{name}.conv1", strides=strides, pad=1), f"{name}.bn1"))
        main = batch_norm(conv(main, f"{name}.conv2", pad=1), f"{name}.bn2")
        if f"{name}.se.fc1.weight" in state:
            main = excite(main, f"{name}.se")
        if strides == 2:
            x = batch_norm(conv(x, f"{name}.downsample.0", strides=2), f"{name}.downsample.1")
        x = add("Relu", add("Add", main, x))
    x = add("Flatten", add("GlobalAveragePool", x))
    x = add("Gemm", x, "fc.weight", "fc.bias", transB=1)
    return _run(nodes, x, state, images.transpose(0, 3, 1, 2))


def _units(state: dict[str, np.ndarray]) -> Iterator[str]:
    yield from dict.fromkeys(
        ".".join(name.split(".")[:2]) for name in state if name.startswith("layer")
    )


def _run(nodes: list[Any], output: str, state: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    graph = helper.make_graph(
        nodes, "torch",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, images.shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        initializer=[
            numpy_helper.from_array(array, name) for name, array in state.items()
            if not name.endswith("num_batches_tracked")
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": np.ascontiguousarray(images, np.float32)})[0])
