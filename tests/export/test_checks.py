"""Every promise of export/checks.py, broken on purpose; those of layers kept in float are in test_float_layers.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.errors import ExportError
from edgeship.export.checks import check_tflite, quantized_layers
from edgeship.export.files import export_files
from edgeship.export.samples import samples_of_images
from edgeship.export.tflite.io import with_float_io
from edgeship.export.tflite.names import pack
from edgeship.model.prepared import Prepared


@pytest.fixture(scope="module")
def integer_file(every_scheme: Pipeline) -> bytes:
    return (every_scheme.bundle_folder / "int8-ptq-mse.tflite").read_bytes()


def altered(content: bytes, change: Callable[[Any, dict[str, Any]], None]) -> bytes:
    """The file after `change` of its object form and of its tensors by name."""
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    change(file, {tensor.name.decode(): tensor for tensor in file.subgraphs[0].tensors})
    return pack(file)


def relu_from_the_middle(file: Any, tensors: dict[str, Any]) -> None:
    tensors["stem_conv"].quantization.zeroPoint = np.array([-3])


def beyond_the_narrow_range(file: Any, tensors: dict[str, Any]) -> None:
    kernel = file.buffers[tensors["stem_conv/kernel"].buffer]
    kernel.data = np.concatenate([np.array([128], np.uint8), np.asarray(kernel.data)[1:]])  # -128 as a byte


def wrapped_bias(file: Any, tensors: dict[str, Any]) -> None:
    bias = file.buffers[tensors["stem_conv/bias"].buffer]
    values = np.frombuffer(bytes(bias.data), np.int32).copy()
    values[0] = 2**31 - 1
    bias.data = np.frombuffer(values.tobytes(), np.uint8)


def another_bias_scale(file: Any, tensors: dict[str, Any]) -> None:
    quantization = tensors["stem_conv/bias"].quantization
    quantization.scale = np.asarray(quantization.scale) * np.float32(1.001)


def dead_scale(file: Any, tensors: dict[str, Any]) -> None:
    tensors["head_pool"].quantization.scale = np.zeros(1, np.float32)


@pytest.mark.parametrize(("change", "message"), [
    (relu_from_the_middle, r"stem_conv: a ReLU with zero point \[-3\], not -128"),
    (beyond_the_narrow_range, r"stem_conv: a weight is 128, beyond the \+-127 of 8 bits"),
    (wrapped_bias, "stem_conv: a bias does not fit int32"),
    (another_bias_scale, "stem_conv: its bias scale is not input scale x weight scale"),
    (dead_scale, "head_pool: a scale is zero, denormal or not finite"),
])
def test_a_broken_promise_is_named(
    integer_file: bytes, change: Callable[[Any, dict[str, Any]], None], message: str
) -> None:
    check_tflite(integer_file, name="a.tflite", scheme="int8-ptq-mse")
    with pytest.raises(ExportError, match=rf"a\.tflite: not the file it must be: .*{message}"):
        check_tflite(altered(integer_file, change), name="a.tflite", scheme="int8-ptq-mse")


def test_conversions_and_floats_in_an_integer_file(integer_file: bytes, every_scheme: Pipeline) -> None:
    with pytest.raises(ExportError, match="a stray QUANTIZE at image_quantized; a stray DEQUANTIZE at probabilities"):
        check_tflite(with_float_io(integer_file), name="a.tflite", scheme="int8-ptq")
    dynamic = (every_scheme.bundle_folder / "dynamic-int8.tflite").read_bytes()
    with pytest.raises(ExportError, match="CONV_2D stem_conv has the float32 tensor image"):
        check_tflite(dynamic, name="a.tflite", scheme="int8-ptq")
    check_tflite(dynamic, name="a.tflite", scheme="dynamic-int8")


def test_the_account_names_layers_and_misses_what_is_not_int8(every_scheme: Pipeline) -> None:
    folder = every_scheme.bundle_folder
    names = ("stem_conv", "stage1_unit1_conv1", "probabilities")
    found = quantized_layers((folder / "weight-only-int8.tflite").read_bytes(), name="a.tflite", layers=names)
    assert set(names) < set(found) and len(found) == 7
    assert quantized_layers((folder / "float16.tflite").read_bytes(), name="a.tflite", layers=names) == ()


def test_a_kernel_that_is_expected_and_not_there_stops_the_export(every_scheme: Pipeline) -> None:
    from edgeship.quantize.lowering.lower import lower

    config = replace(
        every_scheme.config, quantize=replace(every_scheme.config.quantize, schemes=("weight-only-int8",)),
    )
    prepared = Prepared(
        scheme="weight-only-int8", model=lower(every_scheme._float_model()), expected=("stem_conv/kernel", "ghost"),
    )
    with pytest.raises(ExportError, match=r"weight-only-int8\.tflite: expected int8 kernels of 2 layers, .*: ghost$"):
        export_files(
            [prepared], samples=samples_of_images(every_scheme.splits, spec=every_scheme.spec, golden_images=2),
            config=config,
        )


def test_a_message_does_not_grow_with_the_file(every_scheme: Pipeline) -> None:
    content = (every_scheme.bundle_folder / "float32.tflite").read_bytes()
    with pytest.raises(ExportError, match=r"; and \d+ more$"):
        check_tflite(content, name=str(Path("a.tflite")), scheme="int8-ptq")
