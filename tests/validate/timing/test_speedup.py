from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from edgeship.core.artifact import Artifact
from edgeship.core.comparison import CPU_TIME, WALL_TIME
from edgeship.core.measurement import LatencyLaunch
from edgeship.validate.subject.inputs import InputKind
from edgeship.validate.subject.rows import Candidate
from edgeship.validate.timing.speedup import FEWEST_LAUNCHES, reference_of, speedup


def launch(*rounds_ms: tuple[float, ...], cpu_ms: float | None = None) -> LatencyLaunch:
    samples = [sample for samples in rounds_ms for sample in samples]
    return LatencyLaunch(
        load_ms=1.0, first_ms=1.0, median_ms=float(np.median(samples)), mean_ms=float(np.mean(samples)),
        min_ms=min(samples), rounds_ms=rounds_ms, rounds_cpu_ms=() if cpu_ms is None else (cpu_ms,) * len(rounds_ms),
    )


def row(name: str, runtime: str, scheme: str) -> Candidate:
    artifact = None if runtime == "keras" else Artifact(
        name=name, file=name, format=name.rpartition(".")[2], scheme=scheme, sha256="0" * 64, size_bytes=1, inputs=(),
        outputs=(),
    )
    return Candidate(
        name=name, runtime=runtime, path=Path(name), scheme=scheme, artifact=artifact, size_bytes=1,
        input_kinds=(InputKind(dtype="float32", scale=None, zero_point=None),),
    )


def test_the_reference_is_float_keras_or_the_float_file_of_the_same_format_and_runtime() -> None:
    keras = row("float.keras", "keras", "float32")
    float_onnx, float_ort = row("f.onnx", "onnxruntime", "float32"), row("f.ort", "onnxruntime", "float32")
    onnx, ort, tflite = (row(f"i.{end}", runtime, "int8-qat") for end, runtime in (
        ("onnx", "onnxruntime"), ("ort", "onnxruntime"), ("tflite", "litert"),
    ))
    here = [keras, float_onnx, onnx, tflite]
    assert [reference_of(item, here) for item in here] == [None, keras, keras, keras]
    there = [float_onnx, float_ort, onnx, ort, tflite]
    assert [reference_of(item, there) for item in there] == [None, None, float_onnx, float_ort, None]


def test_one_thread_is_compared_by_its_cpu_time() -> None:
    own, reference = launch((5.0,), cpu_ms=1.0), launch((6.0,), cpu_ms=4.0)
    assert speedup([own], [reference], metric=CPU_TIME) == (pytest.approx(4), None)
    assert speedup([own], [reference], metric=WALL_TIME) == (pytest.approx(1.2), None)


def test_a_launch_is_compared_round_by_round() -> None:
    own, reference = launch((1.0, 1.0), (2.0,), (4.0,)), launch((3.0, 3.0), (6.0,), (100.0,))
    assert speedup([own], [reference]) == (pytest.approx(3), None)  # the disturbed third round does not matter


def test_six_launches_are_the_fewest_for_an_exact_interval_of_95_percent() -> None:
    times = [launch((value,)) for value in (1.0, 1.1, 0.9, 1.2, 1.05, 0.97)]
    reference = [launch((2.0,))] * 6
    assert speedup(times[:5], reference[:5])[1] is None
    estimate, interval = speedup(times, reference)
    assert interval == pytest.approx((2 / 1.2, 2 / 0.9))  # the least and the greatest
    assert interval[0] < estimate < interval[1]
    assert FEWEST_LAUNCHES == 6
    # What lies outside has the two-sided probability that scipy gives when all six differences have one sign.
    outside = scipy.stats.wilcoxon([math.log(item.mean_ms / 0.89) for item in times], method="exact").pvalue
    assert outside == 2 / 2**6 < 0.05 < 2 / 2**5


def test_the_interval_covers_the_true_speedup_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        logs = random.standard_t(3, (2, 8)) * 0.05
        own, reference = ([launch((float(np.exp(value)),)) for value in values] for values in logs)
        interval = speedup(own, [launch((2 * item.mean_ms,)) for item in reference])[1]
        assert interval is not None
        covered += interval[0] <= 2 <= interval[1]
    assert 0.95 <= covered / 2000 <= 0.985  # exact level with 8 launches: 96.1 %
