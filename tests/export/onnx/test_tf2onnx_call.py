"""tf2onnx gives one file for one file, whatever the order of its sets, and goes on where an optimizer fails."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tf2onnx
from tf2onnx.graph import Graph
from tf2onnx.optimizer.merge_duplicated_nodes_optimizer import MergeDuplicatedNodesOptimizer
from tf_keras import Model, layers

import edgeship
from edgeship.core.errors import ExportError
from edgeship.export.onnx.convert import _converted, convert_onnx
from edgeship.export.onnx.tf2onnx_call import CATCH_ERRORS, from_tflite
from tests.support.networks import randomize

# Other hash seeds give other orders of names, and each process has other addresses.
AGAIN = """
import hashlib, sys
from edgeship.export.onnx.convert import convert_onnx
print(hashlib.sha256(convert_onnx(sys.stdin.buffer.read(), variant="u8u8")).hexdigest())
"""


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A TFLite file in which three layers read one tensor, behind which tf2onnx has three equal operations."""
    tokens = layers.Input((6, 8), name="tokens")
    x = layers.LayerNormalization(name="norm")(layers.Dense(8, activation="relu", name="embed")(tokens))
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = randomize(Model(tokens, layers.Dense(3, name="last")(layers.Flatten()(x)), name="model"))
    inputs = np.random.default_rng(0).normal(size=(32, 6, 8)).astype(np.float32)
    quantized = edgeship.quantize_model(model, inputs, keep_float=["norm"])
    bundle = quantized.export(tmp_path_factory.mktemp("attention") / "bundle", formats=("tflite",))
    (path,) = bundle.folder.rglob("int8-ptq.tflite")
    return path.read_bytes()


def digest(content: bytes) -> str:
    _converted.cache_clear()
    return hashlib.sha256(convert_onnx(content, variant="u8u8")).hexdigest()


def test_the_same_bytes_in_any_process(attention: bytes) -> None:
    found = subprocess.run(
        [sys.executable, "-c", AGAIN], input=attention, check=True, capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "1"}, cwd=Path(__file__).parents[3],
    )
    assert found.stdout.decode().split()[-1] == digest(attention)


@pytest.mark.parametrize("method", ["extract_sub_graph_nodes", "find_output_consumers"])
def test_the_same_bytes_in_any_order(attention: bytes, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each set had another order."""
    wanted, real, random = digest(attention), getattr(Graph, method), Random(0)

    def shuffled(*arguments: Any, **options: Any) -> list[Any]:
        return random.sample(found := real(*arguments, **options), len(found))

    monkeypatch.setattr(Graph, method, shuffled)
    for _ in range(4):
        assert digest(attention) == wanted


def test_an_optimizer_that_fails_is_left_out(attention: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(optimizer: object, graph: object) -> None:
        raise IndexError("no such place")

    whole = len(from_tflite(attention).graph.node)
    monkeypatch.setattr(MergeDuplicatedNodesOptimizer, "_optimize", fail)
    assert len(from_tflite(attention).graph.node) > whole  # what it would have merged is there


def test_a_refusal_is_one_sentence(attention: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("unsupported")

    monkeypatch.setattr(tf2onnx.convert, "process_tf_graph", refuse)
    with pytest.raises(ExportError, match=r"^tf2onnx refused the TFLite file: unsupported$"):
        from_tflite(attention)


def test_nothing_is_left_changed(attention: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CATCH_ERRORS, "true")
    before = Graph.extract_sub_graph_nodes, Graph.find_output_consumers
    from_tflite(attention)
    assert (Graph.extract_sub_graph_nodes, Graph.find_output_consumers) == before
    assert os.environ[CATCH_ERRORS] == "true"
