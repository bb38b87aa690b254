"""Facts of real files on real runtimes, and the gates on them: what a conversion can lose, lost on purpose."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.core.comparison import NOT_MEASURED, SAME, WORSE, Exact
from edgeship.core.errors import RuntimeFailure
from edgeship.validate.compare.exact import judge_facts
from edgeship.validate.compare.facts import (
    OF_A_CONSTANT,
    Facts,
    litert_operations,
    measure_facts,
    traced_arena_bytes,
    traced_operations,
)
from edgeship.validate.targets import arm64_root as root
from edgeship.validate.targets.arm64 import Arm64Target
from edgeship.validate.targets.ssh import SshTarget
from edgeship.validate.targets.target import Target
from tests.support.ssh_board import running_board

RUNTIMES = {".tflite": "litert", ".onnx": "onnxruntime", ".ort": "onnxruntime"}
SIZE = 16  # of tiny_bundle's images
CHAIN_SIZE = 192
DTYPES = {"float32": np.float32, "int8": np.int8, "uint8": np.uint8}

Measure = Callable[..., Facts]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    def measured(path: Path, dtype: str, *, target: Target | None = None, shape: Sequence[int] = ()) -> Facts:
        inputs = tmp_path / f"{dtype}.npy"
        np.save(inputs, np.zeros(shape or (1, SIZE, SIZE, 1), DTYPES[dtype]))
        return measure_facts(
            label=path.name, path=path, format=path.suffix[1:], runtime=RUNTIMES[path.suffix],
            target=target or Target(), threads=1, timeout_seconds=120, inputs=(inputs,), options={}, folder=tmp_path,
        )

    return measured


@pytest.fixture(scope="module")
def plain(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .tflite file as tf2onnx converts it: without what makes ONNX Runtime's integer kernels match."""
    path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    subprocess.run(
        [sys.executable, "-m", "tf2onnx.convert", "--tflite", tiny_bundle / "int8-qat.tflite", "--opset", "17",
         "--output", path],
        check=True, capture_output=True,
    )
    return path


def gates(baseline: Facts, candidate: Facts) -> dict[str, Exact]:
    return {item.gate: item for item in judge_facts(baseline, candidate, tolerance=0.02, limit=0.05)}


def altered(path: Path, change: Callable[[onnx.ModelProto], None], to: Path) -> Path:
    model = onnx.load(path)
    change(model)
    to.write_bytes(model.SerializeToString())
    return to


def behind(model: onnx.ModelProto, tensor: str, node: onnx.NodeProto) -> None:
    """Put a node between a tensor and those that read it; it reads the tensor and writes `{tensor}/behind`."""
    position = next(index for index, item in enumerate(model.graph.node) if tensor in item.output)
    for item in model.graph.node:
        for index, name in enumerate(item.input):
            if name == tensor:
                item.input[index] = f"{tensor}/behind"
    model.graph.node.insert(position + 1, node)


# What is measured -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "dtype"), [
    ("int8-qat.tflite", "int8"), ("float32.tflite", "float32"), ("int8-qat.onnx", "uint8"), ("float32.onnx", "float32"),
])
def test_a_file_against_itself(tiny_bundle: Path, measure: Measure, file: str, dtype: str) -> None:
    path = tiny_bundle / file
    found = gates(measure(path, dtype), measure(path, dtype))
    assert {gate: item.sentence for gate, item in found.items() if item.outcome != SAME} == {}
    assert {"operations", "coverage", "multiply_accumulates", "size_bytes", "arena_bytes"} <= set(found)
    assert ("delegate" in found) == (path.suffix == ".tflite")
    assert ("per_channel" in found) == (file.startswith("int8"))


def test_both_formats_of_one_model_cost_alike(tiny_bundle: Path, measure: Measure) -> None:
    """LiteRT's figures are worked out from the file, ONNX Runtime's arena is what it really gave out."""
    lite, ort = measure(tiny_bundle / "int8-qat.tflite", "int8"), measure(tiny_bundle / "int8-qat.onnx", "uint8")
    assert lite.multiply_accumulates == ort.multiply_accumulates
    assert lite.arena_bytes == ort.arena_bytes
    assert len(lite.operations["CONV_2D"]) == len(ort.operations["QLinearConv"])
    # The softmax is the only one that XNNPACK does not take of an int8 file.
    assert lite.delegation.partitions == 1 and lite.delegation.left == ("SOFTMAX probabilities",)
    lite_float = measure(tiny_bundle / "float32.tflite", "float32")
    assert lite_float.arena_bytes == 4 * lite.arena_bytes
    assert lite_float.delegation.left == () and lite_float.coverage.integer == 0


def test_an_ort_file_is_known_to_its_runtime_only(tiny_bundle: Path, measure: Measure) -> None:
    facts, onnx_facts = measure(tiny_bundle / "int8-qat.ort", "uint8"), measure(tiny_bundle / "int8-qat.onnx", "uint8")
    assert facts.multiply_accumulates is None
    assert facts.coverage.share == 1.0 and facts.arena_bytes == onnx_facts.arena_bytes
    found = gates(facts, facts)["multiply_accumulates"]
    assert (found.outcome, found.sentence) == (
        NOT_MEASURED, "multiply-accumulates: not known, since only the runtime itself can read an .ort file"
    )


def test_a_file_that_does_not_load_ends_in_its_runtimes_error(tmp_path: Path, measure: Measure) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(RuntimeFailure, match=r"broken\.onnx: .* while loading the file"):
        measure(broken, "float32")


class ToldNothing(Target):
    """A process that tells neither plan nor memory, as the bridges to makers' tools."""

    def command(self, runtime: str) -> Sequence[str]:
        return (sys.executable, "-c", (
            "from edgeship.validate.runner import protocol, session\n"
            "class Session(session.Session):\n"
            "    def do_plan(self): return {'plan': None, 'notes': ['it does not tell']}\n"
            "    def do_memory(self): return {'peak_memory_bytes': None}\n"
            "protocol.serve_pipes(Session)\n"
        ))


def test_a_tool_that_tells_nothing_has_what_the_file_tells(tiny_bundle: Path, measure: Measure) -> None:
    facts = measure(tiny_bundle / "int8-qat.tflite", "int8", target=ToldNothing())
    assert (facts.operations, facts.coverage, facts.delegation, facts.peak_memory_bytes) == (None,) * 4
    found = gates(facts, facts)
    assert {gate for gate, item in found.items() if item.outcome == NOT_MEASURED} == {
        "operations", "coverage", "delegate", "peak_memory_bytes"
    }
    assert {found[gate].outcome for gate in ("multiply_accumulates", "size_bytes", "arena_bytes")} == {SAME}
    ort = measure(tiny_bundle / "int8-qat.onnx", "uint8", target=ToldNothing())
    assert {gate for gate, item in gates(ort, ort).items() if item.outcome == NOT_MEASURED} == {
        "operations", "coverage", "arena_bytes", "peak_memory_bytes"
    }


def test_a_board_behind_ssh_tells_the_same(
    tiny_bundle: Path, measure: Measure, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("place")
    with running_board(tmp_path_factory.mktemp("board")) as board, SshTarget(
        name=board.url, ssh=board.ssh_command.split(), python=sys.executable, folder=str(folder)
    ) as target:
        there = measure(tiny_bundle / "int8-qat.onnx", "uint8", target=target)
    here = measure(tiny_bundle / "int8-qat.onnx", "uint8")
    assert {item.outcome for item in gates(here, there).values() if item.gate != "peak_memory_bytes"} == {SAME}
    assert there.peak_memory_bytes > 0


@pytest.mark.skipif(root.installed_versions() is None, reason="needs the root file system of `edgeship setup arm64`")
def test_an_emulated_processor_counts_instructions(tiny_bundle: Path, measure: Measure) -> None:
    with Arm64Target("arm64:cortex-a76") as target:
        facts = measure(tiny_bundle / "int8-qat.tflite", "int8", target=target)
        again = measure(tiny_bundle / "int8-qat.tflite", "int8", target=target)
    assert facts.instructions > facts.multiply_accumulates / 16  # no instruction of this processor does more
    found = gates(facts, again)
    assert abs(again.instructions / facts.instructions - 1) < 0.005 and found["instructions"].outcome != WORSE
    assert "peak_memory_bytes" not in found  # an emulator's is no device's


# What a conversion can lose ---------------------------------------------------------------------------


def test_the_plain_conversion_fails_with_its_operations_named(
    tiny_bundle: Path, plain: Path, measure: Measure
) -> None:
    found = gates(measure(tiny_bundle / "int8-qat.onnx", "uint8"), measure(plain, "int8"))
    assert found["operations"].outcome == found["coverage"].outcome == WORSE
    sentence = found["operations"].sentence
    for part in ("QLinearConv, found", "and in float", " Conv (stem_conv", "expected 0 DequantizeLinear, found"):
        assert part in sentence, sentence
    assert found["multiply_accumulates"].outcome == SAME  # it computes the same, in another way


def test_an_inserted_transpose_fails(tiny_bundle: Path, measure: Measure, tmp_path: Path) -> None:
    source = tiny_bundle / "int8-qat.onnx"

    def insert(model: onnx.ModelProto) -> None:
        pool = next(node for node in model.graph.node if node.op_type == "MaxPool")
        quantize = next(node for node in model.graph.node if pool.output[0] in node.input)
        tensor = quantize.output[0]
        behind(model, tensor, helper.make_node("Transpose", [tensor], [f"{tensor}/behind"], "extra", perm=(0, 1, 3, 2)))

    before = measure(source, "uint8")
    found = gates(before, measure(altered(source, insert, tmp_path / "transposed.onnx"), "uint8"))["operations"]
    # ONNX Runtime puts its own around it, and names none; where they stand tells which is meant.
    count = len(before.operations["Transpose"])
    assert found.outcome == WORSE
    assert found.sentence.startswith(f"operations: expected {count} Transpose, found "), found.sentence
    assert "MaxPool" in found.sentence or "stem_pool" in found.sentence, found.sentence


def test_a_relu_that_is_no_longer_fused_fails(tiny_bundle: Path, measure: Measure, tmp_path: Path) -> None:
    """The convolution's own result is asked for too, so its Relu has to stand alone."""
    source = tiny_bundle / "float32.onnx"

    def unfuse(model: onnx.ModelProto) -> None:
        relu = next(node for node in model.graph.node if node.op_type == "Relu")
        model.graph.output.append(helper.make_tensor_value_info(relu.input[0], TensorProto.FLOAT, None))

    found = gates(
        measure(source, "float32"), measure(altered(source, unfuse, tmp_path / "unfused.onnx"), "float32")
    )["operations"]
    assert found.outcome == WORSE
    assert " Relu, found " in found.sentence, found.sentence


@pytest.mark.parametrize(("kind", "named"), [("Add", True), ("Mul", True), ("Sigmoid", False)])
def test_a_bias_that_stands_alone_fails(
    chain: Callable[..., Path], measure: Measure, tmp_path: Path, kind: str, named: bool
) -> None:
    """Other operations more are told, and their time is measured."""
    source = chain(3)
    shape = (1, CHAIN_SIZE)

    def add(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.full((2, CHAIN_SIZE), 2, np.float32), "c"))
        inputs = ["y", "c"] if named else ["y"]
        model.graph.node.append(helper.make_node(kind, inputs, ["z"], "alone"))
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))

    before = measure(source, "float32", shape=shape)
    found = gates(before, measure(altered(source, add, tmp_path / "bias.onnx"), "float32", shape=shape))["operations"]
    assert (found.outcome == WORSE) == named
    expected = f"expected 0 {kind}{OF_A_CONSTANT}, found 1 (alone)" if named else f"0 {kind} before, 1 now"
    assert expected in found.sentence, found.sentence
    assert before.multiply_accumulates == 3 * CHAIN_SIZE**2


def test_conversions_at_the_ends_of_a_tflite_file_fail(tiny_bundle: Path, measure: Measure) -> None:
    found = gates(
        measure(tiny_bundle / "int8-qat.tflite", "int8"), measure(tiny_bundle / "int8-qat-float-io.tflite", "float32")
    )["operations"]
    assert found.outcome == WORSE
    assert "expected 0 QUANTIZE, found 1" in found.sentence and "expected 0 DEQUANTIZE, found 1" in found.sentence


# What runtimes tell -----------------------------------------------------------------------------------


def test_additions_of_constants_are_kinds_of_their_own() -> None:
    plan: dict[str, Any] = {
        "ends": [0, 6],
        "tensors": [{"index": index, "name": f"t{index}"} for index in range(7)],
        "operations": [
            {"kind": "CONV_2D", "inputs": [0, 1, -1], "outputs": [2]},
            {"kind": "ADD", "inputs": [2, 3], "outputs": [4]},  # 3: nobody computes it
            {"kind": "ADD", "inputs": [4, 2], "outputs": [5]},
            {"kind": "MUL", "inputs": [5, 0], "outputs": [6]},
            {"kind": "DELEGATE", "inputs": [0, 1, 3], "outputs": [6]},
        ],
    }
    assert litert_operations(plan) == [
        ("CONV_2D", "t2"), (f"ADD{OF_A_CONSTANT}", "t4"), ("ADD", "t5"), ("MUL", "t6")
    ]


def test_what_onnx_runtime_puts_in_is_called_after_what_is_before_it() -> None:
    def kernel(kind: str, name: str, constants: int = 0) -> dict[str, Any]:
        return {"name": f"{name}_kernel_time", "args": {"op_name": kind, "parameter_size": str(constants)}}

    assert traced_operations([
        kernel("Transpose", "Transpose"), kernel("QLinearConv", "stem/Conv_token_2"),
        kernel("Transpose", "Transpose_token_9"), kernel("Add", "add"), kernel("Add", "bias", 64),
        kernel("QLinearAdd", "qadd", 15), kernel("QLinearMul", "qmul", 79),
    ]) == [
        ("Transpose", "after the input"), ("QLinearConv", "stem/Conv"), ("Transpose", "after stem/Conv"),
        ("Add", "add"), (f"Add{OF_A_CONSTANT}", "bias"), ("QLinearAdd", "qadd"), (f"QLinearMul{OF_A_CONSTANT}", "qmul"),
    ]


def test_the_arena_without_the_weights_in_it() -> None:
    def kernel(held: int, more: int) -> dict[str, Any]:
        return {"args": {"mem_bytes_requested_in_use": str(held), "mem_requested_in_use_delta": str(more)}}

    assert traced_arena_bytes([kernel(1100, 100), kernel(1300, 200), kernel(1200, -100)]) == 300
    assert traced_arena_bytes([{"args": {"op_name": "Conv"}}]) is None  # another version
    assert traced_arena_bytes([]) is None
