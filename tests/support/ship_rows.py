"""A bundle, its rows and what is to be shipped of it, made up without running anything."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgeship.core.artifact import Artifact, Manifest, Quantization, Reference, TensorSpec
from edgeship.core.config import ValidateConfig
from edgeship.core.measurement import Accuracy, Coverage, LatencyLaunch, Row
from edgeship.core.ship import ShipLine
from edgeship.core.variants import file_of
from edgeship.validate.questions.ship import Measurements, what_to_ship
from edgeship.validate.timing.latency import summarize

CONFIG = ValidateConfig(max_accuracy_drop=0.02)
SIZES = {"float32": 4_000, "int8-ptq": 1_000, "int8-qat": 1_000, "dynamic-int8": 1_200}
ONE_VARIANT, TWO_VARIANTS = ("u8u8",), ("u8u8", "u8s8")
HERE, VNNI = {"cpu": "x86"}, {"cpu": "x86-vnni"}


def artifact(name: str, scheme: str, *, dtype: str = "int8") -> Artifact:
    spec = TensorSpec(name="image", shape=(1, 8), dtype=dtype)
    return Artifact(
        name=name, file=name, format=name.rpartition(".")[2], scheme=scheme, sha256="", size_bytes=SIZES[scheme],
        inputs=(spec,), outputs=(spec,),
    )


def manifest(*artifacts: Artifact, bits: int = 8) -> Manifest:
    account = Quantization(kept_float=(), weights_expected=1, weights_quantized=1, weight_bits=bits)
    return Manifest(
        schema=4, created_by="", source={}, data={}, splits={}, preprocessing=None, labels=(),
        reference=Reference(file="float.keras", sha256="", custom_objects=()), golden_sha256="", artifacts=artifacts,
        quantization={"int8-qat": account, "int8-ptq": account}, tools={}, exported_on={},
    )


def bundle(*schemes: str, variants: tuple[str, ...] = TWO_VARIANTS, floats: bool = True, bits: int = 8) -> Manifest:
    found = [artifact("float32.tflite", "float32"), artifact("float32.onnx", "float32")] if floats else []
    for scheme in schemes:
        found += [artifact(f"{scheme}.tflite", scheme), *(artifact(file_of(scheme, item), scheme) for item in variants)]
    return manifest(*found, bits=bits)


def timed(ms: float) -> Any:
    launches = [
        LatencyLaunch(load_ms=1.0, first_ms=ms, median_ms=ms, mean_ms=ms, min_ms=ms, rounds_ms=((ms,),),
                      rounds_cpu_ms=(ms * (1 + 0.01 * number),))
        for number in range(6)
    ]
    return summarize(launches, threads=1)


def row(name: str, *, ms: float | None = None, delta: float = 0.0, target: str = "cpu", **changes: Any) -> Row:
    scheme = "float32" if name.startswith("float32") else "int8-ptq" if name.startswith("int8-ptq") else "int8-qat"
    accuracy = Accuracy(
        images=500, top1=0.9, top1_ci95=(0.8, 1.0), float_top1=0.9, delta=delta,
        delta_ci95=(delta - 0.005, delta + 0.005), mcnemar_p=1.0, agreement=0.99,
    )
    integer = Coverage(integer=9, total=9, float_ops=(), per_channel=4, weighted=4)
    return dataclasses.replace(Row(
        artifact=name, scheme=scheme, runtime="litert" if name.endswith("tflite") else "onnxruntime", target=target,
        threads=1, size_bytes=1, accuracy=accuracy, coverage=None if scheme == "float32" else integer,
        latency=None if ms is None else timed(ms),
    ), **changes)


ROWS = [
    row("float32.tflite", ms=4.0), row("float32.onnx", ms=2.0), row("int8-qat.tflite", ms=1.0),
    row("int8-qat.onnx", ms=4.0), row("int8-qat-u8s8.onnx", ms=1.0, delta=-0.5, for_others="x86 with VNNI"),
]


def lines(
    rows: list[Row], found: Manifest, *, processors: dict[str, str | None] = HERE, version: str = "1.32.0",
    **changes: Any,
) -> dict[str, ShipLine]:
    measured = Measurements(
        manifest=found, rows=rows, config=changes.pop("config", CONFIG), processors=processors,
        versions={"cpu": {"onnxruntime": version}}, **changes,
    )
    return {line.place: line for line in what_to_ship(measured)}
