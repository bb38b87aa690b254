"""Quantization-aware training, on a network of three convolutions that tells where in the picture a bar is."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.artifact import Preprocessing
from edgeship.core.config import QuantizeConfig
from edgeship.core.errors import ModelError
from edgeship.data import Images, preprocess
from edgeship.export.checks import check_tflite
from edgeship.export.tflite.convert import convert_tflite
from edgeship.model.train import Schedule, fit
from edgeship.quantize import qat
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.ranges import Mode
from tests.support.networks import convert, randomize, run_tflite

SPEC = Preprocessing(
    image_size=8, channels=1, channel_order="gray", interpolation="bilinear", mean=(0.0,), std=(1.0,)
)
CLASSES = 4


def bars(count, *, seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pictures = generator.integers(0, 160, (count, 8, 8), dtype=np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        picture[2 * label : 2 * label + 2] += np.uint8(95)
    return Images(pictures, labels)


TRAIN, CALIBRATION, TEST = bars(128, seed=0), bars(64, seed=1), bars(64, seed=2)


@pytest.fixture(scope="module")
def float_model():
    tf_keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 1), name="image")

    def conv(x, name):
        return layers.BatchNormalization(momentum=0.8, name=f"{name}_norm")(
            layers.Conv2D(8, 3, padding="same", use_bias=False, name=name)(x)
        )

    x = layers.ReLU(name="stem_relu")(conv(image, "stem"))
    y = layers.ReLU(name="first_relu")(conv(x, "first"))
    x = layers.ReLU(name="unit_relu")(layers.Add(name="unit")([x, conv(y, "second")]))
    x = layers.Flatten(name="flat")(layers.AveragePooling2D(2, name="pool")(x))
    model = tf_keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="answer")(x), name="bars")
    fit(model, TRAIN, spec=SPEC, label="float", schedule=Schedule(epochs=8, batch_size=32, learning_rate=3e-3))
    return model


def config(**options):
    return QuantizeConfig(**{
        "epochs": 2, "batch_size": 32, "learning_rate": 1e-3, "ema_decay": 0.9, "calibration": "min-max", **options
    })


def prepared(model, **options):
    return qat.prepare(lower(model), spec=SPEC, config=config(**options))


def trained(model, *, images=TRAIN, teacher=None, checkpoints=None, quantized=None, **options):
    quantized = quantized or prepared(model, **options)
    qat.train(
        quantized, calibration=CALIBRATION, images=images, spec=SPEC, config=config(**options), augmentation="none",
        teacher=teacher or model, checkpoints=checkpoints,
    )
    return quantized


def seeded(model, method="min-max", **options):
    quantized = prepared(model, **options)
    qat.seed_ranges(quantized, CALIBRATION, spec=SPEC, method=method)
    return quantized


def ends(quantized):
    return {item.name: (float(item.minimum), float(item.maximum)) for item in quantized.ranges}


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
    assert {item.operation.kind for item in graph.weighted_operations()} == {"CONV_2D", "FULLY_CONNECTED"}
    images = preprocess(TEST.images, SPEC)
    (found,), (step,) = run_tflite(content, images)
    expected = followed.model(images).numpy()
    # Where a sum is half-way between two integers, kernels and Keras may part by one, and a softmax answers steeply.
    assert np.mean(np.abs(found - expected) > 1.01 * step) < 0.1
    assert np.mean(found.argmax(-1) == expected.argmax(-1)) > 0.95
    assert np.mean(found.argmax(-1) == TEST.labels) > 0.8


@pytest.mark.parametrize("method", ["min-max", "batch-mean", "percentile", "mse"])
def test_every_calibration_gives_a_network_that_answers(float_model, method):
    quantized = seeded(float_model, method)
    qat.finish(quantized)
    assert all(item.mode is Mode.FROZEN for item in quantized.ranges)
    images = preprocess(TEST.images, SPEC)
    answers = quantized.model(images).numpy().argmax(-1)
    assert np.mean(answers == float_model(images).numpy().argmax(-1)) > 0.9
    whole = ends(seeded(float_model))
    assert all(whole[name][0] <= low <= high <= whole[name][1] for name, (low, high) in ends(quantized).items())


def test_weights_of_7_bits_are_so_in_the_file(float_model):
    quantized = seeded(float_model, weight_bits=7)
    qat.finish(quantized)
    content = convert_tflite(quantized.model, scheme="int8-ptq")
    check_tflite(content, name="model.tflite", scheme="int8-ptq", weight_bits=7)


def test_no_calibration_images_is_refused(float_model):
    with pytest.raises(ModelError, match=(
        r"data\.calibration_images: the calibration split is empty; the integer ranges need some images"
    )):
        qat.seed_ranges(prepared(float_model), Images(TEST.images[:0], TEST.labels[:0]), spec=SPEC, method="min-max")


def test_a_dead_layer_is_named_and_keeps_its_zeros(float_model, capsys):
    model = tf_keras.models.clone_model(float_model)
    model.get_layer("first_norm").beta.assign(np.full(8, -1e6))
    quantized = seeded(model)
    qat.finish(quantized)
    said = capsys.readouterr().err
    assert said.count("only zeros on all calibration images; is this meant?") == 1 and "first_relu" in said
    assert np.all(np.isfinite(quantized.model(TEST.images[:4].astype(np.float32))))
    convert_tflite(quantized.model, scheme="int8-ptq")


def test_the_bias_of_a_dead_channel_fits_its_integer():
    image = layers.Input((8, 8, 1), name="image")
    x = layers.Conv2D(4, 3, name="conv")(image)
    model = randomize(tf_keras.Model(image, layers.Dense(3, name="dense")(layers.Flatten(name="flat")(x))))
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[..., 1], bias[1] = 0.0, 100.0
    model.get_layer("conv").set_weights([kernel, bias])
    quantized = qat.prepare(lower(model), spec=SPEC, config=config())
    qat.seed_ranges(quantized, CALIBRATION, spec=SPEC, method="min-max")
    before = quantized.model(preprocess(TEST.images, SPEC)).numpy()
    qat.finish(quantized)
    np.testing.assert_array_equal(quantized.model(preprocess(TEST.images, SPEC)), before)
    _, graph = convert(quantized)
    conv, _ = graph.weighted_operations()
    # 2^30, where a scale of float32 is off by half a unit in its last place.
    assert 2**30 * (1 - 1e-6) < conv.bias.data[1] <= 2**30 * (1 + 1e-6)
    assert conv.bias.data[1] * conv.bias.scales[1] == pytest.approx(100.0, rel=1e-6)
    np.testing.assert_array_equal(conv.weights.data[1], 0)


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_biases_that_are_all_one_number_are_that_number_in_the_file(bias):
    """The converter would divide all of them by the scale of the first channel."""
    image = layers.Input((8, 8, 1), name="image")
    model = randomize(tf_keras.Model(image, layers.Conv2D(4, 3, name="conv")(image)))
    model.get_layer("conv").bias.assign(np.full(4, bias))
    quantized = qat.prepare(lower(model), spec=SPEC, config=config())
    qat.seed_ranges(quantized, CALIBRATION, spec=SPEC, method="min-max")
    qat.finish(quantized)
    _, graph = convert(quantized)
    (conv,) = graph.weighted_operations()
    assert len(np.unique(conv.weights.scales)) == 4
    np.testing.assert_allclose(conv.bias.data * conv.bias.scales, np.full(4, bias), atol=conv.bias.scales.max())


def test_several_inputs_are_calibrated_together():
    one, two = (layers.Input((8, 8, 1), name=name) for name in ("one", "two"))
    model = randomize(tf_keras.Model([one, two], layers.Add(name="sum")([one, layers.ReLU(name="relu")(two)])))
    quantized = qat.prepare(lower(model), spec=SPEC, config=config())
    qat.calibrate(quantized, [[np.full((1, 8, 8, 1), 0.5), np.full((1, 8, 8, 1), 0.25)]], method="min-max")
    assert ends(quantized)["sum_range"] == pytest.approx((0.0, 0.75), abs=1 / 255)
    assert ends(quantized)["one_range"] == ends(quantized)["two_range"] == (0.0, 1.0)
