from __future__ import annotations

import pytest

from edgeship.core.config import FORMATS, Config, ExportConfig, QuantizeConfig
from edgeship.core.schemes import DEFAULT_SCHEMES, FAKE_QUANTIZED, SCHEMES, Scheme


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_the_table_agrees_with_itself(scheme: Scheme) -> None:
    assert set(scheme.impossible) < set(FORMATS)  # at least one format is left
    assert scheme.integer == (scheme.activations != "float32")
    assert scheme.quantizes_weights == (scheme.name not in ("float32", "float16"))
    if scheme.source == FAKE_QUANTIZED:
        assert (scheme.weights, scheme.activations, scheme.integer) == ("int8", "int8", True)
    assert not (scheme.dynamic and scheme.integer)


def test_the_default_schemes_exist_in_every_format() -> None:
    config = Config(quantize=QuantizeConfig(schemes=DEFAULT_SCHEMES), export=ExportConfig(formats=FORMATS))
    assert all(config.export.formats_of(scheme) == FORMATS for scheme in DEFAULT_SCHEMES)


def test_every_scheme_at_once_with_what_is_impossible_left_out() -> None:
    skip = tuple(f"{scheme.name}:{name}" for scheme in SCHEMES.values() for name in scheme.impossible)
    config = Config(
        quantize=QuantizeConfig(schemes=tuple(SCHEMES), max_accuracy_drop=0.01),
        export=ExportConfig(formats=FORMATS, skip=skip),
    )
    assert config.export.formats_of("int16x8-ptq") == ("tflite",)
    assert config.export.formats_of("float16") == ("tflite", "onnx")
    assert config.export.formats_of("int8-mixed") == FORMATS
