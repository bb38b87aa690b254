from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import edgeship.validate.runner
from edgeship.core.config import RUNTIMES as NAMES
from edgeship.validate.runner.table import (
    DEVICE_RUNTIMES,
    FORMATS,
    GOLDEN,
    OPTIMIZER,
    PACKAGES,
    RUNTIMES,
    Runtime,
    taking_part,
)


def test_the_configuration_names_every_row_and_no_other() -> None:
    assert tuple(RUNTIMES) == NAMES


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=list(RUNTIMES))
def test_a_row_names_functions_that_are_there(runtime: Runtime) -> None:
    for address in filter(None, [runtime.opener, *(probe.opener for probe in runtime.probes.values())]):
        module, function = address.split(":")
        # Looked up, not imported: TensorFlow takes seconds.
        spec = importlib.util.find_spec(module, edgeship.validate.runner.__name__)
        assert spec is not None and spec.origin is not None
        assert f"def {function}(" in Path(spec.origin).read_text()
    if runtime.bridge is not None:
        assert importlib.util.find_spec(runtime.bridge) is not None
    assert runtime.baseline is None or RUNTIMES[runtime.baseline].by_runner


def test_what_goes_to_devices_needs_these_packages() -> None:
    assert DEVICE_RUNTIMES == ("litert", "litert-reference", "onnxruntime", "onnxruntime-unoptimized")
    assert PACKAGES == ("ai-edge-litert", "tflite-runtime", "onnxruntime")


def test_who_takes_part_in_which_check_of_the_gate() -> None:
    assert taking_part(GOLDEN) == taking_part(FORMATS) == {"litert", "onnxruntime"}
    assert taking_part(OPTIMIZER) == {"onnxruntime", "onnxruntime-unoptimized"}
