from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.artifact import Quantization, manifest_from_json, manifest_to_json
from edgeship.core.errors import BundleError

WHERE = Path("manifest.json")


@pytest.fixture(scope="module")
def text(every_scheme: Pipeline) -> str:
    return (every_scheme.bundle_folder / "manifest.json").read_text(encoding="utf-8")


def test_a_manifest_survives_the_way_through_json(text: str) -> None:
    manifest = manifest_from_json(text, where=WHERE)
    assert manifest_to_json(manifest) == text
    assert manifest.quantization["int8-ptq-mse"] == Quantization(
        kept_float=(), weights_expected=7, weights_quantized=7, weight_bits=8
    )


@pytest.mark.parametrize(("change", "message"), [
    (lambda it: it.update(schema=2), "expected a manifest of schema 3 or 4 or 5, found 2; use the edgeship version"),
    (lambda it: it.pop("quantization"), "not a complete manifest .*quantization"),
    (lambda it: it["quantization"]["dynamic-int8"].pop("weight_bits"), "not a complete manifest .*weight_bits"),
    (lambda it: it["artifacts"][0].update(scheme="int9"), "unknown scheme 'int9'"),
])
def test_a_manifest_of_another_form_is_refused(text: str, change: Any, message: str) -> None:
    document = json.loads(text)
    change(document)
    with pytest.raises(BundleError, match=rf"manifest\.json: .*{message}"):
        manifest_from_json(json.dumps(document), where=WHERE)
