"""The first convolution of a U8S8 file over blocks of columns: the same integers, read back as the plain one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tf_keras
from onnx import numpy_helper
from tf_keras import layers

from edgeship.core.errors import ArtifactError, ExportError
from edgeship.export.checks import check_onnx
from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.onnx_passes.columns_as_channels import columns_as_channels, gains
from edgeship.export.proof.account import hold_to_account
from edgeship.graph import read_onnx
from edgeship.graph.columns import COLUMNS, Fold, folded_kernel, plain_kernel, with_plain_columns
from edgeship.graph.saturation import is_pair_safe, reduction_rows, saturation_of
from tests.support.networks import convert, quantized_model
from tests.support.two_files import codes_of, layer_differences, onnx_answers, tflite_answers

WHERE = Path("model.onnx")
# Of the kernels that a picture meets first: name -> (rows, columns, channels), layers.
STEMS = {
    "7x7, stride 2, of grey": ((16, 16, 1), [layers.Conv2D(8, 7, 2, "same", activation="relu")]),
    "3x3, stride 2, of colours": ((12, 16, 3), [layers.Conv2D(8, 3, 2, "same"), layers.ReLU(6.0)]),
    "3x3 of colours": ((8, 8, 3), [layers.Conv2D(16, 3, padding="same", use_bias=False)]),
    "2x5 of two channels, no activation": ((9, 12, 2), [layers.Conv2D(8, (2, 5), padding="same")]),
    "patches of 4": ((8, 16, 3), [layers.Conv2D(16, 4, 4, activation="relu")]),
    "points": ((4, 8, 3), [layers.Conv2D(8, 1)]),
    "rows apart": ((13, 8, 1), [layers.Conv2D(8, 3, padding="same", dilation_rate=(2, 1))]),
    "a sequence": ((64, 1), [layers.Conv1D(8, 9, 2, "same", activation="relu")]),
}
PLAIN = {
    "an odd width": ((8, 9, 3), [layers.Conv2D(16, 3, padding="same")]),
    "no padding": ((8, 8, 3), [layers.Conv2D(16, 3)]),
    "four channels": ((8, 8, 4), [layers.Conv2D(16, 3, padding="same")]),
    "columns apart": ((8, 8, 3), [layers.Conv2D(16, 3, padding="same", dilation_rate=2)]),
    "three columns at a time": ((8, 12, 3), [layers.Conv2D(16, 3, 3, "same")]),
    "few outputs": ((8, 8, 3), [layers.Conv2D(2, 3, padding="same")]),
    "depthwise": ((8, 8, 3), [layers.DepthwiseConv2D(3, padding="same")]),
    "dense": ((8, 8, 3), [layers.Dense(16)]),
}


def files_of(shape, stem, *, weight_bits=7):
    """(TFLite file, the U8S8 file, the one without the pass, codes of noise). Codes of 7 bits are exact anywhere."""
    tf_keras.utils.set_random_seed(1)
    x = image = layers.Input(shape, name="image")
    for layer in stem:
        x = type(layer).from_config({**layer.get_config(), "name": f"stem_{layer.name}"})(x)
    x = layers.Conv2D(4, 1, name="second")(x) if len(shape) == 3 else layers.Conv1D(4, 1, name="second")(x)
    quantized, noise = quantized_model(tf_keras.Model(image, x, name="net"), weight_bits=weight_bits)
    tflite, _ = convert(quantized)
    plain = with_pass(tflite, lambda model: None)
    return tflite, convert_onnx(tflite, variant="u8s8"), plain, codes_of(tflite, {"image": noise})


def with_pass(tflite, instead):
    """The U8S8 file with another pass in place of this one."""
    from edgeship.export import onnx_passes

    kept = onnx_passes.VARIANTS["u8s8"]
    onnx_passes.VARIANTS["u8s8"] = tuple(
        instead if item is columns_as_channels else item for item in kept
    )
    try:
        return convert_onnx(tflite, variant="u8s8")
    finally:
        onnx_passes.VARIANTS["u8s8"] = kept


def is_folded(content):
    return any(operation.outputs[0].endswith(COLUMNS) for operation in read_onnx(content, where=WHERE).operations)


@pytest.mark.parametrize("name", STEMS)
def test_it_answers_the_same_integers(name, tmp_path):
    tflite, folded, plain, codes = files_of(*STEMS[name])
    assert is_folded(folded) and not is_folded(plain)
    (answer,), (wanted,) = (onnx_answers(content, codes).values() for content in (folded, plain))
    np.testing.assert_array_equal(answer, wanted)
    assert np.abs(answer.astype(int) - next(iter(tflite_answers(tflite, codes).values()))).max() <= 1
    check_onnx(folded, name="model.onnx", activations="uint8", weights="int8", weight_bits=7)
    hold_to_account(folded, tflite, name="model.onnx", source="model.tflite")
    differences, skipped = layer_differences(tflite, folded, codes, tmp_path)
    assert len(differences) == 2 and max(differences.values()) <= 1 and not skipped


@pytest.mark.parametrize("name", STEMS)
def test_it_is_read_back_as_the_plain_convolution(name):
    _, folded, plain, _ = files_of(*STEMS[name])
    found, wanted = with_plain_columns(read_onnx(folded, where=WHERE)), read_onnx(plain, where=WHERE)
    one, other = (graph.weighted_operations()[0] for graph in (found, wanted))
    attributes = [{"pads": (0, 0, 0, 0), **item.operation.attributes} for item in (one, other)]
    assert attributes[0] == attributes[1]
    for tensor, expected in ((one.weights, other.weights), (one.bias, other.bias)):
        if expected is not None:
            np.testing.assert_array_equal(tensor.data, expected.data)
            np.testing.assert_array_equal(tensor.scales, expected.scales)
    assert one.output.name == other.output.name
    moves = {"Transpose", "Reshape"}
    assert [item.kind for item in found.operations if item.kind not in moves] == [
        item.kind for item in wanted.operations if item.kind not in moves
    ]


@pytest.mark.parametrize("name", PLAIN)
def test_others_stay_as_they_are(name):
    _, folded, plain, _ = files_of(*PLAIN[name])
    assert not is_folded(folded) and folded == plain


@pytest.mark.parametrize("variant", ["u8u8", "s8s8"])
def test_it_is_for_the_kernel_of_u8s8_alone(variant):
    tflite, *_ = files_of(*STEMS["3x3 of colours"])
    assert not is_folded(convert_onnx(tflite, variant=variant))


@pytest.mark.parametrize(("what", "change"), [
    ("a copy", lambda kernel: kernel.__setitem__((20, slice(None), 0, 1), kernel[20, :, 0, 1] + 1)),
    ("a zero", lambda kernel: kernel.__setitem__(np.unravel_index(np.flatnonzero(kernel == 0)[0], kernel.shape), 5)),
    ("all copies of one weight", lambda kernel: kernel.__setitem__(kernel == kernel.max(), kernel.max() - 1)),
])
def test_export_holds_every_copy_to_account(what, change):
    tflite, folded, *_ = files_of(*STEMS["3x3 of colours"])
    model = onnx.load_from_string(folded)
    item = next(item for item in model.graph.initializer if len(item.dims) == 4 and item.dims[1] == 12)
    kernel = numpy_helper.to_array(item).copy()
    change(kernel)
    item.CopyFrom(numpy_helper.from_array(kernel, item.name))
    with pytest.raises(ExportError, match=r"model\.onnx: not what model.tflite is"):
        hold_to_account(model.SerializeToString(), tflite, name="model.onnx", source="model.tflite")


def test_a_bias_with_another_copy_is_held_to_account():
    tflite, folded, *_ = files_of(*STEMS["7x7, stride 2, of grey"])
    model = onnx.load_from_string(folded)
    item = next(item for item in model.graph.initializer if item.name.endswith("/bias") and item.dims[0] == 16)
    bias = numpy_helper.to_array(item).copy()
    bias[-1] += 1
    item.CopyFrom(numpy_helper.from_array(bias, item.name))
    with pytest.raises(ExportError, match=r"model\.onnx: not what model\.tflite is"):
        hold_to_account(model.SerializeToString(), tflite, name="model.onnx", source="model.tflite")


@pytest.mark.parametrize(("width", "stride", "left", "block", "channels"), [
    (7, 2, 2, 4, 1), (3, 2, 0, 4, 3), (3, 1, 1, 4, 3), (5, 1, 2, 2, 2), (4, 4, 0, 4, 3), (11, 4, 3, 4, 3),
    (1, 1, 0, 4, 1),
])
def test_the_folded_kernel_computes_the_plain_convolution(width, stride, left, block, channels):
    """By integers, one row of 24 columns: what the block at j reads, times the folded kernel, is its outputs."""
    random = np.random.default_rng(width)
    kernel = random.integers(-127, 128, (3, channels, 1, width))
    row = random.integers(0, 256, (24, channels))
    fold = Fold(block=block, stride=stride, left=left, width=width)
    folded = folded_kernel(kernel, fold)
    padded = np.pad(row, ((left, 2 * width), (0, 0)))
    wanted = [
        np.einsum("wc,ocw->o", padded[start : start + width], kernel[:, :, 0]) for start in range(0, 24, stride)
    ]
    before = -fold.first_block
    blocks = np.pad(row.reshape(24 // block, -1), ((before, fold.last_block), (0, 0)))
    found = [
        np.einsum("bc,ocb->o", blocks[start : start + fold.blocks], folded[:, :, 0])
        for start in range(24 // block)
    ]
    np.testing.assert_array_equal(np.reshape(found, (-1, 3)), wanted)
    plain, start = plain_kernel(folded, outputs=3, channels=channels, stride=stride)
    np.testing.assert_array_equal(plain, kernel)
    assert before * block - start == left


def test_a_kernel_that_cannot_saturate_stays_so():
    """Neighbours change with the blocks: two weights of 100 that were apart would come to lie side by side."""
    kernel = np.zeros((16, 1, 1, 4), np.int8)
    kernel[..., 0] = 1
    kernel[..., 1], kernel[..., 2], kernel[..., 3] = 100, 100, 1
    fold = Fold(block=4, stride=1, left=1, width=4)
    assert is_pair_safe(reduction_rows(kernel))
    assert not is_pair_safe(reduction_rows(folded_kernel(kernel, fold)))
    assert not gains(kernel, fold)
    kernel[..., 2] = 20
    assert gains(kernel, fold)


def test_the_certificate_is_that_of_the_file_as_it_is():
    _, folded, plain, _ = files_of(*STEMS["3x3 of colours"], weight_bits=8)
    pairs = [saturation_of(read_onnx(content, where=WHERE)).pairs for content in (folded, plain)]
    # 64 outputs of 12 channels, 3 rows and 3 blocks, for 16 of 27 weights and one zero; and 4 outputs of 16 weights.
    assert pairs == [64 * 12 * 9 // 2 + 32, 16 * 14 + 32]


@pytest.mark.parametrize("change", [
    lambda model: onnx_attribute(model, "pads").ints.pop(),
    lambda model: model.graph.initializer.remove(shape_of(model)),
    lambda model: shape_of(model).CopyFrom(numpy_helper.from_array(np.array([1, 0, 0, 0]), shape_of(model).name)),
    lambda model: model.graph.input[0].type.tensor_type.shape.dim[3].ClearField("dim_value"),
], ids=["three pads", "no shape", "a shape of zeros", "unknown channels"])
def test_what_only_looks_like_it_stays_as_it_is(change):
    _, folded, *_ = files_of(*STEMS["3x3 of colours"])
    model = onnx.load_from_string(folded)
    change(model)
    try:
        graph = read_onnx(model.SerializeToString(), where=WHERE)
    except ArtifactError:
        return
    assert with_plain_columns(graph) is graph


def onnx_attribute(model, name):
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    return next(item for item in convolution.attribute if item.name == name)


def shape_of(model):
    return next(item for item in model.graph.initializer if item.name.endswith("/blocks/wide/input1"))
