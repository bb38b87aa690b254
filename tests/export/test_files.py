"""The exported files of the tiny model: one grid, integers only, the same bytes in any process."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeship.errors import ExportError
from edgeship.graph import read_graph
from export.checks import check_onnx, check_tflite

ARTIFACTS = ("float32.tflite", "float32.onnx", "float32.ort", "int8-ptq.tflite", "int8-ptq-float-io.tflite",
             "int8-qat.tflite", "int8-qat-float-io.tflite", "int8-qat.onnx", "int8-qat-u8s8.onnx",
             "int8-qat-s8s8.onnx", "int8-qat.ort")

EXPORT_AGAIN = """
import sys
from pathlib import Path
from edgeship.config import config_from_dict
from edgeship.pipeline import Pipeline
import json
Pipeline(config=config_from_dict(json.loads(sys.argv[1])), out=Path(sys.argv[2]))._export(Path("unused"))
"""


def test_the_same_weights_give_the_same_bytes_in_fresh_processes(tiny_pipeline, tmp_path):
    from edgeship.config import config_to_dict

    hashes = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        out.mkdir()
        for file in (tiny_pipeline.float_file, tiny_pipeline.qat_file):
            (out / file.name).write_bytes(file.read_bytes())
        subprocess.run(
            [sys.executable, "-c", EXPORT_AGAIN, json.dumps(config_to_dict(tiny_pipeline.config)), str(out)],
            check=True, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=Path(__file__).parents[2],
            capture_output=True,
        )
        manifest = json.loads((out / "bundle" / "manifest.json").read_text())
        hashes.append({artifact["name"]: artifact["sha256"] for artifact in manifest["artifacts"]})
    assert set(hashes[0]) == set(ARTIFACTS)
    assert hashes[0] == hashes[1]


def test_the_qat_file_keeps_every_promise_and_readable_names(tiny_bundle):
    path = tiny_bundle / "int8-qat.tflite"
    check_tflite(path.read_bytes(), name=path.name, relu_starts_at_zero=True)
    graph = read_graph(path)
    assert (graph.inputs, graph.outputs) == (("image",), ("probabilities",))
    assert {"stem_conv/kernel", "stage1_unit1_conv1/bias"} <= set(graph.tensors)


def test_a_float_file_is_not_taken_for_an_integer_one(tiny_bundle):
    with pytest.raises(ExportError, match="float32 tensor"):
        check_tflite((tiny_bundle / "float32.tflite").read_bytes(), name="x.tflite", relu_starts_at_zero=True)
    with pytest.raises(ExportError, match="weights are float32, not uint8"):
        check_onnx((tiny_bundle / "float32.onnx").read_bytes(), name="x.onnx", activations="uint8", weights="uint8")


def test_a_lost_per_channel_scale_is_caught(tiny_bundle):
    model = onnx.load(tiny_bundle / "int8-qat.onnx")
    scale = next(t for t in model.graph.initializer if t.name.endswith("stem_conv/kernel/DequantizeLinear/scale"))
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale)[:1], scale.name))
    with pytest.raises(ExportError, match="weight scales for 8 output channels"):
        check_onnx(model.SerializeToString(), name="x.onnx", activations="uint8", weights="uint8")


def test_onnx_has_the_integers_of_the_tflite_file(tiny_bundle):
    tflite, onnx_file = (read_graph(tiny_bundle / f"int8-qat.{suffix}") for suffix in ("tflite", "onnx"))
    kernels = [name for name in tflite.tensors if name.endswith(("conv/kernel", "conv1/kernel", "conv2/kernel"))]
    assert len(kernels) == 6
    for name in kernels:
        ours, theirs = onnx_file.tensors[name], tflite.tensors[name]
        np.testing.assert_array_equal(ours.data.astype(int) - 128, theirs.data.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(ours.scales, theirs.scales)
        np.testing.assert_array_equal(ours.zero_points, 128)


def test_a_default_session_runs_the_default_file_in_integers_only(tiny_bundle, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "plan.onnx")
    onnxruntime.InferenceSession(tiny_bundle / "int8-qat.onnx", options, providers=["CPUExecutionProvider"])
    kinds = collections.Counter(node.op_type for node in onnx.load(tmp_path / "plan.onnx").graph.node)
    assert kinds["QLinearConv"] == 6 and kinds["QLinearAdd"] == 2
    assert not {"Conv", "FusedConv", "Add", "MatMul", "Gemm", "QuantizeLinear", "DequantizeLinear"} & set(kinds)


def test_the_variants_are_the_same_integers_moved_by_128(tiny_bundle):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    signed = np.random.default_rng(0).integers(-128, 128, (1, 16, 16, 1), dtype=np.int8)
    unsigned = (signed.astype(int) + 128).astype(np.uint8)
    answers = {}
    for variant, image in (("", unsigned), ("-u8s8", unsigned), ("-s8s8", signed)):
        session = onnxruntime.InferenceSession(
            tiny_bundle / f"int8-qat{variant}.onnx", options, providers=["CPUExecutionProvider"]
        )
        answers[variant] = session.run(None, {"image": image})[0].astype(int)
    np.testing.assert_array_equal(answers[""], answers["-u8s8"])
    np.testing.assert_array_equal(answers[""], answers["-s8s8"] + 128)
