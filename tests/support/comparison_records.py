"""Comparisons of given figures, for the forms they are written in."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from edgeship.core.comparison import (
    COMPARISON_SCHEMA,
    CPU_TIME,
    INCONCLUSIVE,
    PASS,
    REFUSED,
    REGRESSION,
    SAME,
    VERDICTS,
    WORSE,
    Arm,
    ArmTiming,
    Check,
    Comparison,
    Environment,
    Exact,
    Launch,
    Side,
    Timing,
)

LAUNCHES, ROUNDS = 10, 12
FINGERPRINT: dict[str, Any] = {
    "must_match": {"cpu_model": "AMD EPYC 7B13", "runtime": "onnxruntime", "threads": 1},
    "recorded": {"hostname": "ci-7", "target": "cpu"},
    "cpu_model": "AMD EPYC 7B13",
    "cpu_flags": ["aes", "avx2", "sse4_2"],
}
SIZE = Exact(
    gate="size_bytes", outcome=SAME, baseline=1_404_928.0, candidate=1_404_928.0, sentence="1,404,928 bytes in both",
)
LOST_FUSION = Exact(
    gate="operations", outcome=WORSE, baseline=60.0, candidate=62.0,
    sentence="operations: expected 1 Relu, found 3 (relu_1, a|b)",
)
FEWER = Exact(
    gate="instructions", outcome="changed", baseline=95_778_977.0, candidate=95_000_000.0,
    sentence="0.8 % fewer instructions",
)
UNKNOWN = Exact(
    gate="instructions", outcome="not measured", baseline=None, candidate=None, sentence="no emulator: run setup arm64"
)


def side(time_ns: float, rounds: int = ROUNDS, inferences: int = 3) -> Side:
    """Rounds of about the same time, as the mean of three inferences gives them: not round numbers."""
    wall_ns = tuple(time_ns * (1.3 + 0.001 * number) / inferences for number in range(rounds))
    cpu_ns = tuple(time_ns * (1 + 0.0007 * number) / inferences for number in range(rounds))
    return Side(wall_ns=wall_ns, cpu_ns=cpu_ns, load_ms=12.5, first_ms=2.25, involuntary_switches=7)


def arm_timing(factor: float = 1.0) -> ArmTiming:
    return ArmTiming(
        median_ms=2.0 * factor, p90_ms=2.5 * factor, p99_ms=None, mean_ms=2.1 * factor, min_ms=1.9 * factor,
        median_cpu_ms=1.5 * factor, load_ms=12.5, first_ms=2.25, peak_memory_bytes=None,
    )


def timing(ratio: float = 1.031, *, launches: int = LAUNCHES, rounds: int = ROUNDS, **changes: Any) -> Timing:
    samples = tuple(
        Launch(
            log_ratio=math.log(ratio), core=0, baseline=side(4.5e6, rounds), candidate=side(4.5e6 * ratio, rounds),
            canary_ns=512_345,
        )
        for _ in range(launches)
    )
    default = Timing(
        metric=CPU_TIME, ratio=ratio, ratio_low=ratio - 0.009, ratio_high=ratio + 0.009, alpha=0.01, beta=0.05,
        tolerance=0.02, limit=0.05, launches=launches, rounds=rounds, inferences_per_round=3, looks=(10, 15, 20, 30),
        smallest_detectable=0.0284, launch_sd=0.0093, round_sd=0.004, wall_per_cpu=1.32, seconds=21.4567,
        stopped="decided", baseline=arm_timing(), candidate=arm_timing(ratio), samples=samples,
    )
    return dataclasses.replace(default, **changes)


def check(**changes: Any) -> Check:
    """A regression of 3.1 %."""
    arm = Arm(file="old/bundle/int8-qat.onnx", sha256="0" * 64, size_bytes=1_404_928)
    default = Check(
        name="int8-qat.onnx", runtime="onnxruntime", target="cpu", kind="native", threads=1, baseline=arm,
        candidate=dataclasses.replace(arm, file="new/bundle/int8-qat.onnx", sha256="1" * 64), verdict=REGRESSION,
        reasons=("CPU time per inference changed by +3.1 % (+2.2 % to +4.0 %, 10 launches); the tolerance is 2.0%",),
        advice=(), exact=(SIZE,), timing=timing(),
    )
    return dataclasses.replace(default, **changes)


PASSED = check(
    name="int8-qat.tflite", runtime="litert", verdict=PASS, timing=timing(0.998), reasons=("no slower than 5.0%",),
    exact=(SIZE, FEWER),
)
UNDECIDED = check(
    name="int8-ptq.tflite", runtime="litert", target="ssh://pi@board:22", kind="device", verdict=INCONCLUSIVE,
    timing=timing(1.03, ratio_low=None, ratio_high=1.09), reasons=("neither above 2.0% nor below 5.0%",),
    advice=("about 24 launches would decide it: --max-seconds 60",), exact=(),
)
NOT_THERE = check(
    name="float32.tflite", runtime="litert", target="adb", kind="device", verdict=REFUSED, timing=None,
    reasons=("adb: no device:\nplug it in, 50 % charged",), exact=(UNKNOWN,),
)
LOST = check(
    name="int8-s8s8.onnx", timing=None, exact=(SIZE, LOST_FUSION), reasons=(LOST_FUSION.sentence,),
)
IDENTICAL = check(
    name="float32.onnx", verdict=PASS, timing=None, exact=(), reasons=("identical artifact: the same bytes",)
)


def comparison(*checks: Check, **changes: Any) -> Comparison:
    """Of one check, if none is given."""
    checks = checks or (check(),)
    verdicts = {item.verdict for item in checks}
    default = Comparison(
        schema=COMPARISON_SCHEMA, created_by="edgeship 0.1.0", created_at="2026-08-01T10:00:00+00:00",
        commit="3f2a" * 10, baseline="old/bundle", candidate="new/bundle", self_test=False,
        verdict=next(verdict for verdict in VERDICTS if verdict in verdicts),
        reasons=tuple(f"{item.label}: {item.verdict}: {reason}" for item in checks for reason in item.reasons),
        notes=("cpu: its load average is 3.1 on 2 cores: others run too",), interrupted=False, seconds=44.0,
        environments=(Environment(target="cpu", fingerprint=FINGERPRINT, state_before={}, state_after=None),),
        checks=checks,
    )
    return dataclasses.replace(default, **changes)


def every_kind(**changes: Any) -> Comparison:
    """A check of every verdict and kind of gap."""
    return comparison(check(), PASSED, UNDECIDED, NOT_THERE, LOST, IDENTICAL, **changes)
