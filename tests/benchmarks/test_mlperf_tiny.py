"""The networks of MLPerf Tiny through the front door: two integer files that agree layer by layer; and the table."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import edgeship
from benchmarks import mlperf_tiny
from benchmarks.mlperf_inputs import keywords, noise, photographs
from benchmarks.networks.images import inputs_of
from benchmarks.networks.tiny import PICTURES, TINY, build
from edgeship.graph import read_tflite
from tests.support.two_files import codes_of, layer_differences, onnx_of

EXAMPLES, COMPARED = 16, 4


def inputs_for(name, model):
    if name in PICTURES:
        return inputs_of(model, EXAMPLES, seed=3)
    return np.random.default_rng(3).normal(size=(EXAMPLES, *model.input_shape[1:])).astype(np.float32)


@pytest.mark.parametrize("name", TINY)
def test_a_network_of_the_benchmark_becomes_two_integer_files_that_agree(name, tmp_path):
    model = build(name)
    inputs = inputs_for(name, model)
    quantized = edgeship.quantize_model(model, inputs)
    weighted = [layer.name for layer in model.layers if hasattr(layer, "kernel") or hasattr(layer, "depthwise_kernel")]
    assert set(quantized.account.quantized) == set(weighted) and not quantized.account.kept_float
    tflite = quantized.convert("tflite")
    graph = read_tflite(tflite, where=tmp_path / "model.tflite")
    assert {tensor.dtype for tensor in graph.tensors.values()} <= {"int8", "int32"}
    onnx = onnx_of(tflite)
    codes = codes_of(tflite, {model.input_names[0]: inputs[:COMPARED]})
    differences, skipped = layer_differences(tflite, onnx, codes, tmp_path)
    assert not skipped and len(differences) >= len(weighted)
    assert max(differences.values()) <= 1, differences


# --- the table -----------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """A few inputs, and no timing: the table's other columns."""
    monkeypatch.setattr(mlperf_tiny, "CALIBRATION", 40)
    monkeypatch.setattr(mlperf_tiny, "TESTS", 60)
    monkeypatch.setattr(mlperf_tiny, "LAYER_INPUTS", 8)
    monkeypatch.setattr(mlperf_tiny, "_ratio", lambda own, ours, *, seconds: "1.00 [0.99, 1.01], 9 launches")


def test_a_model_is_measured_beside_the_benchmarks_own_file(few, tmp_path, monkeypatch, capsys):
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([
        layers.Input((32, 32, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 5, 4, activation="relu"),
        layers.Flatten(), layers.Dense(10, activation="softmax"),
    ])
    model.save(tmp_path / "pretrainedResnet.h5")
    coarse = edgeship.quantize_model(model, 4 * photographs(40, size=32, seed=0))  # steps four times as large
    (tmp_path / "pretrainedResnet_quant.tflite").write_bytes(coarse.convert())
    out = tmp_path / "table.md"
    monkeypatch.setattr("sys.argv", ["mlperf_tiny", "--models", str(tmp_path), "--out", str(out)])
    mlperf_tiny.main()
    lines = out.read_text().splitlines()
    assert out.read_text() in capsys.readouterr().out and lines[0].startswith("CPU: ")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert {len(row) for row in cells} == {mlperf_tiny.HEAD.count(" |")}
    own, converted, ours, onnx = cells[2:]
    assert own[0].startswith("image classification (pretrainedResnet.h5; pieces of two photographs)")
    assert own[6] == "1.00" and ours[6] == "1.00 [0.99, 1.01], 9 launches"
    assert float(ours[5]) > float(own[5]) > 0 and float(converted[5]) > float(own[5])
    assert ours[3] == own[3] and onnx[3].split("/")[0] == onnx[3].split("/")[1]
    assert "layers at most" in onnx[7] and "LSB" in onnx[7]


def test_what_was_not_measured_says_why(few, tmp_path):
    (tmp_path / "kws_ref_model").mkdir()
    (line,) = mlperf_tiny.rows_of("keyword spotting", tmp_path, seconds=1)
    assert "not measured: " in line and "kws_ref_model: a folder, expected a .keras or .h5 file" in line
    assert line.count(" |") == mlperf_tiny.HEAD.count(" |")


def test_a_missing_file_of_the_benchmark_leaves_its_row_out(tmp_path):
    assert mlperf_tiny._ratio(tmp_path / "own.tflite", tmp_path, seconds=1) == "not measured: no own.tflite"


def test_the_inputs_have_the_form_of_the_benchmarks():
    pixels = photographs(3, size=32, seed=0)
    assert pixels.shape == (3, 32, 32, 3) and pixels.min() >= 0 and 100 < pixels.max() <= 255
    assert np.array_equal(pixels, photographs(3, size=32, seed=0))
    sounds = keywords(20, seed=0)
    # Silence is log(1e-6) in each of 40 bands: the first coefficient is sqrt(2/40) times their sum, -123.6.
    assert sounds.shape == (20, 49, 10, 1) and sounds.min() == pytest.approx(-123.56, abs=0.05) and sounds.max() < 60
    slow = noise(4, shape=(30, 40), low=-2, high=5, seed=0)
    assert slow.shape == (4, 30, 40) and slow.min() == -2 and slow.max() == 5
