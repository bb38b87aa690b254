from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
import tf_keras
from sklearn.datasets import load_sample_images

from edgeship.core.artifact import Preprocessing
from edgeship.core.config import ModelConfig
from edgeship.core.errors import ConfigError, ModelError
from edgeship.data import preprocess
from edgeship.model.build import build_model
from edgeship.model.resnet import build_resnet
from edgeship.model.weights import load_weights, torch_name
from tests.support.torch_files import save_legacy, save_zip, state_dict
from tests.support.torch_resnet import torch_logits, torch_state

SMALL = {"stage_sizes": (1, 2, 1, 1), "width": 8}
TORCH = {"padding": "symmetric", "batch_norm_epsilon": 1e-5}
CLASSES = 10
# The bound promised for logits of ordinary size. What is left between two float32 computations is measured below
# 1e-5 at full width: float32's 1.2e-7 times logits of some 10, times the square root of some dozens of layers.
LOGITS_TOLERANCE = 1e-4
# The derivative of a softmax is at most 1/4 of a logit's change, for all logits together at most 1/2.
PROBABILITY_TOLERANCE = LOGITS_TOLERANCE / 2


def photographs(size: int) -> np.ndarray:
    spec = Preprocessing(
        image_size=size, channels=3, channel_order="RGB", interpolation="bilinear",
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    )
    return preprocess(load_sample_images().images, spec)


def images_of(size: int) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 1, (2, size, size, 3)).astype(np.float32)
    return np.concatenate([noise, photographs(size)])


def logits_of(model: tf_keras.Model, images: np.ndarray) -> np.ndarray:
    head = model.get_layer("probabilities")
    features = tf_keras.Model(model.inputs, head.input)
    return features(images).numpy() @ head.kernel.numpy() + head.bias.numpy()


def model_of(*, size: int = 64, classes: int = CLASSES, **variant) -> tf_keras.Model:
    return build_resnet(input_shape=(size, size, 3), classes=classes, **{**SMALL, **TORCH, **variant})


def saved_as(path, state):
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(state, path)
    else:
        (save_legacy if "legacy" in path.name else save_zip)(path, state_dict(state))
    return path


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "legacy.pth"])
@pytest.mark.parametrize(("size", "se_ratio"), [(64, 0), (65, 0), (64, 16)], ids=["resnet", "odd size", "seresnet"])
def test_a_torch_checkpoint_gives_torchs_answers(tmp_path, name, size, se_ratio):
    state = torch_state(**SMALL, classes=CLASSES, se_ratio=se_ratio)
    model = model_of(size=size, se_ratio=se_ratio, se_divisor=8)
    load_weights(model, saved_as(tmp_path / name, state))
    images = images_of(size)
    expected = torch_logits(state, images)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(logits_of(model, images), expected, rtol=0, atol=LOGITS_TOLERANCE)
    shares = np.exp(expected - expected.max(-1, keepdims=True))
    probabilities = shares / shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(model(images).numpy(), probabilities, rtol=0, atol=PROBABILITY_TOLERANCE)


@pytest.mark.parametrize("se_ratio", [0, 16], ids=["resnet34", "seresnet34"])
def test_the_full_network_gives_torchs_answers(tmp_path, se_ratio):
    full = {"stage_sizes": (3, 4, 6, 3), "width": 64}
    state = torch_state(**full, classes=1000, se_ratio=se_ratio)
    config = ModelConfig(
        weights=str(saved_as(tmp_path / "model.safetensors", state)), se_ratio=se_ratio, se_divisor=8, **TORCH
    )
    model = build_model(config, input_shape=(64, 64, 3), classes=1000)
    images = images_of(64)
    np.testing.assert_allclose(logits_of(model, images), torch_logits(state, images), rtol=0, atol=LOGITS_TOLERANCE)


@pytest.mark.parametrize("wrong", [{"padding": "same"}, {"batch_norm_epsilon": 1e-3}], ids=["padding", "epsilon"])
def test_the_comparison_would_see_another_padding_or_epsilon(tmp_path, wrong):
    state = torch_state(**SMALL, classes=CLASSES)
    model = model_of(**wrong)
    load_weights(model, saved_as(tmp_path / "model.pth", state))
    images = images_of(64)
    assert np.abs(logits_of(model, images) - torch_logits(state, images)).max() > 10 * LOGITS_TOLERANCE


@pytest.mark.parametrize("key", ["padding", "batch_norm_epsilon"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
def test_a_configuration_that_would_compute_something_else_is_refused(key, suffix):
    with pytest.raises(ConfigError, match=rf"model\.{key}: a torch checkpoint .* was trained with {TORCH[key]!r}"):
        ModelConfig(weights=f"model{suffix}", **{name: value for name, value in TORCH.items() if name != key})


def test_names_are_torchs_and_cover_every_weight():
    names = [torch_name(weight.name) for weight in model_of(se_ratio=16, se_divisor=8).weights]
    expected = torch_state(**SMALL, classes=CLASSES, se_ratio=16)
    assert len(set(names)) == len(names)
    assert set(names) == {name for name in expected if not name.endswith("num_batches_tracked")}


def test_half_precision_and_prefixes_are_taken_visibly(tmp_path, capsys):
    state = torch_state(**SMALL, classes=CLASSES)
    halves = {f"module.{name}": a.astype(np.float16) if a.ndim else a for name, a in state.items()}
    model = model_of()
    load_weights(model, saved_as(tmp_path / "model.pth", halves))
    np.testing.assert_array_equal(
        model.get_layer("stem_conv").kernel.numpy(),
        state["conv1.weight"].astype(np.float16).astype(np.float32).transpose(2, 3, 1, 0),
    )
    said = capsys.readouterr().err
    assert f"weights: model.pth: {len(model.weights)} tensors in torch's layout" in said
    assert "'module.' taken off every name" in said
    assert "stored as float16, taken as float32" in said


def test_weights_of_another_network_are_named_and_nothing_is_loaded(tmp_path):
    model = model_of()
    before = model.get_weights()
    state = torch_state(**SMALL, classes=CLASSES)
    bottleneck = {**state, "layer1.0.conv3.weight": np.zeros((32, 8, 1, 1), np.float32)}
    del bottleneck["layer2.1.bn2.running_var"]
    bottleneck["conv1.weight"] = np.zeros((8, 3, 3, 3), np.float32)
    with pytest.raises(ModelError) as caught:
        load_weights(model, saved_as(tmp_path / "model.pth", bottleneck))
    message = str(caught.value)
    assert "nothing was loaded. Missing: layer2.1.bn2.running_var (16,). " in message
    assert "Left over: layer1.0.conv3.weight (32, 8, 1, 1). " in message
    assert "Wrong shape: conv1.weight: expected (8, 3, 7, 7), found (8, 3, 3, 3). " in message
    se = torch_state(**SMALL, classes=CLASSES, se_ratio=16)
    with pytest.raises(ModelError, match=r"Missing: none\. Left over: layer1\.0\.se\.fc1\.weight .* and 15 more\."):
        load_weights(model, saved_as(tmp_path / "se.pth", se))
    for ours, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, was)


def test_a_classifier_of_other_classes_names_the_ways_out_and_can_start_anew(tmp_path, capsys):
    state = torch_state(**SMALL, classes=1000)
    path = saved_as(tmp_path / "model.pth", state)
    model = model_of(classes=4)
    with pytest.raises(ModelError, match=r"\(1000, 64\)\) does not have the model's 4 classes .* model\.new_head"):
        load_weights(model, path)
    head = model.get_layer("probabilities").get_weights()
    load_weights(model, path, new_head=True)
    np.testing.assert_array_equal(model.get_layer("probabilities").kernel, head[0])
    np.testing.assert_array_equal(model.get_layer("stem_bn").gamma, state["bn1.weight"])
    assert "the classifier of 4 classes starts anew (model.new_head)" in capsys.readouterr().err
    without = {name: array for name, array in state.items() if not name.startswith("fc.")}
    load_weights(model, saved_as(tmp_path / "features.pth", without), new_head=True)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full(8, np.nan, np.float32), r"bn1\.bias has NaN or infinite values"),
        (np.full(8, 1e300), r"bn1\.bias has NaN or infinite values \(as float32\)"),
        (np.zeros(8, np.int64), r"bn1\.bias: expected floating-point numbers, found int64"),
    ],
    ids=["nan", "too large", "integers"],
)
def test_numbers_that_are_no_weights_are_named_and_nothing_is_loaded(tmp_path, value, message):
    model = model_of()
    before = model.get_weights()
    state = {**torch_state(**SMALL, classes=CLASSES), "bn1.bias": value}
    with pytest.raises(ModelError, match=message):
        load_weights(model, saved_as(tmp_path / "model.safetensors", state))
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


@pytest.mark.parametrize("name", ["whole.h5", "weights.h5", "whole.keras"])
def test_keras_files_of_the_same_network_load_exactly(tmp_path, name):
    saved = model_of(se_ratio=16, classes=3)
    for weight in saved.weights:
        weight.assign(np.random.default_rng(5).uniform(0.1, 1, weight.shape))
    (saved.save if name.startswith("whole") else saved.save_weights)(tmp_path / name)
    model = model_of(se_ratio=16, classes=3)
    load_weights(model, tmp_path / name)
    images = images_of(64)
    np.testing.assert_array_equal(model(images), saved(images))
    # A model that was loaded names its weights otherwise than one that was built.
    reloaded = tf_keras.models.load_model(tmp_path / name) if name.startswith("whole") else saved
    reloaded.save(tmp_path / "again.h5")
    load_weights(model, tmp_path / "again.h5")
    np.testing.assert_array_equal(model(images), saved(images))
    with pytest.raises(ModelError, match=r"does not have the model's 5 classes"):
        load_weights(model_of(se_ratio=16, classes=5), tmp_path / name)


@pytest.mark.parametrize("name", ["whole.h5", "whole.keras"])
def test_a_keras_network_that_computes_something_else_is_refused(tmp_path, name):
    model_of(padding="same", batch_norm_epsilon=1e-3).save(tmp_path / name)
    with pytest.raises(ModelError, match="of the same shapes that computes something else") as caught:
        load_weights(model_of(), tmp_path / name)
    for part in (
        "stem_pad: not in the file", "stem_conv.padding: expected valid, found same",
        "stem_bn.epsilon: expected 1e-05, found 0.001",
    ):
        assert part in str(caught.value)
    with pytest.raises(ModelError, match=r"stage2_unit1\.padding: expected same, found symmetric"):
        model_of().save(tmp_path / name)
        load_weights(model_of(padding="same"), tmp_path / name)


def test_stage_entries_are_held_against_the_file_too(tmp_path):
    model_of().save(tmp_path / "whole.keras")
    other = model_of()
    other.get_layer("stage3_unit1").batch_norm_epsilon = 1e-3
    with pytest.raises(ModelError, match=r"stage3_unit1\.batch_norm_epsilon: expected 0\.001, found 1e-05"):
        load_weights(other, tmp_path / "whole.keras")
