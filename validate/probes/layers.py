"""An .onnx file cut into single layers, each run on the integers that LiteRT computed. Worker process only.

Over a whole network the last bits of two runtimes drift apart; given the same integers, one layer may differ
by its own rounding only. So each layer is judged alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgeship.core.integers import SHIFTS
from edgeship.graph.kinds import CLIPS, QDQ
from edgeship.validate.runner.onnxruntime import LOG_ERRORS

TO_CHANNELS_FIRST = (0, 3, 1, 2)
TO_CHANNELS_LAST = (0, 2, 3, 1)
CHANNELS_FIRST_KINDS = frozenset({
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
    "DepthToSpace", "SpaceToDepth", "BatchNormalization",
})
# Their 4-D inputs and outputs have one layout.
SAME_LAYOUT_KINDS = QDQ | CLIPS | {
    "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Add", "Sub", "Mul", "Div", "Min", "Max", "Concat",
    "Pad", "Identity", "Cast", "Resize",
}
# Ours, and ONNX Runtime's, which share no base of their own.
LAYER_ERRORS: tuple[type[Exception], ...] = (ValueError, *(
    kind for kind in vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    if isinstance(kind, type) and issubclass(kind, Exception)
))


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The nodes between known integer tensors."""

    output: str
    inputs: tuple[str, ...]
    nodes: tuple[Any, ...]

    @property
    def kind(self) -> str:
        """The operations without the quantization around them: "Conv+Relu"."""
        kinds = [node.op_type for node in self.nodes if node.op_type not in QDQ]
        return "+".join(kinds) or "QuantizeLinear"


class Given(Mapping[str, np.ndarray]):
    """LiteRT's integers by the .onnx file's names and in its layout, one tensor at a time: all together are large."""

    def __init__(
        self, tensors: Mapping[str, np.ndarray], layouts: Mapping[str, np.ndarray], places: Mapping[str, str]
    ) -> None:
        """`places`: name in the .onnx file -> key in `tensors`; `layouts` has the same names' orders by index."""
        self.tensors, self.layouts, self.places = tensors, layouts, places
        self.order = {name: str(index) for index, name in enumerate(places)}

    def __getitem__(self, name: str) -> np.ndarray:
        """int8 (images, *shape)."""
        images = self.tensors[self.places[name]]
        order = self.layouts[self.order[name]]
        values: np.ndarray = images.reshape(len(images), -1)[:, order]
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class Layers:
    """The file; `compare` cuts it and runs the pieces."""

    inputs: tuple[()] = ()  # not run as a whole
    outputs: tuple[()] = ()

    def __init__(self, path: str, *, threads: int) -> None:
        self.model = onnx.shape_inference.infer_shapes(onnx.load(path))
        self.threads = threads
        graph = self.model.graph
        self.constants = {item.name: item for item in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.dtypes = {
            value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
            for value in (*graph.input, *graph.value_info, *graph.output) if value.type.tensor_type.elem_type
        }

    def compare(
        self, known: Mapping[str, np.ndarray], *, progress: Callable[[int], None]
    ) -> dict[str, Any]:
        """Run every layer whose output is in `known`.

        Args:
            known: int8 (images, *shape) per tensor name of this file, in this file's layout.

        Returns:
            {"layers": [{"name", "kind", "max_lsb"}], "skipped": [(name, why), ...]}
        """
        layers, skipped = [], []
        for done, name in enumerate(name for name in self.producers if name in known):
            try:
                layer = self.cut(name, set(known))
                layers.append({"name": name, "kind": layer.kind, "max_lsb": self.max_lsb(layer, known)})
            except LAYER_ERRORS as error:
                skipped.append((name, str(error).splitlines()[0]))
            progress(done)
        return {"layers": layers, "skipped": skipped}

    def cut(self, output: str, known: set[str]) -> Layer:
        """The nodes that compute `output` from known tensors and constants. ValueError if it needs others."""
        waiting, inputs, wanted = [output], set(), set()
        while waiting:
            name = waiting.pop()
            node = self.producers.get(name)
            if node is None:
                raise ValueError(f"needs {name!r}, which the TFLite file does not have")
            if id(node) in wanted:
                continue
            wanted.add(id(node))
            for item in node.input:
                if item in known:
                    inputs.add(item)
                elif item and item not in self.constants:
                    waiting.append(item)
        nodes = tuple(node for node in self.model.graph.node if id(node) in wanted)
        return Layer(output=output, inputs=tuple(sorted(inputs)), nodes=nodes)

    def max_lsb(self, layer: Layer, known: Mapping[str, np.ndarray]) -> int:
        """The largest difference between the layer's output and LiteRT's, over all images."""
        given = {name: self.as_onnx(name, known[name]) for name in layer.inputs}
        wanted = self.as_onnx(layer.output, known[layer.output])
        session = self.session(layer, {name: values.shape[1:] for name, values in given.items()})
        worst = 0
        for number, image in enumerate(wanted):
            found = session.run([layer.output], {name: values[number] for name, values in given.items()})[0]
            found, expected = found.astype(np.int32), image.astype(np.int32)
            if found.shape != expected.shape:
                raise ValueError(f"answers shape {found.shape}, LiteRT {expected.shape}")
            worst = max(worst, int(np.abs(found - expected).max(initial=0)))
        return worst

    def as_onnx(self, name: str, integers: np.ndarray) -> np.ndarray:
        """LiteRT's int8 tensor in the .onnx file's type."""
        dtype = self.dtypes.get(name)
        if dtype not in SHIFTS:
            raise ValueError(f"{name!r} is {dtype or 'of unknown type'}, not int8 or uint8")
        return np.ascontiguousarray((integers.astype(np.int16) + SHIFTS[dtype]).astype(dtype))

    def session(self, layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        """A default session of this layer alone."""
        used = {name for node in layer.nodes for name in node.input}
        graph = onnx.helper.make_graph(
            list(layer.nodes),
            "layer",
            [self._value(name, shapes[name]) for name in layer.inputs],
            [self._value(layer.output, None)],
            [constant for name, constant in self.constants.items() if name in used],
        )
        model = onnx.helper.make_model(graph, opset_imports=self.model.opset_import)
        model.ir_version = self.model.ir_version
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = LOG_ERRORS
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def _value(self, name: str, shape: tuple[int, ...] | None) -> Any:
        dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.dtypes[name]))
        return onnx.helper.make_tensor_value_info(name, dtype, shape)


def channels_first_tensors(graph: Any, constants: Mapping[str, Any]) -> set[str]:
    """The activations of a graph that are NCHW; its inputs and what is not found are NHWC, like LiteRT's.

    Shapes cannot tell (1, 16, 16, 16) apart, so the layout spreads from the operations that demand one, over
    the operations that keep it, until nothing changes.
    """
    first: dict[str, bool] = {value.name: False for value in graph.input}
    for node in graph.node:
        if node.op_type in CHANNELS_FIRST_KINDS:
            first[node.input[0]] = first[node.output[0]] = True
    changed = True
    while changed:
        before = len(first)
        for node in graph.node:
            _spread(node, first, constants)
        changed = len(first) > before
    return {name for name, is_first in first.items() if is_first}


def _spread(node: Any, first: dict[str, bool], constants: Mapping[str, Any]) -> None:
    if node.op_type == "Transpose":
        permutation = tuple(next((item.ints for item in node.attribute if item.name == "perm"), ()))
        if permutation in (TO_CHANNELS_FIRST, TO_CHANNELS_LAST):
            first.setdefault(node.input[0], permutation == TO_CHANNELS_LAST)
            first.setdefault(node.output[0], permutation == TO_CHANNELS_FIRST)
    elif node.op_type in SAME_LAYOUT_KINDS:
        names = [name for name in (*node.input, *node.output) if name and name not in constants]
        layout = next((first[name] for name in names if name in first), None)
        if layout is not None:
            for name in names:
                first.setdefault(name, layout)


def open_layers(path: str, *, threads: int) -> Layers:
    """Load the file to be cut."""
    return Layers(path, threads=threads)
