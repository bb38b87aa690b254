"""Which operations a runtime really executes as integers: pure functions over what the runtime tells.

An artifact full of int8 tensors proves nothing: ONNX Runtime runs a quantized convolution in float, between a
DequantizeLinear and a QuantizeLinear, whenever its fusion rules do not match, and nothing warns about it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.core.artifact import Quantization
from edgeship.core.measurement import Coverage
from edgeship.graph.kinds import CONVERSIONS, TFLITE_CONVOLUTIONS

INTEGERS = frozenset({"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"})

DELEGATE = "DELEGATE"
# `weighted` counts convolutions only: quantization-aware training gives a dense layer one scale for all its
# outputs on purpose, and the files say so; convolutions are trained per channel and must run so.
WEIGHTS_INPUT = 1  # of all TFLITE_CONVOLUTIONS

KERNEL_SUFFIX = "_kernel_time"
ORT_CONVOLUTIONS = frozenset({"QLinearConv"})
# Their float inputs are scales; the second of these belongs to the weights of a convolution.
ORT_WITH_SCALES = ("QLinear", "QGemm")
WEIGHT_SCALE = 1
# Of any runtime: what stands beside a float operation and would not be there without it, which is counted itself.
FOLLOWING_KINDS = CONVERSIONS | {"Transpose", "ReorderInput", "ReorderOutput"}
# ONNX Runtime moves a Transpose through a float operation, and gives the other operand as many axes. What it adds is
# called as its kind is, as nothing in an exported file is.
RUNTIMES_OWN = frozenset({"Unsqueeze", "Squeeze"})
FLOAT_RESIZE = "Resize"
SOFTMAXES = frozenset({"SOFTMAX", "Softmax"})
TO_FLOAT = frozenset({"DEQUANTIZE", "DequantizeLinear"})
RUNTIME_SUFFIX = re.compile(r"(_nchwc|_token_\d+)+$")  # what ONNX Runtime appends to the name of what it rewrites
# Their further inputs are parameters (regions, factors), whatever type the pixels have.
ORT_WITH_PARAMETERS = frozenset({"Resize", "Upsample"})


@dataclass(frozen=True, kw_only=True)
class PlannedOperation:
    """One operation of LiteRT's plan; tensors by index, -1 where an optional one is absent."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PlannedTensor:
    """A tensor of LiteRT's plan."""

    name: str
    dtype: str
    scales: int  # how many; 0: not quantized
    channels: int | None  # length of the axis the scales run along


def coverage_of_answer(plan: Mapping[str, Any] | None) -> tuple[Coverage | None, tuple[str, ...]]:
    """Coverage from what a runner answered to "plan"; None where its runtime does not tell.

    Raises:
        ValueError, KeyError, TypeError: a plan of another form.
    """
    if not plan:
        return None, ()
    (runtime, content), = plan.items()
    if runtime == "onnxruntime":
        return coverage_of_profile(content["events"])
    if runtime != "litert":
        raise ValueError(f"expected the plan of litert or onnxruntime, found {runtime!r}")
    operations = [
        PlannedOperation(kind=item["kind"], inputs=tuple(item["inputs"]), outputs=tuple(item["outputs"]))
        for item in content["operations"]
    ]
    tensors = {
        item["index"]: PlannedTensor(
            name=item["name"], dtype=item["dtype"], scales=item["scales"], channels=item["channels"]
        )
        for item in content["tensors"]
    }
    return coverage_of_plan(operations, tensors, ends=content["ends"])


def coverage_of_plan(
    operations: Sequence[PlannedOperation],
    tensors: Mapping[int, PlannedTensor],
    *,
    ends: Sequence[int] = (),
) -> tuple[Coverage, tuple[str, ...]]:
    """Coverage of a LiteRT interpreter, and what its delegates took (as sentences).

    An operation is integer when all its tensors are: XNNPACK and the built-in kernels choose their arithmetic
    by these types. DELEGATE entries stand for operations that are listed as well, so they are not counted; neither
    are the conversions at the ends of a file with float inputs and outputs, which a note tells of; `ends` are the
    graph's inputs and outputs.
    """
    listed = [operation for operation in operations if operation.kind != DELEGATE]
    # Sets, here and below: an untrusted plan may have tens of thousands of operations.
    conversions = {
        operation for operation in listed
        if (operation.kind == "QUANTIZE" and operation.inputs[0] in ends)
        or (operation.kind == "DEQUANTIZE" and operation.outputs[0] in ends)
    }
    executed = [operation for operation in listed if operation not in conversions]
    float_ops = [operation for operation in executed if not _all_integer(operation, tensors)]
    in_float = set(float_ops)
    weighted = [
        tensors[operation.inputs[WEIGHTS_INPUT]] for operation in executed
        if operation.kind in TFLITE_CONVOLUTIONS and operation not in in_float
    ]
    coverage = Coverage(
        integer=len(executed) - len(float_ops),
        total=len(executed),
        float_ops=tuple(f"{item.kind} {tensors[item.outputs[0]].name}" for item in float_ops),
        per_channel=sum(item.scales > 1 or item.channels == item.scales == 1 for item in weighted),
        weighted=len(weighted),
    )
    notes = (f"float inputs and outputs: {len(conversions)} conversions at its ends",) if conversions else ()
    return coverage, (*notes, *_delegate_notes(operations, executed, listed))


def delegated(operations: Sequence[PlannedOperation]) -> list[PlannedOperation]:
    """The operations a delegate took: those between a DELEGATE's inputs and its outputs."""
    producers = {
        index: operation for operation in operations if operation.kind != DELEGATE
        for index in operation.outputs
    }
    taken: dict[PlannedOperation, None] = {}  # a set that keeps its order
    for delegate in (operation for operation in operations if operation.kind == DELEGATE):
        waiting, inputs = list(delegate.outputs), set(delegate.inputs)
        while waiting:
            operation = producers.get(waiting.pop())
            if operation is None or operation in taken:
                continue
            taken[operation] = None
            waiting += [index for index in operation.inputs if index not in inputs]
    return list(taken)


def coverage_of_profile(events: Sequence[Mapping[str, Any]]) -> tuple[Coverage, tuple[str, ...]]:
    """Coverage of an ONNX Runtime session, from the trace of one inference (its profile file).

    Whatever reads or writes floats is a float operation, QuantizeLinear and DequantizeLinear included; the
    scales that integer kernels take do not count. The weights of an integer kernel are not in the trace
    (they were packed when the session started), but their scales are.
    """
    kernels = [
        event for event in events
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL_SUFFIX)
    ]
    float_ops = [event for event in kernels if _computes_in_float(event["args"])]
    weighted = [
        _has_scale_per_channel(event["args"]) for event in kernels
        if event["args"]["op_name"] in ORT_CONVOLUTIONS and event not in float_ops
    ]
    known = [answer for answer in weighted if answer is not None]
    coverage = Coverage(
        integer=len(kernels) - len(float_ops),
        total=len(kernels),
        float_ops=tuple(
            f"{event['args']['op_name']} {event['name'].removesuffix(KERNEL_SUFFIX)}" for event in float_ops
        ),
        per_channel=sum(known) if len(known) == len(weighted) else None,
        weighted=len(weighted),
    )
    return coverage, ()


def as_promised(coverage: Coverage, account: Quantization | None) -> Coverage:
    """The same, with what the manifest says of the scheme: the layers kept in float, and the scales of weights."""
    if account is None:
        return with_kept_float(coverage, ())
    kept = with_kept_float(coverage, account.kept_float, outputs=account.float_outputs)
    return dataclasses.replace(kept, weight_scales=account.weight_scales)


def with_kept_float(coverage: Coverage, layers: Collection[str], *, outputs: Collection[str] = ()) -> Coverage:
    """The same, with the float operations that follow from layers kept in float told apart from the others.

    So are those of a Resize that ONNX Runtime has no integer kernel for, and the softmaxes of `outputs`, which are
    computed in float on purpose, each with the conversion of its logits.

    An operation belongs to a layer when its name is the layer's or begins with that and a "/": export names tensors
    and nodes so.
    """
    kept = tuple(operation for operation in coverage.float_ops if layers and _is_kept(operation, layers))
    kept = kept or tuple(_resizes(coverage.float_ops))
    kept += tuple(_softmaxes([operation for operation in coverage.float_ops if operation not in kept], outputs))
    others = tuple(operation for operation in coverage.float_ops if operation not in kept)
    return dataclasses.replace(coverage, float_ops=others, kept_float=kept)


def _resizes(operations: Sequence[str]) -> Iterator[str]:
    """Of ONNX Runtime's: each Resize with one conversion before and one behind it.

    Its integer Resize cuts off what is behind the point instead of rounding, so the exported file has a linear one in
    float; a nearest one is executed on integers.
    """
    count = sum(operation.startswith(f"{FLOAT_RESIZE} ") for operation in operations)
    left = {FLOAT_RESIZE: count, "DequantizeLinear": count, "QuantizeLinear": count}
    for operation in operations:
        kind = operation.partition(" ")[0]
        if left.get(kind, 0) > 0:
            left[kind] -= 1
            yield operation


def _softmaxes(operations: Sequence[str], outputs: Collection[str]) -> Iterator[str]:
    """Of the softmaxes that make `outputs`: each, and as many conversions to float32."""
    found = [item for item in operations if item.partition(" ")[0] in SOFTMAXES and item.partition(" ")[2] in outputs]
    yield from found
    yield from [item for item in operations if item.partition(" ")[0] in TO_FLOAT][: len(found)]


def _is_kept(operation: str, layers: Collection[str]) -> bool:
    kind, _, name = operation.partition(" ")
    name = RUNTIME_SUFFIX.sub("", name)
    if kind in RUNTIMES_OWN and name == kind:
        return True
    return kind in FOLLOWING_KINDS or any(name == layer or name.startswith(f"{layer}/") for layer in layers)


def _all_integer(operation: PlannedOperation, tensors: Mapping[int, PlannedTensor]) -> bool:
    indices = [index for index in (*operation.inputs, *operation.outputs) if index >= 0]
    return all(tensors[index].dtype in INTEGERS for index in indices)


def _delegate_notes(
    operations: Sequence[PlannedOperation], executed: Sequence[PlannedOperation], listed: Sequence[PlannedOperation]
) -> tuple[str, ...]:
    if len(listed) == len(operations):
        return ()
    taken = set(delegated(operations))
    left = [operation.kind for operation in executed if operation not in taken]
    rest = f"; built-in kernels execute {', '.join(left)}" if left else ""
    inside = [operation for operation in executed if operation in taken]
    return (f"the delegate executes {len(inside)} of {len(executed)} operations{rest}",)


def _computes_in_float(arguments: Mapping[str, Any]) -> bool:
    kind, inputs = arguments["op_name"], _types(arguments["input_type_shape"])
    if kind.startswith(ORT_WITH_SCALES) or kind in ORT_WITH_PARAMETERS:
        inputs = inputs[:1]
    return not INTEGERS.issuperset(inputs + _types(arguments["output_type_shape"]))


def _types(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for entry in entries for name in entry]


def _has_scale_per_channel(arguments: Mapping[str, Any]) -> bool | None:
    """None where the trace does not show the scale of the weights."""
    scales = [entry["float"] for entry in arguments["input_type_shape"] if "float" in entry]
    if len(scales) <= WEIGHT_SCALE:
        return None
    length = scales[WEIGHT_SCALE][0] if scales[WEIGHT_SCALE] else 1
    biases = [entry["int32"] for entry in arguments["input_type_shape"] if "int32" in entry]
    return bool(length > 1 or biases == [[1]])  # one output channel has one scale
