"""A GELU, exact and approximate, alone and kept in float between integer layers, in both formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.core.errors import LoweringError

PICTURES = np.random.default_rng(0).uniform(0, 1, (64, 8, 8, 3)).astype("float32")
FORMS = {
    "an activation": lambda x: layers.Activation("gelu", name="curve")(x),
    "approximate": lambda x: layers.Lambda(lambda value: tf.nn.gelu(value, approximate=True), name="curve")(x),
    "by hand": lambda x: layers.Lambda(lambda v: 0.5 * v * (1.0 + tf.math.erf(v / np.sqrt(2.0))), name="curve")(x),
}


def network(form: str) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(1)
    picture = layers.Input((8, 8, 3), name="picture")
    x = FORMS[form](layers.Conv2D(8, 3, name="one")(picture))
    x = layers.Activation("relu", name="after")(layers.Conv2D(8, 3, name="two")(x))
    return tf_keras.Model(picture, layers.Dense(4, name="values")(layers.Flatten(name="flat")(x)), name="curved")


@pytest.mark.parametrize("form", FORMS)
def test_a_curve_that_is_kept_goes_all_the_way(tmp_path: Path, form: str) -> None:
    model = network(form)
    with pytest.raises(LoweringError, match="keep_float = ") as refused:
        edgeship.quantize_model(model, PICTURES)
    kept = str(refused.value).split("keep_float = [")[1].split("]")[0].replace('"', "").split(", ")
    bundle = edgeship.quantize_model(model, PICTURES, keep_float=kept).export(tmp_path / "bundle")
    nodes = onnx.load(tmp_path / "bundle" / "int8-ptq.onnx").graph.node
    assert not any(node.op_type.startswith("TFL_") for node in nodes)
    assert sum(node.op_type == "Cast" for node in nodes) == 1  # what is kept is dequantized once
    report = bundle.validate(
        PICTURES, latency_launches=1, latency_runs=2, runtimes=("keras", "litert", "onnxruntime"),
    )
    assert report.verdict == "pass", report
