"""What has no noise: what a runtime really executes of a file, and what that costs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship.core.errors import ArtifactError, RuntimeFailure, TargetFailure
from edgeship.core.measurement import Coverage
from edgeship.graph import Graph, read_graph
from edgeship.graph.costs import arena_bytes, multiply_accumulates
from edgeship.validate.process.client import Worker
from edgeship.validate.questions.coverage import (
    DELEGATE,
    KERNEL_SUFFIX,
    PlannedOperation,
    coverage_of_answer,
    delegated,
)
from edgeship.validate.targets.target import Target
from edgeship.validate.timing.times import instructions_of

MEMORY_RUNS = 3  # the first one allocates
# Between two activations each of these is the model's own; of a constant (a bias, a normalization) it is work that
# belongs into the operation before it.
ARITHMETIC = frozenset({"ADD", "SUB", "MUL", "DIV", "Add", "Sub", "Mul", "Div", "QLinearAdd", "QLinearMul"})
OF_A_CONSTANT = " of a constant"
# Bytes of constants that such a kernel of 8-bit integers has in any case: three scales and three zero points.
GRID_BYTES = 3 * 4 + 3 * 1
# How the name of what ONNX Runtime itself made ends; before that is its kind, or the name of what it made it from.
GENERATED = re.compile(r"_token_\d+$")

NOT_TOLD = "the runtime does not tell there"
NOT_READ = "only the runtime itself can read an .ort file"
NOT_COUNTED = "the file has shapes or operations for which they cannot be counted"
NOT_PLANNED = "the file has shapes that are not fixed"
NO_ARENA = "this version of ONNX Runtime does not tell its memory"
NO_MEMORY = "the target does not tell the memory of a process"


@dataclass(frozen=True, kw_only=True)
class Delegation:
    """What delegates took of LiteRT's plan of so many `operations`; `left` are the others: "SOFTMAX name"."""

    partitions: int
    operations: int
    left: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One artifact on one runtime of one target. None: not known, or without a meaning there."""

    operations: Mapping[str, tuple[str, ...]] | None  # kind -> the names of those that were executed
    coverage: Coverage | None
    delegation: Delegation | None
    multiply_accumulates: int | None  # per inference
    size_bytes: int
    arena_bytes: int | None  # of activations, the most at once
    peak_memory_bytes: int | None  # of the whole process
    instructions: int | None  # per inference on one thread
    unknown: Mapping[str, str] = field(default_factory=dict)  # field that has a meaning there -> why it would be None


def measure_facts(
    *,
    label: str,
    path: Path,
    format: str,
    runtime: str,
    target: Target,
    threads: int,
    timeout_seconds: float,
    inputs: Sequence[Path],
    options: Mapping[str, Any],
    folder: Path,
) -> Facts:
    """Ask one process on the target that runs the file, and read the file itself.

    Args:
        label: what messages begin with.
        format: "tflite", "onnx" or "ort".
        inputs: an .npy file on this machine for each input of the file, with one example.
        options: for the runtime's `load`, besides the threads.
        folder: for files on the way.

    Raises:
        RuntimeFailure, TargetFailure: as Worker does.
    """
    there, example = target.put(path), [target.put(one) for one in inputs]
    with Worker(label, timeout_seconds=timeout_seconds, threads=threads, target=target, runtime=runtime) as worker:
        worker.ask("load", runtime=runtime, path=there, options={**options, "threads": threads})
        worker.ask("time", inputs=example, runs=MEMORY_RUNS, seconds=timeout_seconds, discarded=0)
        memory = worker.ask("memory")["peak_memory_bytes"]  # before the plan, for which a second session is made
        plan = worker.ask("plan")["plan"]
    graph = _graph(path)
    try:
        told = _told(plan, graph)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RuntimeFailure(f"{label}: its plan has another form than expected ({error!r})") from error
    instructions, not_counted = None, {}
    if target.counting_command(folder / "counts.txt") is not None:
        try:
            instructions = instructions_of(
                label=label, path=path, runtime=runtime, target=target, inputs=inputs,
                timeout_seconds=timeout_seconds, folder=folder,
            )
        except TargetFailure as error:  # newer versions of QEMU have another interface for plug-ins
            not_counted = {"instructions": str(error)}
    return Facts(
        **told, multiply_accumulates=_multiply_accumulates(graph, path, label, timeout_seconds),
        size_bytes=path.stat().st_size, peak_memory_bytes=memory if target.measures_time else None,
        instructions=instructions, unknown={**_reasons(format, target, planned=bool(plan)), **not_counted},
    )


def _reasons(format: str, target: Target, *, planned: bool) -> dict[str, str]:
    """Why each field of Facts would be None, where it has a meaning."""
    return {
        "operations": NOT_TOLD, "coverage": NOT_TOLD,
        **({"delegation": NOT_TOLD} if format == "tflite" else {}),
        "multiply_accumulates": NOT_READ if format == "ort" else NOT_COUNTED,
        "arena_bytes": NOT_PLANNED if format == "tflite" else NO_ARENA if planned else NOT_TOLD,
        **({"peak_memory_bytes": NO_MEMORY} if target.measures_time else {}),  # an emulator's is no device's
    }


def _told(plan: Mapping[str, Any] | None, graph: Graph | None) -> dict[str, Any]:
    """The fields of Facts that the plan tells. Raises KeyError, TypeError ... for one of another form."""
    coverage, _ = coverage_of_answer(plan)
    found: dict[str, Any] = {"operations": None, "coverage": coverage, "delegation": None, "arena_bytes": None}
    if graph is not None and graph.format == "tflite":
        found["arena_bytes"] = arena_bytes(graph)
    if plan and "litert" in plan:
        found |= {"operations": _grouped(litert_operations(plan["litert"])), "delegation": _delegation(plan["litert"])}
    elif plan:
        kernels = [
            event for event in plan["onnxruntime"]["events"]
            if event.get("cat") == "Node" and event["name"].endswith(KERNEL_SUFFIX)
        ]
        found |= {"operations": _grouped(traced_operations(kernels)), "arena_bytes": traced_arena_bytes(kernels)}
    return found


def litert_operations(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(kind, name) of each operation of LiteRT's plan, without the delegates that stand for several."""
    operations = [item for item in plan["operations"] if item["kind"] != DELEGATE]
    names = {tensor["index"]: tensor["name"] for tensor in plan["tensors"]}
    computed = {*plan["ends"], *(index for item in operations for index in item["outputs"])}
    return [
        (
            item["kind"] + OF_A_CONSTANT
            if item["kind"] in ARITHMETIC and not computed.issuperset(item["inputs"]) else item["kind"],
            names[item["outputs"][0]],
        )
        for item in operations
    ]


def traced_arena_bytes(kernels: Sequence[Mapping[str, Any]]) -> int | None:
    """The most that ONNX Runtime's arena gave to activations at once, from the trace of a session's first inference.

    The arena holds packed weights too, so what it held before the first kernel is taken off. The input is not in it.
    """
    try:
        held = [int(event["args"]["mem_bytes_requested_in_use"]) for event in kernels]
        return max(held) - held[0] + int(kernels[0]["args"]["mem_requested_in_use_delta"])
    except (KeyError, IndexError, ValueError):  # not every version's trace has these figures
        return None


def traced_operations(kernels: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(kind, name) of each kernel of ONNX Runtime's trace.

    What the runtime itself puts in has no name of the file, only a number that differs from session to session, so it
    is called after the kernel before it.
    """
    found: list[tuple[str, str]] = []
    before = "the input"
    for event in kernels:
        kind, name = event["args"]["op_name"], GENERATED.sub("", event["name"].removesuffix(KERNEL_SUFFIX))
        if name == kind:
            name = f"after {before}"
        else:
            before = name
        constants = int(event["args"].get("parameter_size", 0))
        of_a_constant = kind in ARITHMETIC and constants > (GRID_BYTES if kind.startswith("QLinear") else 0)
        found.append((kind + OF_A_CONSTANT if of_a_constant else kind, name))
    return found


def _grouped(operations: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for kind, name in operations:
        found.setdefault(kind, []).append(name)
    return {kind: tuple(names) for kind, names in sorted(found.items())}


def _delegation(plan: Mapping[str, Any]) -> Delegation:
    operations = [
        PlannedOperation(kind=item["kind"], inputs=tuple(item["inputs"]), outputs=tuple(item["outputs"]))
        for item in plan["operations"]
    ]
    names = {tensor["index"]: tensor["name"] for tensor in plan["tensors"]}
    listed = [operation for operation in operations if operation.kind != DELEGATE]
    taken = {operation.outputs for operation in delegated(operations)}
    return Delegation(
        partitions=len(operations) - len(listed), operations=len(listed),
        left=tuple(f"{item.kind} {names[item.outputs[0]]}" for item in listed if item.outputs not in taken),
    )


def _graph(path: Path) -> Graph | None:
    try:
        return read_graph(path)
    except ArtifactError:  # an .ort file
        return None


def _multiply_accumulates(graph: Graph | None, path: Path, label: str, timeout_seconds: float) -> int | None:
    if graph is None or graph.format == "tflite":
        return None if graph is None else multiply_accumulates(graph)
    # ONNX's own shape inference is native code, and the file is not ours to trust: in a process of its own, here.
    try:
        with Worker(label, timeout_seconds=timeout_seconds) as worker:
            shapes = worker.ask("shapes", path=str(path))["shapes"]
    except RuntimeFailure:  # what runs is not broken because this cannot read it
        return multiply_accumulates(graph)
    return multiply_accumulates(graph, {name: tuple(shape) for name, shape in shapes.items()})
