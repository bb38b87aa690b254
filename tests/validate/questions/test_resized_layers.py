"""Layers whose channels were given other sizes are compared at these sizes, in both formats."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.core.artifact import MANIFEST_FILE, manifest_from_json, manifest_to_json
from edgeship.core.channel_sizes import CHANNEL_SIZES, sizes_from
from edgeship.core.measurement import LayerErrors
from edgeship.validate.questions.layer_errors import BAD_DB, measure_layer_errors
from edgeship.validate.subject.bundle import load_bundle
from tests.support.networks import randomize

CHANNELS, SCHEME = 16, "int8-ptq"
SIZES = np.geomspace(1e-2, 1e2, CHANNELS).astype(np.float32)
RESIZED = {"stem", "branch", "branch_relu", "sum", "pool"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream of channels 10,000 times apart: a sum, its largest values, and what takes the sizes back."""
    image = layers.Input((8, 8, 3), name="image")
    stem = layers.Conv2D(CHANNELS, 3, padding="same", name="stem")(image)
    branch = layers.ReLU(name="branch_relu")(layers.Conv2D(CHANNELS, 3, padding="same", name="branch")(stem))
    x = layers.MaxPooling2D(2, name="pool")(layers.Add(name="sum")([stem, branch]))
    x = layers.Conv2D(8, 3, activation="relu", name="last_conv")(x)
    model = randomize(tf_keras.Model(image, layers.Dense(4, name="last")(layers.Flatten()(x)), name="model"))
    for name, is_made, is_read in (("stem", True, False), ("branch", True, True), ("last_conv", False, True)):
        kernel, bias = model.get_layer(name).get_weights()
        kernel = kernel * (SIZES if is_made else 1) / (SIZES[:, None] if is_read else 1)
        model.get_layer(name).set_weights([kernel, bias * SIZES if is_made else bias])
    images = np.random.default_rng(0).random((64, 8, 8, 3), np.float32)
    quantized = edgeship.quantize_model(model, images)
    return quantized.export(tmp_path_factory.mktemp("resized") / "bundle").folder


def tables(folder: Path) -> tuple[LayerErrors, ...]:
    loaded = load_bundle(folder)
    names = [item.name for item in loaded.manifest.artifacts if item.scheme == SCHEME]
    return measure_layer_errors(loaded, names, timeout_seconds=60)


def test_results_are_near_to_float_at_their_sizes(bundle: Path) -> None:
    found = tables(bundle)
    assert {table.artifact.rpartition(".")[2] for table in found} == {"tflite", "onnx"}
    for table in found:
        assert table.error is None and table.first_bad is None
        rows = {item.layer.partition("/")[0]: item.sqnr_db for item in table.layers}
        assert RESIZED & set(rows) >= {"stem", "pool"}
        assert all(db is not None and db > BAD_DB for db in rows.values()), rows


def test_the_manifest_says_which_results_were_resized_and_how(bundle: Path) -> None:
    account = manifest_from_json((bundle / MANIFEST_FILE).read_text(), where=bundle).quantization[SCHEME]
    sizes = sizes_from(account.found[CHANNEL_SIZES])
    assert set(sizes) == RESIZED
    for own in sizes.values():
        np.testing.assert_array_equal(own, sizes["stem"])
    # Powers of two, near to what the network was given.
    ratios = sizes["stem"] / sizes["stem"][-1] / (SIZES / SIZES[-1])
    assert ratios.max() / ratios.min() < 16
    assert len(account.found[CHANNEL_SIZES]["divisors"]) == 1


def test_without_the_record_they_are_far_from_float(bundle: Path) -> None:
    path = bundle / MANIFEST_FILE
    before = path.read_text()
    manifest = manifest_from_json(before, where=bundle)
    account = dataclasses.replace(manifest.quantization[SCHEME], found={})
    try:
        path.write_text(manifest_to_json(dataclasses.replace(manifest, quantization={SCHEME: account})))
        for table in tables(bundle):
            rows = {item.layer.partition("/")[0]: item.sqnr_db for item in table.layers}
            assert rows["stem"] is not None and rows["stem"] < BAD_DB
    finally:
        path.write_text(before)
