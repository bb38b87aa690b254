"""The gate of equal bits on emulated x86 processors."""

from __future__ import annotations

import dataclasses

import pytest

from edgeship.core.artifact import Artifact
from edgeship.core.config import ValidateConfig
from edgeship.core.measurement import Coverage, Parity, Row
from edgeship.core.saturation import Saturation
from edgeship.validate.questions.gate import judge
from edgeship.validate.questions.same_bits import different_bits, exact_on_every_x86

NAME = "int8-ptq-u8s8.onnx"
PARITY = Parity(
    sqnr_db=None, max_abs_error=None, sibling=f"{NAME} / onnxruntime", max_lsb=1, differing_share=0.01,
    sibling_agreement=1.0,
)
COVERAGE = Coverage(integer=9, total=9, float_ops=(), per_channel=None, weighted=None)
ROW = Row(
    artifact=NAME, scheme="int8-ptq", runtime="onnxruntime", target="x86:haswell", kind="emulated", threads=1,
    size_bytes=1, parity=PARITY, coverage=COVERAGE,
)


def artifact(name: str, *, safe: bool | None = True, scheme: str = "int8-ptq") -> Artifact:
    certificate = None if name == "old.onnx" else Saturation(cannot_saturate=safe)
    return Artifact(
        name=name, file=name, format=name.rpartition(".")[2], scheme=scheme, sha256="", size_bytes=1, inputs=(),
        outputs=(), saturation=certificate,
    )


def test_which_files_are_exact() -> None:
    files = (
        artifact("int8-ptq.onnx"), artifact(NAME), artifact("a-u8s8.onnx", safe=False), artifact("b.onnx", safe=None),
        artifact("int8-ptq-s8s8.onnx"), artifact("int8-ptq.tflite"), artifact("old.onnx"), artifact("int8-ptq.ort"),
        artifact("float32.onnx", scheme="float32"),
    )
    assert exact_on_every_x86(files) == {"int8-ptq.onnx", NAME, "int8-ptq.ort"}


@pytest.mark.parametrize(("change", "held"), [
    ({}, True),
    ({"parity": dataclasses.replace(PARITY, max_lsb=0)}, False),
    ({"parity": None}, False),
    ({"target": "arm64:max"}, False),  # other rounding there
    ({"target": "cpu"}, False),
    ({"artifact": "int8-qat-u8s8.onnx"}, False),  # not in the table's row
    ({"coverage": dataclasses.replace(COVERAGE, integer=8)}, False),  # a float operation may differ in its last bit
    ({"coverage": None}, False),
])
def test_what_is_held_to_equal_bits(change: dict[str, object], held: bool) -> None:
    found = different_bits(dataclasses.replace(ROW, **change), {NAME})
    assert (found is not None) == held


def test_different_bits_fail() -> None:
    verdict, reasons = judge([ROW], [], [], ValidateConfig(), scored=False, exact={NAME})
    assert verdict == "fail"
    assert reasons == (
        f"{NAME} / onnxruntime on x86:haswell: up to 1 LSB apart from this machine (1.00% of the outputs); its kernels "
        "are exact on both processors, so all bits must be equal, and one of the two computes something else",
    )
    assert judge([ROW], [], [], ValidateConfig(), scored=False) == ("pass", ())
