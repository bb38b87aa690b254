"""The exact gates on facts as runtimes tell them: what fails, what is only told, and what is not known."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.core.comparison import CHANGED, NOT_MEASURED, SAME, WORSE, Exact
from edgeship.core.measurement import Coverage
from edgeship.validate.compare.exact import LONGEST_NAME, judge_facts
from edgeship.validate.compare.facts import Delegation, Facts

ONNX = {
    "QLinearConv": ("conv1", "conv2", "conv3"), "QLinearAdd": ("add1",), "QGemm": ("dense",), "Reshape": ("flat",),
}
TFLITE = {"CONV_2D": ("conv1", "conv2", "conv3"), "ADD": ("add1",), "RELU": ("relu1",)}
MIB = 1 << 20


def facts(**changed: Any) -> Facts:
    given: dict[str, Any] = {
        "operations": ONNX, "coverage": coverage(6, 6), "delegation": None, "multiply_accumulates": 1000,
        "size_bytes": 10_000, "arena_bytes": 500, "peak_memory_bytes": 100 * MIB, "instructions": None,
    }
    return Facts(**{**given, **changed})


def coverage(
    integer: int, total: int, *float_ops: str, per_channel: int | None = 3, weighted: int | None = 3
) -> Coverage:
    return Coverage(
        integer=integer, total=total, float_ops=float_ops, per_channel=per_channel, weighted=weighted
    )


def judged(baseline: Facts, candidate: Facts, *, tolerance: float = 0.02, limit: float = 0.05) -> dict[str, Exact]:
    return {item.gate: item for item in judge_facts(baseline, candidate, tolerance=tolerance, limit=limit)}


def operations(candidate: dict[str, tuple[str, ...]], baseline: dict[str, tuple[str, ...]] = ONNX) -> Exact:
    return judged(facts(operations=baseline), facts(operations=candidate))["operations"]


def one(field: str, before: Any, now: Any, **options: float) -> Exact:
    return judged(facts(**{field: before}), facts(**{field: now}), **options)[field]


def test_the_same_facts_pass_in_order() -> None:
    every = facts(delegation=Delegation(partitions=1, operations=6, left=()), instructions=1_000_000)
    gates = judge_facts(every, every, tolerance=0.02, limit=0.05)
    assert [item.gate for item in gates] == [
        "operations", "coverage", "per_channel", "delegate", "multiply_accumulates", "size_bytes", "arena_bytes",
        "peak_memory_bytes", "instructions",
    ]
    assert {item.outcome for item in gates} == {SAME}


def test_a_gate_without_a_meaning_is_left_out() -> None:
    assert not {"delegate", "instructions"} & set(judged(facts(), facts()))


@pytest.mark.parametrize("kind", [
    "Transpose", "QuantizeLinear", "DequantizeLinear", "Cast", "Pad", "Identity", "ReorderInput", "TRANSPOSE",
    "QUANTIZE", "DEQUANTIZE", "CAST", "PAD",
])
def test_more_of_what_computes_nothing_is_worse(kind: str) -> None:
    found = operations({**ONNX, kind: ("here", "there")})
    assert (found.outcome, found.baseline, found.candidate) == (WORSE, 6, 8)
    assert found.sentence == f"operations: expected 0 {kind}, found 2 (here, there)"
    # One more of them is as bad, and only that one is named.
    more = operations({**ONNX, kind: ("here", "new", "there")}, {**ONNX, kind: ("here", "there")})
    assert more.sentence == f"operations: expected 2 {kind}, found 3 (new)"
    assert operations(ONNX, {**ONNX, kind: ("here",)}).outcome == CHANGED  # fewer


def test_long_findings_are_cut() -> None:
    found = operations({
        **ONNX, "Transpose": tuple("abcdefgh"), "Cast": ("c", "d"), "Pad": ("p", "q"), "Identity": ("i",),
    })
    assert found.sentence == (
        "operations: expected 0 Transpose, found 8 (a, b, c and 5 more); expected 0 Cast, found 2 (c, d); expected 0 "
        "Pad, found 2 (p, q); more Identity (0 before, 1 now)"
    )


def test_long_names_keep_their_ends() -> None:
    """TensorFlow's converter joins the names of all that it fused."""
    joined = ";".join(f"model/stage1_unit1_{part}" for part in ("relu/Relu", "bn/FusedBatchNormV3", "conv/BiasAdd"))
    sentence = operations({**ONNX, "Relu": (joined,)}).sentence
    assert sentence == (
        "operations: expected 0 Relu, found 1 (model/stage1_unit1_relu/Relu;...el/stage1_unit1_conv/BiasAdd)"
    )
    kept = "k" * LONGEST_NAME
    assert kept in operations({**ONNX, "Relu": (kept,)}).sentence
    cut = operations({**ONNX, "Relu": (kept + "k",)}).sentence
    assert len(cut) == len(operations({**ONNX, "Relu": (kept,)}).sentence) and "kk...kk" in cut


@pytest.mark.parametrize("gate", ["operations", "coverage", "delegate"])
def test_names_of_files_command_no_terminal(gate: str) -> None:
    """A hostile file's operation moves the cursor, starts a line of its own, and turns the text around."""
    name = "a\x1b[2Kb\nc\u202ed"
    candidate = facts(
        operations={**ONNX, "Relu": (name,)}, coverage=coverage(6, 7, f"Relu {name}"),
        delegation=Delegation(partitions=1, operations=7, left=(f"RELU {name}",)),
    )
    found = judged(facts(delegation=Delegation(partitions=1, operations=6, left=())), candidate)[gate]
    assert found.outcome == WORSE
    assert "a�[2Kb�c�d" in found.sentence and found.sentence.isprintable()


def test_an_integer_kernel_that_became_float_is_worse() -> None:
    found = operations({**ONNX, "QLinearConv": ("conv1",), "Conv": ("conv2", "conv3")})
    assert found.outcome == WORSE
    assert found.sentence == "operations: expected 3 QLinearConv, found 1, and in float 2 Conv (conv2, conv3)"
    lost = {kind: names for kind, names in ONNX.items() if kind != "QGemm"}
    product = operations({**lost, "MatMul": ("dense",)})
    assert product.sentence == "operations: expected 1 QGemm, found 0, and in float 1 MatMul (dense)"
    assert operations({**ONNX, "QLinearConv": ("conv1", "conv2")}).outcome == CHANGED  # one layer less
    assert operations({**ONNX, "Conv": ("conv4",)}).outcome == CHANGED  # for the coverage to judge


@pytest.mark.parametrize("kind", ["Relu", "Clip", "BatchNormalization", "Add of a constant", "Mul of a constant"])
def test_what_no_longer_is_part_of_another_operation_is_worse(kind: str) -> None:
    assert operations({**ONNX, kind: ("alone",)}).sentence == f"operations: expected 0 {kind}, found 1 (alone)"
    some = {**ONNX, kind: ("relu1",)}
    assert operations({**some, kind: ("relu1", "relu2")}, some).outcome == WORSE


def test_one_layer_more_is_told_and_its_activation_is_no_lost_fusion() -> None:
    larger = {**TFLITE, "CONV_2D": (*TFLITE["CONV_2D"], "conv4"), "RELU": ("relu1", "relu2")}
    found = operations(larger, TFLITE)
    assert found.outcome == CHANGED
    assert found.sentence == "operations: 3 CONV_2D before, 4 now; 1 RELU before, 2 now"
    assert operations({**larger, "RELU": ("relu1", "relu2", "relu3")}, TFLITE).outcome == WORSE
    assert operations({**ONNX, "Reshape": ("flat", "again")}).outcome == CHANGED


@pytest.mark.parametrize(("before", "now", "outcome"), [
    (coverage(6, 6), coverage(6, 6), SAME),
    (coverage(6, 6), coverage(5, 6, "Conv conv2"), WORSE),
    (coverage(6, 6), coverage(6, 7, "Softmax p"), WORSE),  # a float operation more, though none was lost
    (coverage(5, 6, "Softmax p"), coverage(4, 5, "Softmax p"), CHANGED),  # a smaller share of fewer operations
    (coverage(5, 6, "Softmax p"), coverage(6, 6), CHANGED),
    # A float model: more of its operations are no loss of integers.
    (coverage(0, 6, *"abcdef", weighted=0), coverage(0, 7, *"abcdefg", weighted=0), CHANGED),
    (coverage(1, 6, *"abcde", weighted=0), coverage(1, 7, *"abcdef", weighted=0), CHANGED),
])
def test_coverage(before: Coverage, now: Coverage, outcome: str) -> None:
    found = one("coverage", before, now)
    assert (found.outcome, found.baseline, found.candidate) == (outcome, before.share, now.share)


def test_new_float_operations_are_named() -> None:
    found = one("coverage", coverage(5, 6, "Softmax p"), coverage(4, 6, "Softmax p", "Conv conv2"))
    assert found.sentence == "executed as integers: 5 of 6 before, 4 of 6 now; in float: Conv conv2"


@pytest.mark.parametrize(("before", "now", "outcome"), [
    (3, 3, SAME), (3, 2, WORSE), (2, 3, CHANGED), (3, None, NOT_MEASURED),
])
def test_scales_per_channel(before: int, now: int | None, outcome: str) -> None:
    found = judged(
        facts(coverage=coverage(6, 6, per_channel=before)), facts(coverage=coverage(6, 6, per_channel=now))
    )
    assert found["per_channel"].outcome == outcome
    assert "per_channel" not in judged(facts(coverage=coverage(6, 6)), facts(coverage=coverage(6, 6, weighted=0)))


@pytest.mark.parametrize(("before", "now", "outcome"), [
    ((1, 6, ()), (1, 6, ()), SAME),
    ((1, 6, ()), (2, 6, ()), WORSE),
    ((1, 6, ()), (1, 6, ("SOFTMAX p",)), WORSE),
    ((1, 6, ("SOFTMAX p",)), (1, 4, ("SOFTMAX p",)), CHANGED),  # a smaller share of fewer operations
    ((2, 6, ("MEAN m",)), (1, 6, ()), CHANGED),
    ((0, 6, tuple("abcdef")), (2, 6, ("a",)), CHANGED),  # no delegate at all, then one
    ((0, 6, tuple("abcdef")), (0, 7, tuple("abcdefg")), CHANGED),
])
def test_delegates(before: tuple, now: tuple, outcome: str) -> None:
    first, second = (
        facts(delegation=Delegation(partitions=partitions, operations=count, left=left))
        for partitions, count, left in (before, now)
    )
    found = judged(first, second)["delegate"]
    assert (found.outcome, found.baseline, found.candidate) == (outcome, before[0], now[0])


def test_what_the_delegate_leaves_is_named() -> None:
    first, second = (
        facts(delegation=Delegation(partitions=partitions, operations=6, left=left))
        for partitions, left in ((1, ("SOFTMAX p",)), (2, ("SOFTMAX p", "CUSTOM c")))
    )
    assert judged(first, second)["delegate"].sentence == (
        "delegate partitions: 1 before, 2 now; operations in them: 5 of 6 before, 4 of 6 now; left out: CUSTOM c"
    )


@pytest.mark.parametrize(("field", "before", "now", "outcome"), [
    ("multiply_accumulates", 1000, 1020, CHANGED), ("multiply_accumulates", 1000, 1021, WORSE),
    ("multiply_accumulates", 1000, 500, CHANGED), ("multiply_accumulates", 0, 0, SAME),
    ("multiply_accumulates", 0, 1, WORSE),
    ("size_bytes", 10_000, 10_500, CHANGED), ("size_bytes", 10_000, 10_501, WORSE),
    ("arena_bytes", 500, 550, CHANGED), ("arena_bytes", 500, 551, WORSE),
    ("peak_memory_bytes", 100 * MIB, 109 * MIB, CHANGED), ("peak_memory_bytes", 100 * MIB, 111 * MIB, WORSE),
    ("peak_memory_bytes", 100 * MIB, 101 * MIB, SAME), ("peak_memory_bytes", 100 * MIB, 90 * MIB, CHANGED),
    ("instructions", 1_000_000, 1_000_001, CHANGED), ("instructions", 1_000_000, 1_020_000, CHANGED),
    ("instructions", 1_000_000, 1_020_001, WORSE),
])
def test_figures_may_grow_so_far(field: str, before: int, now: int, outcome: str) -> None:
    found = one(field, before, now)
    assert (found.outcome, found.baseline, found.candidate) == (outcome, before, now)


def test_limits_follow_what_was_asked_for() -> None:
    assert one("multiply_accumulates", 1000, 1021, tolerance=0.03).outcome == CHANGED
    assert one("size_bytes", 10_000, 10_501, limit=0.06).outcome == CHANGED
    # ONNX Runtime's counts differ between repeats: a tolerance of none does not make that a regression.
    assert one("instructions", 1_000_000, 1_005_000, tolerance=0.0).outcome == CHANGED
    assert one("instructions", 1_000_000, 1_005_001, tolerance=0.0).outcome == WORSE


def test_peak_memory_differs_between_repeats_by_the_file_size() -> None:
    """ONNX Runtime, an 85 MB file: 288.8 MiB in one process, 308.8 MiB in another."""
    large = {"size_bytes": 85_000_000}
    first, second = (facts(**large, peak_memory_bytes=int(mib * MIB)) for mib in (150.0, 170.0))
    assert judged(first, second)["peak_memory_bytes"].outcome == SAME
    assert judged(first, facts(**large, peak_memory_bytes=200 * MIB))["peak_memory_bytes"].outcome == WORSE


def test_sentences_of_figures() -> None:
    assert one("size_bytes", 10_000, 11_000).sentence == (
        "file size in bytes: 10,000 before, 11,000 now (+10.0%); at most +5.0% is allowed"
    )
    assert one("size_bytes", 1_000_000, 999_984).sentence == "file size in bytes: 1,000,000 before, 999,984 now (-16)"


@pytest.mark.parametrize(("field", "gate"), [
    ("operations", "operations"), ("coverage", "coverage"), ("delegation", "delegate"),
    ("multiply_accumulates", "multiply_accumulates"), ("arena_bytes", "arena_bytes"),
    ("peak_memory_bytes", "peak_memory_bytes"), ("instructions", "instructions"),
])
def test_what_is_not_known_says_why(field: str, gate: str) -> None:
    lacking = facts(**{field: None}, unknown={field: "nobody tells"})
    both = judged(lacking, lacking)[gate]
    assert (both.outcome, both.baseline, both.candidate) == (NOT_MEASURED, None, None)
    assert both.sentence.endswith(": not known, since nobody tells")
    known = facts(instructions=1, delegation=Delegation(partitions=1, operations=6, left=()), unknown=lacking.unknown)
    assert judged(known, lacking)[gate].sentence.endswith(": not known of the candidate, since nobody tells")
    assert judged(lacking, known)[gate].sentence.endswith(": not known of the baseline, since nobody tells")
