"""Quantization-aware training, on a network of three convolutions that tells where in the picture a bar is."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from edgeship.data import Images, preprocess
from edgeship.quantize import qat
from edgeship.quantize.ranges import Mode
from tests.support.bars import CALIBRATION, SPEC, TEST, TRAIN, config, ends, prepared, seeded, trained_bars
from tests.support.networks import convert, randomize, run_tflite


@pytest.fixture(scope="module")
def float_model():
    return trained_bars()


def trained(model, *, images=TRAIN, teacher=None, checkpoints=None, quantized=None, **options):
    quantized = quantized or prepared(model, **options)
    qat.train(
        quantized, calibration=CALIBRATION, images=images, spec=SPEC, config=config(**options), augmentation="none",
        teacher=teacher or model, checkpoints=checkpoints,
    )
    return quantized


def kernels(quantized):
    return [weight.numpy() for weight in quantized.model.trainable_weights]


@pytest.fixture(scope="module")
def followed(float_model):
    return trained(float_model, freeze_ranges_at=1.0)


def test_ranges_follow_and_kernels_train(float_model, followed):
    before = seeded(float_model)
    assert all(item.mode is Mode.FROZEN for item in followed.ranges)
    assert all(not np.array_equal(*pair) for pair in zip(kernels(before), kernels(followed), strict=True))
    moved = {name for name, span in ends(followed).items() if span != ends(before)[name]}
    # The input's range is the preprocessing's, and the softmax' the specification's.
    assert moved == set(ends(before)) - {"image_range", "answer_softmax_range"}
    assert ends(followed)["image_range"] == (0.0, 1.0)


def test_every_relu_starts_at_exactly_zero_after_training(followed):
    relus = [span for name, span in ends(followed).items() if "relu" in name]
    assert len(relus) == 3 and all(low == 0.0 and high > 0.0 for low, high in relus)


def test_ranges_frozen_from_the_start_stay_while_kernels_train(float_model):
    before, after = seeded(float_model), trained(float_model, freeze_ranges_at=0.0)
    assert ends(after) == ends(before)
    assert all(not np.array_equal(*pair) for pair in zip(kernels(before), kernels(after), strict=True))


def test_a_step_of_training_leaves_no_batch_norm_and_nothing_but_kernels_and_biases(float_model):
    names = {weight.name.split("/")[-1] for weight in prepared(float_model).model.trainable_weights}
    assert names == {"kernel:0", "bias:0"}


def test_with_full_distillation_labels_do_not_count(float_model, followed):
    shuffled = Images(TRAIN.images, np.roll(TRAIN.labels, 1))
    other = trained(float_model, images=shuffled, freeze_ranges_at=1.0)
    for one, two in zip(kernels(followed), kernels(other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_without_distillation_the_teacher_does_not_count(float_model):
    stranger = randomize(tf_keras.models.clone_model(float_model))
    one, two = (trained(float_model, teacher=teacher, distillation=0.0) for teacher in (float_model, stranger))
    for values, others in zip(kernels(one), kernels(two), strict=True):
        np.testing.assert_array_equal(values, others)


def test_a_resumed_run_equals_one_that_was_not_interrupted(float_model, tmp_path):
    whole = trained(float_model)
    interrupted = prepared(float_model)

    def freeze():
        raise KeyboardInterrupt

    interrupted.ranges[0].freeze = freeze  # at three quarters of the steps
    with pytest.raises(KeyboardInterrupt):
        trained(float_model, quantized=interrupted, checkpoints=tmp_path)
    assert not np.array_equal(kernels(interrupted)[0], kernels(whole)[0])
    resumed = trained(float_model, checkpoints=tmp_path)
    assert ends(resumed) == ends(whole)
    for one, two in zip(kernels(whole), kernels(resumed), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_trained_network_is_what_ships(followed):
    content, graph = convert(followed)
    assert {item.operation.kind for item in graph.weighted_operations()} == {
        "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED",
    }
    images = preprocess(TEST.images, SPEC)
    (found,), (step,) = run_tflite(content, images)
    expected = followed.model(images).numpy()
    # Where a sum is half-way between two integers, kernels and Keras may part by one, and a softmax answers steeply.
    assert np.mean(np.abs(found - expected) > 1.01 * step) < 0.1
    assert np.mean(found.argmax(-1) == expected.argmax(-1)) > 0.95
    assert np.mean(found.argmax(-1) == TEST.labels) > 0.8
