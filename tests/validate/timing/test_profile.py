from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import RuntimeFailure
from edgeship.validate.process.client import Worker
from edgeship.validate.runner.table import PROFILE, RUNTIMES
from edgeship.validate.subject.bundle import Bundle, load_bundle
from edgeship.validate.subject.rows import Candidate, candidates
from edgeship.validate.targets.target import Target
from edgeship.validate.timing.profile import PROFILED_RUNS, measure_alone, named, profile_of


@pytest.fixture(scope="module")
def bundle(master_bundle: Path) -> Bundle:
    return load_bundle(master_bundle)


def row_of(bundle: Bundle, config: ValidateConfig, name: str, runtime: str, target: Target | None = None) -> Candidate:
    rows = candidates(bundle, config, [target or Target()])
    return next(row for row in rows if row.reported and (row.name, row.runtime) == (name, runtime))


def test_onnxruntime_tells_each_kernel_that_ran(bundle: Bundle, fast: ValidateConfig, tmp_path: Path) -> None:
    row = row_of(bundle, fast, "int8.onnx", "onnxruntime")
    found = measure_alone(row, bundle.golden.inputs, fast, folder=tmp_path)
    assert found.error is found.note is None and found.peak_memory_bytes > 10_000_000
    profile = found.profile
    kinds = [operation.kind for operation in profile.operations]
    assert kinds.count("QLinearConv") == 2
    assert profile.inferences == PROFILED_RUNS and profile.inference_us > 0
    assert sum(operation.share for operation in profile.operations) == pytest.approx(1)
    times = [operation.mean_us for operation in profile.operations]
    assert times == sorted(times, reverse=True) and 0 < profile.share_told < 1


def test_litert_tells_each_operation_with_the_names_of_the_file(
    bundle: Bundle, fast: ValidateConfig, tmp_path: Path
) -> None:
    row = row_of(bundle, fast, "int8.tflite", "litert")
    found = measure_alone(row, bundle.golden.inputs, fast, folder=tmp_path)
    assert found.error is found.note is None
    convolutions = [item for item in found.profile.operations if item.kind.startswith("Convolution")]
    assert len(convolutions) == 2
    assert all(item.kind == "Convolution (NHWC, QC8) IGEMM" for item in convolutions)
    assert not any(item.operation.startswith("XNNPACK") for item in convolutions)  # but the tensors' names
    assert found.profile.inferences == PROFILED_RUNS and found.profile.inference_us > 0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("real_workers")  # whose threads are counted
def test_the_profiler_uses_the_threads_it_is_told(bundle: Bundle, tmp_path: Path, threads: int) -> None:
    with profiler(bundle, tmp_path, size=8, threads=threads) as (worker, inputs):
        answer = worker.ask("profile", inputs=inputs, runs=3, seconds=60.0, discarded=1)
        assert psutil.Process(worker._process.pid).num_threads() == threads
    assert answer["inferences"] == 3 and len(answer["operations"]) >= 4


def test_the_profiler_takes_no_input_of_another_size(bundle: Bundle, tmp_path: Path) -> None:
    with (
        profiler(bundle, tmp_path, size=9, threads=1) as (worker, inputs),
        pytest.raises(RuntimeFailure, match=r"ValueError while .*expected an input of 64 bytes, found 81"),
    ):
        worker.ask("profile", inputs=inputs, runs=3, seconds=60.0, discarded=1)


@contextmanager
def profiler(bundle: Bundle, folder: Path, *, size: int, threads: int) -> Iterator[tuple[Worker, list[str]]]:
    inputs = folder / "inputs.npy"
    np.save(inputs, np.zeros((1, size, size, 1), np.int8))
    with Worker("probe", timeout_seconds=60) as worker:
        path = str(bundle.folder / "int8.tflite")
        worker.ask("probe", runtime="litert", probe=PROFILE, path=path, options={"threads": threads})
        yield worker, [str(inputs)]


def test_a_slow_model_is_profiled_for_as_long_as_it_may_take(bundle: Bundle, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((1, 8, 8, 1), np.uint8))
    with Worker("int8.onnx / onnxruntime", timeout_seconds=60) as worker:
        worker.ask(
            "load", runtime="onnxruntime", path=str(bundle.folder / "int8.onnx"), options={"threads": 1}
        )
        answer = worker.ask("profile", inputs=[str(inputs)], runs=10**9, seconds=0.0, discarded=2)
    assert answer["inferences"] == 1


def test_what_explains_the_others_is_not_profiled(bundle: Bundle, fast: ValidateConfig, tmp_path: Path) -> None:
    row = row_of(bundle, fast, "int8.tflite", "litert-reference")
    found = measure_alone(row, bundle.golden.inputs, fast, folder=tmp_path)
    assert (found.profile, found.note, found.error) == (None, None, None) and found.peak_memory_bytes > 10_000_000


def test_a_target_without_a_profiler_says_so(bundle: Bundle, fast: ValidateConfig, tmp_path: Path) -> None:
    row = row_of(bundle, fast, "int8.tflite", "litert", Target("board"))
    found = measure_alone(row, bundle.golden.inputs, fast, folder=tmp_path)
    assert found.profile is None and found.note == (
        "litert on board: the time of single operations was not measured, since the runtime's Python interface has no "
        "profiler"
    )


def test_a_profiler_that_fails_is_a_note_and_no_failure_of_the_artifact(
    bundle: Bundle, fast: ValidateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeship.validate.timing.profile.PROFILE", "no-such-probe")
    monkeypatch.setitem(RUNTIMES["litert"].probes, "no-such-probe", RUNTIMES["litert"].probes[PROFILE])
    row = row_of(bundle, fast, "int8.tflite", "litert")
    found = measure_alone(row, bundle.golden.inputs, fast, folder=tmp_path)
    assert found.error is None and found.peak_memory_bytes > 10_000_000
    assert found.note.startswith("profile not measured: int8.tflite / litert: ValueError while loading the file")


def test_a_file_that_cannot_be_loaded_is_an_error(bundle: Bundle, fast: ValidateConfig, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"TFL3" * 8)
    row = dataclasses.replace(row_of(bundle, fast, "int8.tflite", "litert"), path=broken)
    found = measure_alone(row, bundle.golden.inputs, fast, folder=tmp_path)
    assert found.error is not None and found.peak_memory_bytes is None


def plan(*kinds: str) -> dict[str, Any]:
    """One operation of each kind, which makes the tensor `t0`, `t1` ...; a delegate at the end."""
    operations = [{"kind": kind, "outputs": [index]} for index, kind in enumerate((*kinds, "DELEGATE"))]
    return {"operations": operations, "tensors": [{"index": index, "name": f"t{index}"} for index in range(9)]}


def test_names_are_given_only_where_they_are_certain() -> None:
    told = [("XNNPACK operation 0", "Convolution (NHWC, QC8) IGEMM", 2.0), ("XNNPACK operation 1", "Add (ND)", 1.0),
            ("XNNPACK operation 2", "Convolution (NHWC, QC8) DWCONV", 3.0), ("operation 3", "SOFTMAX", 1.0)]
    names = [name for name, _, _ in named(told, plan("CONV_2D", "ADD", "DEPTHWISE_CONV_2D", "SOFTMAX"))]
    assert names == ["t0", "XNNPACK operation 1", "t2", "t3"]
    # Another number of convolutions, and two of the built-in kind: which is which nobody knows.
    unsure = [name for name, _, _ in named(told, plan("CONV_2D", "SOFTMAX", "SOFTMAX"))]
    assert unsure == [name for name, _, _ in told]


def test_a_profile_of_zeros_has_no_shares() -> None:
    profile = profile_of({"operations": [("a", "Conv", 0.0)], "inferences": 3, "inference_us": 5.0})
    assert profile.operations[0].share == profile.share_told == 0
