"""Reading an .onnx file: a protobuf; dtypes, shapes and grids of intermediates come from the operations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.errors import ArtifactError
from edgeship.graph.grids import attach_grids, grid_positions
from edgeship.graph.records import BROKEN_CONTENT, Graph, Operation, Tensor, require_operands

UINT8 = 2  # TensorProto.UINT8, what a QuantizeLinear without a zero point makes
SAME_SHAPE = frozenset({
    "QuantizeLinear", "DequantizeLinear", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "Softmax", "Cast",
    "Identity", "QLinearSoftmax", "QLinearSigmoid", "QLinearLeakyRelu",
})


def read_onnx(content: bytes, *, where: Path) -> Graph:
    """Read the bytes of an .onnx file; `where` is named in messages.

    An integer tensor's grid comes from the QuantizeLinear that makes it, or else from the DequantizeLinear
    that reads it; a constant that several read with different scales has none of its own
    (`Graph.before_dequantize` gives the one of each use). dtypes and shapes of intermediates are worked out
    only where a simple rule gives them.

    Raises:
        ArtifactError: not ONNX, broken, or with external data, control flow, functions or sparse tensors.
    """
    # Imported here: only reading an ONNX file should pay for it.
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.ModelProto.FromString(content)
        return _Reader(model, where).graph()
    except (DecodeError, *BROKEN_CONTENT) as error:
        raise ArtifactError(
            f"{where}: expected an ONNX model, found {len(content):,} bytes that are broken, cut off or "
            f"something else ({type(error).__name__}: {error}); copy or export it again"
        ) from error


class _Reader:
    """One walk over one model: constants, then declared tensors, then node by node."""

    def __init__(self, model: Any, where: Path) -> None:
        self.model = model
        self.where = where
        self.tensors: dict[str, Tensor] = {}

    def graph(self) -> Graph:
        self.refuse_unsupported()
        source = self.model.graph
        for constant in source.initializer:
            self.add(self.constant(_text(constant.name), constant))
        inputs = tuple(_text(value.name) for value in source.input if value.name not in self.tensors)
        declared = {value.name: value for value in (*source.input, *source.output, *source.value_info)}
        for name in inputs:
            dtype, shape = _declared(declared[name])
            self.add(Tensor(name=name, dtype=dtype, shape=shape))
        operations = tuple(self.operation(node, declared) for node in source.node)
        attach_grids(self.tensors, operations)
        outputs = tuple(_text(value.name) for value in source.output)
        missing = [name for name in outputs if name not in self.tensors]
        if missing:
            raise ValueError(f"nothing makes the output {missing[0]!r}")
        return Graph(
            format="onnx", inputs=inputs, outputs=outputs, tensors=self.tensors, operations=operations,
            versions={
                "ir": self.model.ir_version,
                **{_text(entry.domain) or "ai.onnx": entry.version for entry in self.model.opset_import},
            },
            metadata={
                "description": _text(self.model.doc_string),
                "producer": f"{self.model.producer_name} {self.model.producer_version}".strip(),
                **{_text(entry.key): _text(entry.value) for entry in self.model.metadata_props},
            },
        )

    def refuse_unsupported(self) -> None:
        source = self.model.graph
        if not source.node or not source.output or not self.model.opset_import:
            raise ValueError(
                f"{len(source.node)} nodes, {len(source.output)} outputs and "
                f"{len(self.model.opset_import)} opsets: not a whole model"
            )
        if self.model.functions or source.sparse_initializer:
            raise ArtifactError(
                f"{self.where}: model-local functions and sparse tensors are not supported; "
                "export it with functions inlined and tensors dense"
            )

    def add(self, tensor: Tensor) -> None:
        if not tensor.name or tensor.name in self.tensors:
            raise ValueError(f"the tensor name {tensor.name!r} is empty or defined twice")
        self.tensors[tensor.name] = tensor

    def constant(self, name: str, source: Any) -> Tensor:
        """A constant tensor from a TensorProto."""
        import onnx

        if source.data_location == onnx.TensorProto.EXTERNAL:
            raise ArtifactError(
                f"{self.where}: the weights of {name!r} are in another file (external data), which is not "
                "supported; save the model as one file, for example with onnx.save(onnx.load(path), path)"
            )
        shape = tuple(source.dims)
        if any(size < 0 for size in shape):
            raise ValueError(f"constant {name!r} has the shape {shape}")
        data = onnx.numpy_helper.to_array(source)
        if data.size != math.prod(shape):
            raise ValueError(f"constant {name!r} of shape {shape} holds {data.size:,} values")
        data.flags.writeable = False
        return Tensor(name=name, dtype=_dtype(source.data_type), shape=shape, data=data)

    def operation(self, node: Any, declared: dict[str, Any]) -> Operation:
        operation = Operation(
            kind=_text(node.op_type),
            name=_text(node.name or next(filter(None, node.output), "")),
            inputs=tuple(map(_text, node.input)),
            outputs=tuple(map(_text, node.output)),
            attributes={_text(item.name): self.attribute(item, node) for item in node.attribute},
            domain="" if node.domain == "ai.onnx" else _text(node.domain),
        )
        unknown = [name for name in operation.inputs if name and name not in self.tensors]
        if unknown:
            raise ValueError(f"{operation.kind} {operation.name!r} reads {unknown[0]!r}, not made before it")
        require_operands(operation)
        for index, name in enumerate(operation.outputs):
            if name:
                self.add(self.intermediate(name, operation, declared.get(name), first=index == 0))
        return operation

    def attribute(self, source: Any, node: Any) -> Any:
        import onnx

        if source.g.node or source.graphs:
            raise ArtifactError(
                f"{self.where}: {node.op_type} {node.name!r} holds a graph of its own (control flow), "
                "which is not supported; export the model without If, Loop and Scan"
            )
        value = onnx.helper.get_attribute_value(source)
        if isinstance(value, onnx.TensorProto):
            return self.constant(f"{node.op_type} {node.name!r} {source.name}", value).data
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, list):
            return tuple(item.decode() if isinstance(item, bytes) else item for item in value)
        return value

    def intermediate(self, name: str, operation: Operation, declared: Any, *, first: bool) -> Tensor:
        """An operation's output: declared in the file, or by rule, or unknown."""
        if operation.kind == "Constant" and len(operation.attributes) == 1:
            data = np.asarray(next(iter(operation.attributes.values())))
            if data.dtype == np.float64 and "value" not in operation.attributes:
                data = data.astype(np.float32)  # value_float and value_floats are float32 in the file
            return Tensor(name=name, dtype=data.dtype.name, shape=data.shape, data=data)
        dtype, shape = _declared(declared) if declared is not None else ("unknown", None)
        source = self.tensors.get(operation.inputs[0]) if operation.inputs else None
        if dtype == "unknown" and first:
            dtype = self.output_dtype(operation, source)
        if shape is None and source is not None and operation.kind in SAME_SHAPE:
            shape = source.shape
        return Tensor(name=name, dtype=dtype, shape=shape)

    def output_dtype(self, operation: Operation, source: Tensor | None) -> str:
        """The dtype of an operation's first output by the operator's definition."""
        _, output = grid_positions(operation)
        if output is not None:
            unsaid = operation.attributes.get("output_dtype") or UINT8
            return self.dtype_of_input(operation, output[1], otherwise=_dtype(unsaid))
        match operation.kind:
            case "DequantizeLinear":
                return self.dtype_of_input(operation, 1, otherwise="float32")
            case "MatMulIntegerToFloat":
                return "float32"
            case "DynamicQuantizeLinear":
                return "uint8"
            case "ConvInteger" | "MatMulInteger":
                return "int32"
            case "Cast":
                return _dtype(operation.attributes["to"])
            case "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero":
                return "int64"
        return source.dtype if source is not None else "unknown"

    def dtype_of_input(self, operation: Operation, position: int, *, otherwise: str) -> str:
        given = operation.inputs[position] if position < len(operation.inputs) else ""
        return self.tensors[given].dtype if given else otherwise


def _text(value: Any) -> str:
    """A string of the file; protobuf gives bytes where it is not UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"the name {value!r} is not UTF-8")
    return value


def _dtype(number: int) -> str:
    """TensorProto's data type as numpy's name, or its own name in small letters."""
    import onnx

    if number == onnx.TensorProto.STRING:
        return "string"
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number)).name)


def _declared(value: Any) -> tuple[str, tuple[int | None, ...] | None]:
    """dtype and shape of a ValueInfoProto; a dimension that is symbolic or unknown is None."""
    kind = value.type.tensor_type
    dtype = _dtype(kind.elem_type) if kind.elem_type else "unknown"
    if not kind.HasField("shape"):
        return dtype, None
    return dtype, tuple(
        size.dim_value if size.HasField("dim_value") and size.dim_value >= 0 else None
        for size in kind.shape.dim
    )
