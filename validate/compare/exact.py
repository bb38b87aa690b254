"""Exact gates: figures without noise, judged before anything is timed. Pure functions over facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgeship.core.comparison import CHANGED, NOT_MEASURED, SAME, WORSE, Exact
from edgeship.core.text import some
from edgeship.graph.kinds import WEIGHTED
from edgeship.validate.compare.facts import ARITHMETIC, OF_A_CONSTANT, Delegation, Facts

NAMED_KINDS, NAMED_OPERATIONS = 3, 3  # in a sentence; of what is beyond them, only the numbers
# Letters of a name in a sentence. TensorFlow's converter calls what it fused by all the names of its parts.
LONGEST_NAME = 60

# They move, convert or guard numbers: none of a model's own work, so more of them is a conversion that went wrong.
# Reshapes and their like are not among them, since they cost nothing that grows with the model.
OVERHEAD = frozenset({
    "TRANSPOSE", "QUANTIZE", "DEQUANTIZE", "CAST", "PAD", "PADV2", "MIRROR_PAD",
    "Transpose", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Pad", "Identity",
    "ReorderInput", "ReorderOutput", "MemcpyFromHost", "MemcpyToHost",
})
# Part of a convolution or product where they are fused; alone, each reads and writes its whole tensor once more.
FUSABLE = frozenset({
    "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "Relu", "Clip", "LeakyRelu", "QLinearLeakyRelu",
    "BatchNormalization", *(kind + OF_A_CONSTANT for kind in ARITHMETIC),
})
# Integer kernel -> what ONNX Runtime executes in its place where its fusion rules do not match.
FLOAT_FORMS = {
    "QLinearConv": ("Conv", "FusedConv", "ConvInteger"), "QGemm": ("Gemm", "FusedGemm", "MatMul", "FusedMatMul"),
    "QLinearMatMul": ("MatMul", "FusedMatMul", "Gemm", "FusedGemm"),
    "QLinearAdd": ("Add",), "QLinearMul": ("Mul",), "QLinearConcat": ("Concat",),
    "QLinearGlobalAveragePool": ("GlobalAveragePool",), "QLinearAveragePool": ("AveragePool",),
    "QLinearReduceMean": ("ReduceMean",), "QLinearSigmoid": ("Sigmoid",), "QLinearSoftmax": ("Softmax",),
    "QLinearLeakyRelu": ("LeakyRelu",),
}

# Limits as shares of the baseline's figure. `tolerance` and `limit` are those of the timing:
#   multiply_accumulates  tolerance: so much more work is no faster on any kernel
#   size_bytes            limit: a file also carries names and metadata, which cost a download and no inference
#   arena_bytes           a tenth: few tensors are alive at the peak, so one of them more is far above it
#   peak_memory_bytes     a tenth, and more than repeats of one file differ (see _memory_noise)
#   instructions          tolerance, but no less than what repeats differ
MEMORY_LIMIT = 0.10
# Repeats per inference on emulated arm64: LiteRT's are within 0.003 %, ONNX Runtime's within 0.06 % (small models);
# of whole ONNX Runtime processes 0.6 % was seen.
COUNT_NOISE = 0.005


def judge_facts(baseline: Facts, candidate: Facts, *, tolerance: float, limit: float) -> tuple[Exact, ...]:
    """The gates, in the order in which they explain most. `tolerance` and `limit` are shares: 0.02 is 2 %.

    A gate that has no meaning for the runtime or the target is left out.
    """
    limits = {
        "multiply_accumulates": ("multiply-accumulates", tolerance, 0),
        "size_bytes": ("file size in bytes", limit, 0),
        "arena_bytes": ("bytes of activations alive at once", MEMORY_LIMIT, 0),
        "peak_memory_bytes": ("peak memory in bytes", MEMORY_LIMIT, _memory_noise(baseline)),
        "instructions": ("instructions per inference", max(tolerance, COUNT_NOISE), 0),
    }
    return (
        *_not_measured("operations", "operations", "operations", baseline, candidate),
        *_operations(baseline.operations, candidate.operations),
        *_not_measured("coverage", "coverage", "executed as integers", baseline, candidate),
        *_coverage(baseline, candidate),
        *_not_measured("delegate", "delegation", "delegates", baseline, candidate),
        *_delegate(baseline.delegation, candidate.delegation),
        *(
            item for gate, (what, most, noise) in limits.items()
            for item in (
                *_not_measured(gate, gate, what, baseline, candidate),
                *_grown(gate, what, baseline, candidate, limit=most, noise=noise),
            )
        ),
    )


def _memory_noise(facts: Facts) -> int:
    """How much the peak memory of two processes that run the same file may differ.

    Measured in 8 to 24 processes each: 0.1 to 0.3 MiB, but ONNX Runtime's peak while it packs weights differs by up
    to 0.45 of the file (20 MiB at an 85 MB file, 9 MiB at one of 21 MB).
    """
    return (1 << 20) + facts.size_bytes // 2


def _not_measured(gate: str, field: str, what: str, baseline: Facts, candidate: Facts) -> Iterator[Exact]:
    """Where an arm lacks a fact that has a meaning there."""
    arms = {"baseline": baseline, "candidate": candidate}
    lacking = [arm for arm, facts in arms.items() if getattr(facts, field) is None]
    reasons = [arms[arm].unknown[field] for arm in lacking if field in arms[arm].unknown]
    if reasons:
        which = f" of the {lacking[0]}" if len(lacking) == 1 else ""
        yield Exact(
            gate=gate, outcome=NOT_MEASURED, baseline=None, candidate=None,
            sentence=f"{what}: not known{which}, since {reasons[0]}",
        )


def _operations(
    baseline: Mapping[str, Sequence[str]] | None, candidate: Mapping[str, Sequence[str]] | None
) -> Iterator[Exact]:
    if baseline is None or candidate is None:
        return
    more = {
        kind: len(candidate.get(kind, ())) - len(baseline.get(kind, ()))
        for kind in dict.fromkeys((*baseline, *candidate))
    }
    worse = [*_in_float(baseline, candidate, more), *_needless(baseline, candidate, more)]
    changed = [
        f"{len(baseline.get(kind, ()))} {kind} before, {len(candidate.get(kind, ()))} now"
        for kind, difference in more.items() if difference
    ]
    totals = [sum(map(len, side.values())) for side in (baseline, candidate)]
    said = "; ".join(worse or changed) or f"the same {totals[0]}"
    yield Exact(
        gate="operations", outcome=WORSE if worse else CHANGED if changed else SAME, baseline=totals[0],
        candidate=totals[1], sentence=f"operations: {said}",
    )


def _in_float(
    baseline: Mapping[str, Sequence[str]], candidate: Mapping[str, Sequence[str]], more: Mapping[str, int]
) -> Iterator[str]:
    """Integer kernels that became fewer while what computes the same in float became more."""
    for integer, forms in FLOAT_FORMS.items():
        gained = [kind for kind in forms if more.get(kind, 0) > 0]
        if more.get(integer, 0) < 0 and gained:
            floats = " and ".join(
                f"{len(candidate[kind])} {kind} ({_named(_new(kind, baseline, candidate))})" for kind in gained
            )
            yield (
                f"expected {len(baseline[integer])} {integer}, found {len(candidate.get(integer, ()))}, and in float "
                f"{floats}"
            )


def _needless(
    baseline: Mapping[str, Sequence[str]], candidate: Mapping[str, Sequence[str]], more: Mapping[str, int]
) -> Iterator[str]:
    """Operations that compute nothing of the model, or that were part of others, and became more.

    An activation alone is lost from a fusion where there was none of its kind, or where the operations that could
    take it did not become as many more.
    """
    hosts = sum(difference for kind, difference in more.items() if kind in WEIGHTED)
    grown = sorted(
        (
            kind for kind, difference in more.items()
            if (kind in OVERHEAD and difference > 0)
            or (kind in FUSABLE and difference > (0 if not baseline.get(kind) else max(hosts, 0)))
        ),
        key=lambda kind: (-more[kind], kind),
    )
    for kind in grown[:NAMED_KINDS]:
        yield (
            f"expected {len(baseline.get(kind, ()))} {kind}, found {len(candidate[kind])} "
            f"({_named(_new(kind, baseline, candidate))})"
        )
    if len(grown) > NAMED_KINDS:
        yield "more " + ", ".join(
            f"{kind} ({len(baseline.get(kind, ()))} before, {len(candidate[kind])} now)"
            for kind in grown[NAMED_KINDS:]
        )


def _new(
    kind: str, baseline: Mapping[str, Sequence[str]], candidate: Mapping[str, Sequence[str]]
) -> Sequence[str]:
    """The operations of a kind whose names the baseline does not have; all of them where names do not tell."""
    known = set(baseline.get(kind, ()))
    return [name for name in candidate[kind] if name not in known] or candidate[kind]


def _named(names: Sequence[str]) -> str:
    return some([_short(name) for name in names], shown=NAMED_OPERATIONS)


def _short(name: str) -> str:
    """A long name by its two ends, without control characters: names in a file are not ours to trust."""
    plain = name
    if len(name) > LONGEST_NAME:
        end = (LONGEST_NAME - 3) // 2
        plain = f"{name[:LONGEST_NAME - 3 - end]}...{name[-end:]}"
    return "".join(letter if letter.isprintable() else "�" for letter in plain)


def _coverage(baseline: Facts, candidate: Facts) -> Iterator[Exact]:
    """More operations in float are worse in a model of integers; a share alone falls with each operation saved."""
    first, second = baseline.coverage, candidate.coverage
    if first is None or second is None:
        return
    of_integers = bool(first.weighted) or first.share > 0.5
    worse = of_integers and second.total - second.integer > first.total - first.integer
    new = [name for name in second.float_ops if name not in set(first.float_ops)] or second.float_ops
    same = (first.integer, first.total) == (second.integer, second.total)
    yield Exact(
        gate="coverage", outcome=WORSE if worse else SAME if same else CHANGED, baseline=first.share,
        candidate=second.share,
        sentence=f"executed as integers: {first.integer} of {first.total} before, {second.integer} of {second.total} "
        f"now" + (f"; in float: {_named(new)}" if worse else ""),
    )
    if not first.weighted or not second.weighted:
        return
    if first.per_channel is None or second.per_channel is None:
        yield Exact(
            gate="per_channel", outcome=NOT_MEASURED, baseline=None, candidate=None,
            sentence="integer convolutions with a scale per channel: the runtime does not tell",
        )
        return
    before, now = first.per_channel / first.weighted, second.per_channel / second.weighted
    yield Exact(
        gate="per_channel", outcome=WORSE if now < before else SAME if now == before else CHANGED, baseline=before,
        candidate=now,
        sentence=f"integer convolutions with a scale per channel: {first.per_channel} of {first.weighted} before, "
        f"{second.per_channel} of {second.weighted} now",
    )


def _delegate(first: Delegation | None, second: Delegation | None) -> Iterator[Exact]:
    """Each border of a partition copies tensors, and what is left is executed by slower kernels."""
    if first is None or second is None:
        return
    taken = [item.operations - len(item.left) for item in (first, second)]
    torn = second.partitions > first.partitions > 0
    left = taken[0] > 0 and len(second.left) > len(first.left)
    new = [name for name in second.left if name not in set(first.left)] or second.left
    yield Exact(
        gate="delegate",
        outcome=WORSE if torn or left else SAME if first.partitions == second.partitions and (
            taken[0], first.operations) == (taken[1], second.operations) else CHANGED,
        baseline=first.partitions, candidate=second.partitions,
        sentence=f"delegate partitions: {first.partitions} before, {second.partitions} now; operations in them: "
        f"{taken[0]} of {first.operations} before, {taken[1]} of {second.operations} now" + (
            f"; left out: {_named(new)}" if left else ""
        ),
    )


def _grown(
    gate: str, what: str, baseline: Facts, candidate: Facts, *, limit: float, noise: int
) -> Iterator[Exact]:
    """Worse where it grew by more than `limit` and by more than `noise`; the same within `noise`."""
    before, now = getattr(baseline, gate), getattr(candidate, gate)
    if before is None or now is None:
        return
    more = now - before
    grown = more / before if before else float(more > 0)
    worse, same = more > max(limit * before, noise), abs(more) <= noise
    change = f"{grown:+.1%}" if abs(grown) >= 0.0005 else f"{more:+,}"
    told = f"{what}: {before:,} before, {now:,} now" + ("" if before == now else f" ({change})")
    yield Exact(
        gate=gate, outcome=WORSE if worse else SAME if same else CHANGED, baseline=before, candidate=now,
        sentence=f"{told}; at most {limit:+.1%} is allowed" if worse else told,
    )
