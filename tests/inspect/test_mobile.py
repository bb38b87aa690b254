from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.app.cli import main as cli
from edgeship.core.errors import ArtifactError
from edgeship.inspect.mobile import mobile_usability


def test_what_onnx_runtime_says_of_phones(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "--mobile", str(tiny_bundle / "int8-qat.onnx")]) == 0
    text = capsys.readouterr().out
    # Fixed shapes and known operations: one partition for NNAPI; Core ML takes no quantize-dequantize pairs.
    assert "Checking NNAPI" in text and "one partition covering 100.0%" in text
    assert "CoreML MLProgram is not recommended" in text


def test_other_files_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"takes \.onnx files; found '\.tflite'"):
        mobile_usability(tiny_bundle / "int8-qat.tflite")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07garbage")
    with pytest.raises(ArtifactError, match=r"broken\.onnx: ONNX Runtime's check for phones failed"):
        mobile_usability(broken)
