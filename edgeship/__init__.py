"""edgeship: train once, ship two.

A Keras model with custom layers goes in; int8 TFLite and int8 ONNX come out on one integer grid, and every
artifact is proven against the float Keras model before it ships.

    quantized = edgeship.quantize_model(model, calibration)
    bundle = quantized.export("bundle")
    report = bundle.validate(inputs, targets)

Importing this package imports no TensorFlow: each name below is imported when it is first used. The package sets the
two switches TensorFlow reads when it is first imported, here and nowhere else.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# tensorflow-model-optimization 0.8.1 works on Keras 2 only.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Off by default on some CPUs; measured 1.2-3.6x training speed on AVX2 without VNNI.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Start-up notices (no GPU found, oneDNN is on) would drown our own messages; errors stay.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from edgeship.core.version import __version__

if TYPE_CHECKING:
    from edgeship.api.bundle import Bundle as Bundle
    from edgeship.api.bundle import load_bundle as load_bundle
    from edgeship.api.files import Comparison as Comparison
    from edgeship.api.files import compare_files as compare_files
    from edgeship.api.files import inspect_file as inspect_file
    from edgeship.api.quantize_model import lower_model as lower_model
    from edgeship.api.quantize_model import quantize_model as quantize_model
    from edgeship.api.quantized import QuantizedModel as QuantizedModel
    from edgeship.api.report import Report as Report
    from edgeship.core.errors import EdgeshipError as EdgeshipError

HOMES = {
    "Bundle": "edgeship.api.bundle",
    "Comparison": "edgeship.api.files",
    "EdgeshipError": "edgeship.core.errors",
    "QuantizedModel": "edgeship.api.quantized",
    "Report": "edgeship.api.report",
    "compare_files": "edgeship.api.files",
    "inspect_file": "edgeship.api.files",
    "load_bundle": "edgeship.api.bundle",
    "lower_model": "edgeship.api.quantize_model",
    "quantize_model": "edgeship.api.quantize_model",
}
__all__ = ["__version__", *sorted(HOMES)]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'edgeship' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(HOMES[name]), name)
    except ModuleNotFoundError as error:
        from edgeship.core.errors import InputError
        from edgeship.core.parts import how_to_install

        sentence = how_to_install(error.name)
        if sentence is None:
            raise
        raise InputError(f"edgeship.{name}: {sentence}") from error


def __dir__() -> list[str]:
    return __all__
