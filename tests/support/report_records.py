"""Reports made by hand, for the forms that draw them: a classifier's with everything in it, and one of values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from edgeship.core.evidence import (
    ChangedAnswers,
    ChangedExample,
    ClassCounts,
    Deviations,
    Histogram,
    LayerCost,
    NetworkCost,
    OutputPair,
)
from edgeship.core.measurement import (
    REPORT_SCHEMA,
    Accuracy,
    Agreement,
    Coverage,
    Grid,
    Latency,
    LatencyLaunch,
    LayerError,
    LayerErrors,
    OperationTime,
    Parity,
    Profile,
    Report,
    Row,
    Score,
    TargetRecord,
)
from edgeship.core.ship import ShipLine
from edgeship.validate.process.machine import describe_machine
from edgeship.validate.report.html.pictures import Pictures
from edgeship.validate.timing.latency import summarize

HOSTILE = '<script>alert("1")</script> & $x^2$ {{ 7 * 7 }}'
MACHINE = describe_machine()
FLOATS = ClassCounts(
    examples=(10, 10, 5), answered=(11, 10, 4), right=(9, 9, 4), confusion=((9, 1, 0), (1, 9, 0), (1, 0, 4))
)
OWN = ClassCounts(
    examples=(10, 10, 5), answered=(10, 12, 3), right=(9, 9, 3), confusion=((9, 1, 0), (1, 9, 0), (0, 2, 3))
)


def latency(median_ms: float) -> Latency:
    """Return a latency of seven launches around a median."""
    launches = [
        LatencyLaunch(
            load_ms=5.0, first_ms=1.0, median_ms=median_ms * factor, mean_ms=median_ms * factor,
            min_ms=median_ms * factor, rounds_ms=((median_ms * factor,),) * 2, rounds_cpu_ms=(median_ms,) * 2,
        )
        for factor in (0.9, 0.95, 1.0, 1.0, 1.05, 1.1, 1.2)
    ]
    return summarize(launches, threads=1)


def row(artifact: str, runtime: str, *, scheme: str, median_ms: float, **changes: Any) -> Row:
    """Return a row with an accuracy and a latency."""
    made = Row(
        artifact=artifact, scheme=scheme, runtime=runtime, target="cpu", threads=1, size_bytes=1_404_928,
        accuracy=Accuracy(
            images=25, top1=0.84, top1_ci95=(0.65, 0.94), float_top1=0.88, delta=-0.04, delta_ci95=(-0.12, 0.04),
            mcnemar_p=1.0, agreement=0.92,
        ),
        latency=latency(median_ms), peak_memory_bytes=45_000_000, classes=OWN,
    )
    return dataclasses.replace(made, **changes)


def ship_line(file: str) -> ShipLine:
    """Return the line of a file that phones are to run."""
    return ShipLine(
        place="litert", words="phones and boards, LiteRT", runtime="litert", file=file, scheme="int8-qat",
        size_bytes=1_404_928, float_file="float32.tflite", size_share=0.26, metric="top1", delta=-0.04,
        delta_ci95=(-0.12, 0.04), accuracy_of=f"{file} / litert", speedup=None, speedup_ci95=None, speedup_by=None,
        speedup_of=None, speedup_missing="the bundle has no float32.tflite", slower=False, verdict="pass",
        why="the integer file of the scheme that was trained for integers",
    )


def classifier(name: str = "int8-qat.tflite", label: str = "<b>two") -> Report:
    """Return a report with something in every section; `name` is an integer file's and `label` a class's."""
    examples = tuple(
        ChangedExample(
            index=index, sha256="0" * 64, target=2, float_answer=2, answer=1, float_output=0.6,
            float_output_of_answer=0.3, output=0.5, output_of_float_answer=0.4,
        )
        for index in (3, 24)
    )
    layers = (
        LayerCost(layer="conv", kind="CONV_2D", multiply_accumulates=36_864, parameters=592, activation_bytes=1024),
        LayerCost(layer="dense", kind="FULLY_CONNECTED", multiply_accumulates=None, parameters=33, activation_bytes=3),
    )
    errors = LayerErrors(
        artifact=name, reference="float32.tflite", images=4, first_bad=None, not_compared=(),
        layers=tuple(
            LayerError(layer=layer, float_result=layer, kind="CONV_2D", sqnr_db=db, max_lsb=1.5, saturated=0.0)
            for layer, db in (("conv", 35.0), ("dense", 31.0))
        ),
    )
    profile = Profile(inferences=20, inference_us=200.0, operations=(
        OperationTime(operation="conv", kind="Convolution", mean_us=150.0, share=0.75),
        OperationTime(operation="other", kind="Copy", mean_us=50.0, share=0.25),
    ))
    floats = row(
        "float.keras", "keras", scheme="float32", median_ms=3.0, classes=FLOATS,
        accuracy=Accuracy(
            images=25, top1=0.88, top1_ci95=(0.7, 0.96), float_top1=None, delta=None, delta_ci95=None, mcnemar_p=None,
            agreement=None,
        ),
    )
    chosen = row(
        name, "litert", scheme="int8-qat", median_ms=0.2, profile=profile,
        changed=ChangedAnswers(compared=25, changed=2, examples=examples),
        coverage=Coverage(integer=2, total=2, float_ops=(), per_channel=1, weighted=2),
        parity=Parity(
            sqnr_db=21.93, max_abs_error=0.4, sibling="int8-qat.onnx / onnxruntime", max_lsb=2, differing_share=0.01,
            sibling_agreement=1.0,
        ),
    )
    broken = Row(
        artifact="int8-qat.onnx", scheme="int8-qat", runtime="onnxruntime", target="cpu", threads=1, size_bytes=None,
        error="int8-qat.onnx / onnxruntime: crashed (SIGSEGV) while loading the file",
    )
    emulated = dataclasses.replace(
        chosen, target="arm64:cortex-a53", kind="emulated", latency=None, profile=None, instructions=1_709_749,
        changed=None,
    )
    return Report(
        schema=REPORT_SCHEMA, created_by="edgeship 0.1.0", bundle=f"out/{name}", created_at="2026-01-01T00:00:00+00:00",
        machine=MACHINE, rows=(floats, chosen, broken, emulated),
        grids=(Grid(
            tflite=name, onnx="int8-qat.onnx", tensors_compared=131, mismatches=("a|b: scale",), layers_compared=56,
            layer_max_lsb=1, worst_layer="Conv+Relu stem",
        ),),
        agreements=(Agreement(
            first=f"{name} / litert", second="int8-qat.onnx / onnxruntime", images=25, top1_agreement=1.0, max_lsb=2,
            differing_share=0.0016, accuracy_delta=0.0, accuracy_delta_ci95=(-0.04, 0.04),
        ),),
        verdict="fail", failures=("int8-qat.onnx / onnxruntime: crashed",), notes=("a note",),
        targets=(TargetRecord(
            name="arm64:cortex-a53", kind="emulated", machine={"cpu_model": "cortex-a53"}, state_before=None,
            state_after=None, error=None,
        ),),
        layer_errors=(errors,), ship=(ship_line(name),), labels=("one", label, "three"), float_classes=FLOATS,
        networks=(NetworkCost(
            artifact=name, layers=layers, multiply_accumulates=None, parameters=625, arena_bytes=2048,
        ),),
    )


def regression() -> Report:
    """Return the report of a model whose outputs are values."""
    whole = classifier()
    deviations = Deviations(
        compared=25, distances=Histogram(edges=(0.0, 0.1, 0.2), counts=(20, 5)),
        furthest=(OutputPair(index=7, sha256="0" * 64, distance=0.2, float_values=(1.0, 2.0), values=(1.1, 2.2)),),
        scores=Histogram(edges=(0.0, 0.5, 1.0), counts=(15, 10)),
        float_scores=Histogram(edges=(0.0, 0.5, 1.0), counts=(18, 7)),
    )
    score = Score(
        metric="mean_absolute_error", examples=25, value=0.4, value_ci95=(0.3, 0.5), float_value=0.35, delta=0.05,
        delta_ci95=(0.0, 0.1), higher_is_better=False, is_share=False,
    )
    rows = tuple(
        dataclasses.replace(
            item, accuracy=None, classes=None, changed=None, score=None if item.error else score,
            deviations=None if item.runtime == "keras" or item.error else deviations,
        )
        for item in whole.rows
    )
    return dataclasses.replace(whole, rows=rows, labels=(), float_classes=None)


def pictures() -> Pictures:
    """Return two pictures, of the examples whose answer changed."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    return Pictures(index=np.array([3, 24]), pixels=pixels)
