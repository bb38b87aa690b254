"""The exported files of the tiny model: one grid, integers only, the same bytes in any process."""

from __future__ import annotations

import collections
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeship.core.errors import ExportError
from edgeship.export.checks import check_onnx, check_tflite
from edgeship.graph import read_graph

INTEGER_FILES = (".tflite", "-float-io.tflite", ".onnx", "-u8s8.onnx", "-s8s8.onnx", ".ort")
ARTIFACTS = {
    "tiny_pipeline": (
        "float32.tflite", "float32.onnx", "float32.ort",
        *(f"{scheme}{file}" for scheme in ("int8-ptq", "int8-qat") for file in INTEGER_FILES),
    ),
    "every_scheme": (
        *(f"{scheme}.{suffix}" for scheme in ("float32", "float16", "dynamic-int8", "weight-only-int8", "int8-ptq-mse")
          for suffix in ("tflite", "onnx")),
        "int16x8-ptq.tflite", "int16x8-ptq-float-io.tflite", "int8-ptq-mse-float-io.tflite",
    ),
}

EXPORT_AGAIN = """
import sys
from pathlib import Path
from edgeship.core.config_file import config_from_dict
from edgeship.app.pipeline.pipeline import Pipeline
import json
Pipeline(config=config_from_dict(json.loads(sys.argv[1])), out=Path(sys.argv[2]))._export(Path("unused"))
"""


def hashes_of(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    return {artifact["name"]: artifact["sha256"] for artifact in manifest["artifacts"]}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_the_same_weights_give_the_same_bytes_in_a_fresh_process(name, request, tmp_path):
    """This process has made other models before, and numbers hashes in its own way."""
    from edgeship.core.config_file import config_to_dict

    pipeline = request.getfixturevalue(name)
    expected = hashes_of(pipeline.bundle_folder)
    assert set(expected) == set(ARTIFACTS[name])
    shutil.copy(pipeline.float_file, tmp_path)
    shutil.copy(pipeline.out / "output.json", tmp_path)
    shutil.copytree(pipeline.out / "quantized", tmp_path / "quantized")
    subprocess.run(
        [sys.executable, "-c", EXPORT_AGAIN, json.dumps(config_to_dict(pipeline.config)), str(tmp_path)],
        check=True, env={**os.environ, "PYTHONHASHSEED": "1"}, cwd=Path(__file__).parents[2], capture_output=True,
    )
    assert hashes_of(tmp_path / "bundle") == expected


def test_the_qat_file_keeps_every_promise_and_readable_names(tiny_bundle):
    path = tiny_bundle / "int8-qat.tflite"
    check_tflite(path.read_bytes(), name=path.name, scheme="int8-qat")
    graph = read_graph(path)
    assert (graph.inputs, graph.outputs) == (("image",), ("probabilities",))
    assert {"stem_conv/kernel", "stage1_unit1_conv1/bias"} <= set(graph.tensors)


def test_a_float_file_is_not_taken_for_an_integer_one(tiny_bundle):
    with pytest.raises(ExportError, match="stem_conv: weights are float32, not int8"):
        check_tflite((tiny_bundle / "float32.tflite").read_bytes(), name="x.tflite", scheme="int8-qat")
    with pytest.raises(ExportError, match="expected 0 operations of float32 weights, not uint8; found 7: stem_conv"):
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
