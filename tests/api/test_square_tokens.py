"""As many tokens as features, so that no shape tells a tensor from its transpose: layer by layer the files agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import edgeship

TOKENS = np.random.default_rng(0).normal(size=(64, 12, 12)).astype("float32")


def network(kind: Any) -> Any:
    """A block of a transformer as it is usually written: norm, attention, sum, norm, two GELUs, sum, norm."""
    kind.utils.set_random_seed(1)
    layers = kind.layers
    tokens = layers.Input((12, 12), name="tokens")
    x = layers.Dense(12, name="embed")(tokens)
    y = layers.LayerNormalization(epsilon=1e-6, name="norm1")(x)
    y = layers.MultiHeadAttention(num_heads=2, key_dim=6, name="attention")(y, y)
    x = layers.Add(name="sum1")([y, x])
    y = layers.LayerNormalization(epsilon=1e-6, name="norm2")(x)
    y = layers.Dense(24, activation="gelu", name="wide")(y)
    y = layers.Dense(12, activation="gelu", name="narrow")(y)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm3")(layers.Add(name="sum2")([y, x]))
    return kind.Model(tokens, layers.Dense(3, name="values")(layers.Flatten(name="flat")(x)))


@pytest.mark.parametrize("kind", [tf_keras, keras], ids=["keras 2", "keras 3"])
def test_a_block_of_a_transformer_passes_with_what_is_kept(tmp_path: Path, kind: Any) -> None:
    kept = ["norm1", "norm2", "norm3", "wide_gelu", "narrow_gelu"]
    bundle = edgeship.quantize_model(network(kind), TOKENS, keep_float=kept).export(tmp_path / "bundle")
    report = bundle.validate(
        TOKENS, latency_launches=1, latency_runs=2, runtimes=("keras", "litert", "onnxruntime")
    )
    assert report.verdict == "pass", report
    grid = report.to_dict()["grids"][0]
    assert grid["layer_max_lsb"] <= 1
    assert grid["layers_compared"] == grid["layers_total"]
