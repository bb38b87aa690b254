from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from edgeship.core.artifact import Quantization
from edgeship.core.config import ValidateConfig
from edgeship.core.errors import InputError
from edgeship.core.measurement import (
    Accuracy,
    Agreement,
    Coverage,
    Grid,
    LatencyLaunch,
    LayerError,
    LayerErrors,
    OperationTime,
    Parity,
    Profile,
    Report,
    Row,
    TargetRecord,
)
from edgeship.validate.process.machine import describe_machine
from edgeship.validate.report.columns import COLUMNS, cells, columns_of
from edgeship.validate.report.markdown import report_to_markdown
from edgeship.validate.report.notes import crowded, few_launches
from edgeship.validate.report.report import load_report, write_report
from edgeship.validate.report.terminal import report_to_terminal
from edgeship.validate.timing.latency import summarize

LAUNCHES = [
    LatencyLaunch(
        load_ms=load_ms, first_ms=1.0, median_ms=median_ms, mean_ms=median_ms, min_ms=median_ms,
        rounds_ms=((median_ms,), (median_ms,)), rounds_cpu_ms=(median_ms / 2, median_ms / 2),
    )
    for load_ms, median_ms in ((5.0, 0.3), (7.0, 0.1), (6.0, 0.2))
]
ROW = Row(
    artifact="int8_qat.tflite", scheme="int8-qat", runtime="litert", target="cpu", threads=1, size_bytes=1_404_928,
    accuracy=Accuracy(
        images=500, top1=0.972, top1_ci95=(0.95, 0.98), float_top1=0.98, delta=-0.008,
        delta_ci95=(-0.0197, 0.0037), mcnemar_p=0.22, agreement=0.982,
    ),
    parity=Parity(
        sqnr_db=21.93, max_abs_error=0.4, sibling="int8_qat.onnx / onnxruntime", max_lsb=2, differing_share=0.01,
        sibling_agreement=1.0,
    ),
    coverage=Coverage(integer=55, total=56, float_ops=("SOFTMAX y",), per_channel=36, weighted=36),
    latency=dataclasses.replace(
        summarize(LAUNCHES, threads=1), speedup=19.57, speedup_ci95=(18.94, 20.3), speedup_over="float.keras / keras",
        speedup_metric="cpu_time",
    ),
    peak_memory_bytes=45_000_000,
    profile=Profile(inferences=20, inference_us=100.0, operations=tuple(
        OperationTime(operation=f"conv_{number}", kind="Convolution", mean_us=9.0 - number / 2, share=0.1)
        for number in range(12)
    )),
)
BROKEN = Row(
    artifact="int8_qat.onnx", scheme="int8-qat", runtime="onnxruntime", target="cpu", threads=1, size_bytes=None,
    error="int8_qat.onnx / onnxruntime: crashed (SIGSEGV) while loading the file",
)
REPORT = Report(
    schema=6, created_by="edgeship 0.1.0", bundle="out/bundle", created_at="2026-01-01T00:00:00+00:00",
    machine=describe_machine(), rows=(ROW, BROKEN),
    grids=(Grid(
        tflite="int8_qat.tflite", onnx="int8_qat.onnx", tensors_compared=131, mismatches=("a|b: scale",),
        layers_compared=56, layer_max_lsb=1, worst_layer="Conv+Relu stem",
    ),),
    agreements=(Agreement(
        first="int8_qat.tflite / litert", second="int8_qat.onnx / onnxruntime", images=500, top1_agreement=1.0,
        max_lsb=2, differing_share=0.0016, accuracy_delta=0.0, accuracy_delta_ci95=(-0.0039, 0.0039),
    ),),
    verdict="fail", failures=("int8_qat.onnx / onnxruntime: crashed",), notes=("float Keras did not run here",),
    quantization={"int8-qat": Quantization(kept_float=(), weights_expected=36, weights_quantized=36, weight_bits=8)},
)


def test_the_report_survives_the_way_to_disk_and_back(tmp_path: Path) -> None:
    write_report(REPORT, tmp_path / "new")
    assert load_report(tmp_path / "new" / "report.json") == REPORT
    document = json.loads((tmp_path / "new" / "report.json").read_text())
    launches = document["rows"][0]["latency"]["launches"]
    assert [launch["rounds_ms"] for launch in launches] == [[[0.3], [0.3]], [[0.1], [0.1]], [[0.2], [0.2]]]
    assert document["rows"][0]["latency"]["speedup_ci95"] == [18.94, 20.3]
    assert len(document["rows"][0]["profile"]["operations"]) == 12
    assert document["rows"][1]["accuracy"] is None
    assert document["machine"]["cpu_flags"] is None or isinstance(document["machine"]["cpu_flags"], list)


def test_no_figure_may_be_nan(tmp_path: Path) -> None:
    parity = dataclasses.replace(ROW.parity, sqnr_db=float("nan"))
    report = dataclasses.replace(REPORT, rows=(dataclasses.replace(ROW, parity=parity),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(report, tmp_path)


@pytest.mark.parametrize(("content", "message"), [
    (None, "expected a report.json, found none"),
    ("{", "report.json: expected JSON, found none"),
    ("[]", "expected a report of schema 5 or 6 or 7 or 8, found null"),
    ('{"schema": 4}', "expected a report of schema 5 or 6 or 7 or 8, found 4"),
    ('{"schema": 6, "rows": []}', "not a complete report"),
])
def test_files_that_are_no_report(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_report(path)


def test_markdown_has_every_figure_with_its_unit() -> None:
    text = report_to_markdown(REPORT)
    assert "**FAIL: at least one gate does not hold**" in text
    assert (
        "| int8\\_qat.tflite | litert | cpu | 1.40 MB | 97.20 % | -0.80 [-1.97, +0.37] | 98.20 % | 21.9 | 2 | 100.00 % "
        "| 55/56 | 0.200 (3) | 0.300 | 19.57 [18.94, 20.30] |  |  |"
    ) in text
    assert f"| int8\\_qat.onnx | onnxruntime | cpu |{' - |' * 11}  | failed, see below |" in text
    assert (  # load, first, median, CPU, mean, min, p99, samples, launch sd, wall / CPU, memory
        "| int8\\_qat.tflite | litert | cpu | 6.000 | 1.000 | 0.200 | 0.100 | 0.200 | 0.100 | - | 6 | 55.6 % | 2.00 "
        "| 45.00 MB |"
    ) in text
    assert "12 operations, which add up to 75 % of the 100 us of an inference" in text
    assert "| conv\\_9 | Convolution | 4.5 | 10.0 % |" in text and "conv\\_10" not in text  # the first ten
    assert "130 of 131 tensors are equal; 56 layers compared, at most 1 LSB apart" in text
    assert "- float Keras did not run here" in text
    assert report_to_markdown(REPORT) == text


def test_layers_kept_in_float_are_shown_everywhere(tmp_path: Path) -> None:
    account = Quantization(kept_float=("conv_2",), weights_expected=35, weights_quantized=35, weight_bits=7)
    coverage = dataclasses.replace(ROW.coverage, kept_float=("CONV_2D conv_2/float",))
    report = dataclasses.replace(
        REPORT, rows=(dataclasses.replace(ROW, coverage=coverage),), quantization={"int8-mixed": account}
    )
    text = report_to_markdown(report)
    assert "| int8-mixed | 35 of 35 | 7 | conv\\_2 |" in text
    assert "| 55/56 (1 kept) |" in text
    special = dataclasses.replace(account, weight_bits=8, weight_range="pair-safe", weight_scales="per-tensor")
    text_of_special = report_to_markdown(dataclasses.replace(report, quantization={"int8-mixed": special}))
    assert "| int8-mixed | 35 of 35 | 8, pair-safe, per-tensor | conv\\_2 |" in text_of_special
    assert "int8\\_qat.tflite / litert: executed in float on purpose: CONV\\_2D conv\\_2/float" in text
    stream = io.StringIO()
    Console(file=stream, width=260).print(report_to_terminal(report, width=260, everything=True))
    assert "int8-mixed: kept in float: conv_2" in stream.getvalue()
    write_report(report, tmp_path)
    assert load_report(tmp_path / "report.json") == report


@pytest.mark.parametrize("scheme", ["float16", "dynamic-int8", "weight-only-int8"])
def test_what_computes_in_float_promises_no_integers(scheme: str) -> None:
    figures = dict(zip(COLUMNS, cells(dataclasses.replace(ROW, scheme=scheme)), strict=True))
    assert (figures["max LSB"], figures["integer ops"]) == ("n/a", "n/a")


EMULATED = dataclasses.replace(
    ROW, target="arm64:cortex-a53", kind="emulated", latency=None, instructions=1_709_749
)
TARGETS = (
    TargetRecord(
        name="arm64:cortex-a53", kind="emulated", machine={"cpu_model": "cortex-a53", "cpu_flags": ["fp", "asimd"]},
        state_before=None, state_after=None, error=None,
    ),
    TargetRecord(
        name="ssh://pi@board", kind="device", machine={"os": "Linux", "versions": {"numpy": "2.0"}},
        state_before={"temperature_c": 40.0, "throttled": None}, state_after={"temperature_c": 61.5}, error=None,
    ),
    TargetRecord(
        name="adb", kind="device", machine=None, state_before=None, state_after=None, error="adb: no device",
    ),
)


def test_other_targets_are_described_and_an_emulated_one_has_instructions_and_no_time(tmp_path: Path) -> None:
    report = dataclasses.replace(REPORT, rows=(ROW, EMULATED), targets=TARGETS)
    text = report_to_markdown(report)
    assert "| arm64:cortex-a53 (emulated) |" in text and "| - | - | - | 1.7 |  |" in text
    assert "cpu model cortex-a53; cpu flags asimd" in text
    assert "temperature c 40.0 before, 61.5 after" in text and "throttled" not in text
    assert "adb (device): adb: no device" in text
    write_report(report, tmp_path)
    assert load_report(tmp_path / "report.json") == report


def test_layer_tables_are_in_the_report_and_a_line_each_on_the_terminal(tmp_path: Path) -> None:
    good, bad, exact = (
        LayerError(layer=name, float_result=name, kind="CONV_2D", sqnr_db=db, max_lsb=lsb, saturated=share)
        for name, db, lsb, share in (
            ("conv_1", 35.04, 2.06, 0.0), ("conv_2", -1.23, 130.5, 0.456), ("pool", None, 0.0, 0.0),
        )
    )
    table = LayerErrors(
        artifact="int8_qat.tflite", reference="float32.tflite", images=4, layers=(good, bad, exact),
        first_bad="conv_2", not_compared=("gate_sigmoid",),
    )
    healthy = dataclasses.replace(table, artifact="a.tflite", layers=(good, exact), first_bad=None, not_compared=())
    absent = dataclasses.replace(
        healthy, artifact="int8.onnx", reference=None, images=0, layers=(), error="not measured: no float32.onnx"
    )
    report = dataclasses.replace(REPORT, layer_errors=(table, healthy, absent))
    text = report_to_markdown(report)
    assert "int8\\_qat.tflite against float32.tflite, 4 examples: first bad layer is conv\\_2 (CONV\\_2D): -1.2 dB, " \
        "up to 130.5 LSB off, 45.6 % saturated." in text
    assert "| conv\\_1 | CONV\\_2D | 35.0 | 2.1 | 0.00 % |  |" in text
    assert "| conv\\_2 | CONV\\_2D | -1.2 | 130.5 | 45.60 % | first bad layer |" in text
    assert "| pool | CONV\\_2D | exact | 0.0 | 0.00 % |  |" in text
    assert "- without a counterpart in float32.tflite: gate\\_sigmoid" in text
    assert "none of 2 layers is bad by itself; the lowest is conv\\_1 (CONV\\_2D) with 35.0 dB" in text
    assert "int8.onnx: not measured: no float32.onnx." in text
    assert "layer by layer" not in report_to_markdown(dataclasses.replace(REPORT, grids=()))
    stream = io.StringIO()
    Console(file=stream, width=260).print(report_to_terminal(report, width=260, everything=True))
    assert "int8_qat.tflite, layer by layer: first bad layer is conv_2 (CONV_2D): -1.2 dB" in stream.getvalue()
    write_report(report, tmp_path)
    assert load_report(tmp_path / "report.json") == report


def test_the_terminal_shows_the_same_columns() -> None:
    stream = io.StringIO()
    report = dataclasses.replace(REPORT, rows=(*REPORT.rows, EMULATED))
    Console(file=stream, width=260).print(report_to_terminal(report, width=260, everything=True))
    text = stream.getvalue()
    for name in columns_of(REPORT.rows):
        assert name in text
    assert "score" not in text
    assert "-0.80 [-1.97, +0.37]" in text and "FAIL: at least one gate" in text
    assert "CPU: " in text and "of the flags that matter" in text  # what times depend on most


def test_a_narrow_window_does_without_columns_and_says_so() -> None:
    stream = io.StringIO()
    Console(file=stream, width=130).print(report_to_terminal(REPORT, width=130, everything=True))
    text = stream.getvalue()
    assert "in report.md: p90 ms, SQNR dB, size" in text and "median ms" in text
    assert "-0.80 [-1.97, +0.37]" in text  # whole, not folded


def test_what_is_not_a_number_is_never_zero() -> None:
    float_row = dataclasses.replace(
        ROW, scheme="float32", runtime="keras", coverage=None,
        accuracy=dataclasses.replace(
            ROW.accuracy, float_top1=None, delta=None, delta_ci95=None, mcnemar_p=None, agreement=None
        ),
        parity=Parity(
            sqnr_db=None, max_abs_error=0.0, sibling=None, max_lsb=None, differing_share=None,
            sibling_agreement=None,
        ),
    )
    figures = dict(zip(COLUMNS, cells(float_row), strict=True))
    assert figures["SQNR dB"] == "exact"
    assert (figures["max LSB"], figures["integer ops"]) == ("n/a", "n/a")
    assert figures["delta, points [95 %]"] == figures["agreement"] == "reference"


def test_a_file_for_other_processors_is_shown_as_such() -> None:
    def target(row: Row) -> str:
        return dict(zip(COLUMNS, cells(row), strict=True))["target"]

    other = dataclasses.replace(ROW, for_others="x86 with VNNI")
    assert (target(ROW), target(other)) == ("cpu", "cpu (made for others)")
    assert target(dataclasses.replace(other, target="x86:haswell", kind="emulated")) == (
        "x86:haswell (emulated, made for others)"
    )


def test_a_speedup_is_a_figure_with_its_interval_or_the_reference_itself() -> None:
    def speedup(row: Row) -> str:
        return dict(zip(COLUMNS, cells(row), strict=True))["speed-up [95 %]"]

    few = dataclasses.replace(ROW.latency, speedup_ci95=None)
    none = dataclasses.replace(ROW.latency, speedup=None, speedup_ci95=None)
    assert speedup(ROW) == "19.57 [18.94, 20.30]"
    assert speedup(dataclasses.replace(ROW, latency=few)) == "19.57"
    assert speedup(dataclasses.replace(ROW, latency=none)) == "-"
    assert speedup(dataclasses.replace(ROW, latency=none, runtime="keras")) == "reference"


def test_notes_tell_what_weakens_the_times() -> None:
    config = ValidateConfig(latency_launches=5)
    assert list(few_launches(config, [ROW])) == [
        "validate.latency_launches: a speed-up's 95 % interval needs 6 launches, found 5"
    ]
    assert list(few_launches(ValidateConfig(), [ROW])) == list(few_launches(config, [BROKEN])) == []
    (note,) = crowded([ROW, BROKEN])
    assert "cpu: others had the processors too" in note and "wall time was 2.0 times CPU time" in note
    alone = dataclasses.replace(ROW, latency=dataclasses.replace(ROW.latency, wall_per_cpu=1.02))
    assert list(crowded([alone, dataclasses.replace(ROW, threads=2), BROKEN])) == []
