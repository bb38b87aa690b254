"""The parsers of what tools print. The recorded outputs follow upstream's sources; none is from a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.validate.bridges.benchmark_output import delegate_notes, parse_benchmark_output, parse_statistics
from edgeship.validate.bridges.onnxruntime_perf_test import parse_perf_test_output, parse_samples

RECORDED = Path(__file__).parents[1] / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def test_a_current_build_of_benchmark_model_tells_percentiles() -> None:
    output = parse_benchmark_output(recorded("benchmark_model-current.txt"))
    assert (output.init_ms, output.first_ms, output.ignored_flags) == (6.512, 4.120, "")
    assert output.peak_memory_bytes == int(12.5 * 1024 * 1024)
    timed = output.timed
    assert (timed.count, timed.mean_ms, timed.min_ms, timed.max_ms) == pytest.approx((40, 2.26135, 2.238, 2.391))
    assert (timed.std_ms, timed.p5_ms, timed.median_ms, timed.p95_ms) == pytest.approx((0.024, 2.240, 2.258, 2.301))


def test_what_an_old_build_does_not_print_is_none() -> None:
    output = parse_benchmark_output(recorded("benchmark_model-old.txt"))
    assert output.first_ms == 3512.391  # the warm-up's only run
    assert output.timed.mean_ms == 2950.34  # 2.95034e+06 us
    assert (output.timed.median_ms, output.timed.p5_ms, output.timed.p95_ms) == (None, None, None)
    assert output.peak_memory_bytes is None  # "Peak memory footprint" of old builds is no peak


def test_lines_of_the_android_log_are_the_same_lines() -> None:
    output = parse_benchmark_output(recorded("benchmark_model-logcat.txt"))
    assert output.init_ms == pytest.approx(612.31)
    assert output.first_ms == 44.871  # not the warm-up's 0, of which there was none
    assert (output.timed.count, output.timed.median_ms) == (1, 44.871)


def test_litert_s_own_build_is_read_and_the_flags_it_ignores_are_told() -> None:
    output = parse_benchmark_output(recorded("benchmark_model-litert.txt"))
    assert (output.init_ms, output.first_ms, output.timed.mean_ms) == pytest.approx((8.25, 3.121, 2.2915))
    assert output.peak_memory_bytes == int(24.25 * 1024 * 1024)
    assert "--output_filepath=" in output.ignored_flags


def test_the_profiler_s_statistics_are_not_taken_for_the_runs() -> None:
    profile = recorded("benchmark_model-current.txt").replace(
        "INFO: Initialized session", "Timings (microseconds): count=1 curr=7\nINFO: Initialized session"
    )
    assert parse_benchmark_output(profile).timed.count == 40


@pytest.mark.parametrize(("line", "mean_ms", "median_ms"), [
    ("curr=10 count=3 min=8 max=12 avg=10 std=2", 0.010, None),  # the oldest order, without `first`
    ("count=1 curr=3512391", 3512.391, 3512.391),
    ("count=4 curr=2900(all same)", 2.9, 2.9),
    ("count=4 curr=2900(all same) p5=2900 median=2900 p95=2900", 2.9, 2.9),
    ("count=2 first=2 curr=4 min=2 max=4 avg=3.2e-03 std=1", 3.2e-06, None),
])
def test_every_form_of_a_statistics_line(line: str, mean_ms: float, median_ms: float | None) -> None:
    statistics = parse_statistics(line)
    assert statistics is not None
    assert statistics.mean_ms == pytest.approx(mean_ms)
    assert statistics.median_ms == median_ms


def test_no_runs_have_no_statistics() -> None:
    assert parse_statistics("count=0") is None
    assert parse_statistics("count=0 p5=0 median=0 p95=0") is None


@pytest.mark.parametrize(("line", "message"), [
    ("hello", "expected `count=N first="),
    ("count=-1 curr=4", "expected a number that can be a time, found '-1'"),
    ("count=1.5 curr=4", "expected `count=N first="),
    ("count=two curr=4", "expected a number, found 'two'"),
    ("count=5 curr=4", "expected avg=... among the statistics of 5 runs"),
    ("count=5 curr=4 avg=4", "expected min, max, std among the statistics"),
    ("count=5 first=1 curr=4 min=1 max=9 avg=nan std=1", "found 'nan'"),
    ("count=5 first=1 curr=4 min=1 max=9 avg=inf std=1", "found 'inf'"),
])
def test_a_strange_statistics_line_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_statistics(line)


@pytest.mark.parametrize(("text", "message"), [
    ("", "expected two lines `count=...`"),
    ("INFO: STARTING!\nERROR: Failed to load model m.tflite\n", "found 0; the last line is 'Failed to load model m"),
    ("count=1 curr=3\n", "found 1"),
    ("count=1 curr=3\ncount=0\n", "expected at least one timed run"),
    ("count=1 curr=3\ncount=1 curr=3\n", "expected `Inference timings in us: Init"),
    ("count=1 curr=3\ncount=1 curr=3\nInitialized session in 3..4ms.\n", "expected a number, found '3..4'"),
])
def test_output_that_is_not_benchmark_model_s_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_benchmark_output(text)


def test_delegates_and_silent_fallbacks_are_told() -> None:
    assert delegate_notes(recorded("benchmark_model-current.txt")) == (
        "TfLiteXNNPackDelegate took 56 of 57 operations",
    )
    assert delegate_notes(recorded("benchmark_model-logcat.txt")) == ("TfLiteGpuDelegateV2 took 31 of 57 operations",)
    assert delegate_notes(recorded("benchmark_model-fallback.txt")) == (
        "NNAPI was asked for, but does not execute the model: it ran on the CPU",
    )
    assert delegate_notes(recorded("benchmark_model-old.txt")) == ()


def test_a_delegate_that_was_asked_for_and_took_nothing_is_told() -> None:
    text = "INFO: Use gpu: [1]\nVERBOSE: Replacing 3 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1"
    assert delegate_notes(text) == (
        "TfLiteXNNPackDelegate took 3 operations",
        "Use gpu was asked for, but no delegate took an operation: it ran on the CPU",
    )


@pytest.mark.parametrize(("name", "session_ms", "first_ms"), [
    ("perf_test-current.txt", 14.2871, 9.0), ("perf_test-old.txt", 14.2, None),
])
def test_both_formats_of_perf_test(name: str, session_ms: float, first_ms: float | None) -> None:
    output = parse_perf_test_output(recorded(name))
    assert (output.session_ms, output.first_ms, output.mean_ms) == (pytest.approx(session_ms), first_ms, 7.275)
    assert (output.min_ms, output.max_ms, output.median_ms, output.p95_ms) == pytest.approx((7.2, 7.4, 7.3, 7.4))
    assert output.peak_memory_bytes == 91336704


def test_a_first_inference_of_0_whole_milliseconds_is_not_known() -> None:
    text = recorded("perf_test-current.txt").replace("time cost: 9 ms", "time cost: 0 ms")
    assert parse_perf_test_output(text).first_ms is None


def test_perf_test_output_without_the_figures_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Average inference time cost.* the last line is 'Run failed:no such file'"):
        parse_perf_test_output("Setting intra_op_num_threads to 1\nRun failed:no such file\n")


def test_the_samples_of_perf_test_s_result_file() -> None:
    assert parse_samples(recorded("perf_test-result.csv"), mean_ms=7.275) == pytest.approx((7.2, 7.3, 7.4, 7.2))


@pytest.mark.parametrize(("text", "message"), [
    ("", "found 0 with 0 ms"),
    ("nonsense", "expected `model,seconds,bytes,percent,run`, found 'nonsense'"),
    ("m,7275000,1,1,0\n", r"expected times with a mean of 7\.275 ms, as printed, found 1 with 7\.275e\+09 ms"),
    ("m,0.9,1,1,0\n", "expected times with a mean"),
    ("m,many,1,1,0\n", "expected a number, found 'many'"),
])
def test_samples_that_are_not_the_launch_s_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_samples(text, mean_ms=7.275)
