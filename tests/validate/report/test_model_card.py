"""`MODEL_CARD.md`: its head is YAML (written as JSON), and names are text."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from edgeship.core.artifact import (
    MANIFEST_SCHEMA,
    Artifact,
    Manifest,
    Preprocessing,
    Quantization,
    Reference,
    TensorSpec,
)
from edgeship.validate.report.model_card import model_card
from tests.support.report_records import HOSTILE, classifier, regression

IMAGE = TensorSpec(name="image", shape=(1, 8, 8, 1), dtype="int8", scale=0.0078125, zero_point=-1)
MANIFEST = Manifest(
    schema=MANIFEST_SCHEMA, created_by="edgeship 0.1.0", source={"config_sha256": "c" * 64}, data={"name": "digits"},
    splits={"test": {"images": 25, "sha256": "7" * 64}},
    preprocessing=Preprocessing(
        image_size=8, channels=1, channel_order="gray", interpolation="bilinear", mean=(0.5,), std=(0.25,)
    ),
    labels=("one", "two", "three"), reference=Reference(file="float.keras", sha256="0" * 64, custom_objects=()),
    golden_sha256="0" * 64,
    artifacts=(Artifact(
        name="int8-qat.tflite", file="int8-qat.tflite", format="tflite", scheme="int8-qat", sha256="a" * 64,
        size_bytes=1_404_928, inputs=(IMAGE,), outputs=(dataclasses.replace(IMAGE, name="scores", shape=(1, 3)),),
    ),),
    quantization={"int8-qat": Quantization(kept_float=(), weights_expected=3, weights_quantized=3, weight_bits=8)},
    tools={"onnxruntime": "1.32.0"}, exported_on={},
)


def head_of(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in head.splitlines())}


def test_the_head_is_what_the_hub_reads() -> None:
    head = head_of(model_card(MANIFEST, classifier(), commit="3f2a"))
    assert head["tags"] == ["edgeship", "tflite", "int8-qat"]
    assert head["pipeline_tag"] == "image-classification"
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test", "revision": "7" * 64}
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [("accuracy", 0.88)] + [
        ("accuracy", 0.84)
    ] * 2


def test_the_card_says_what_it_is_and_where_it_comes_from() -> None:
    card = model_card(MANIFEST, classifier(), commit="3f2a")
    for expected in (
        "**FAIL: at least one gate does not hold**", "| int8-qat.tflite | tflite | int8-qat | 1.40 MB | " + "a" * 64,
        "input of int8-qat.tflite: image, int8 1 x 8 x 8 x 1, scale 0.0078125, zero point -1",
        "pictures: gray, 8 x 8, central square, bilinear with antialiasing (Pillow); from 0 to 1, less 0.5, divided by",
        "labels: one, two, three",
        "config: SHA-256 " + "c" * 64, "test split: 25 examples, SHA-256 " + "7" * 64, "tools: onnxruntime 1.32.0",
        "commit: 3f2a", "phones and boards, LiteRT",
    ):
        assert expected in card, expected
    assert card == model_card(MANIFEST, classifier(), commit="3f2a")
    assert "commit: not known" in model_card(MANIFEST, classifier(), commit=None)


def test_another_task_has_its_own_metric_and_names_are_text() -> None:
    manifest = dataclasses.replace(MANIFEST, preprocessing=None, data={"name": f"{HOSTILE}\n---\n"}, labels=())
    card = model_card(manifest, regression(), commit=None)
    head = head_of(card)
    assert "pipeline_tag" not in head
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"]["name"] == f"{HOSTILE}\n---\n"
    assert result["task"] == {"type": "other"} and result["metrics"][0]["type"] == "mean_absolute_error"
    assert "<script>" not in card.split("---\n", 2)[2]
