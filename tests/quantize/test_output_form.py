"""The end of a fake-quantized network in each form of the output."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.errors import ConfigError
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.output_form import (
    check_form,
    float_form,
    for_files,
    for_training,
    measure_softmax,
    softmax_outputs,
)
from edgeship.quantize.prepare import calibrate, finish
from edgeship.quantize.state import load_state, restore, state_bytes
from tests.support.faint_classes import directions, faint_classes

CLASSES = 20


@pytest.fixture(scope="module")
def flat() -> tf_keras.Model:
    return lower(faint_classes(CLASSES, largest_logit=3.0))


def quantized(flat: tf_keras.Model, form: str):
    made = for_training(insert_fake_quantization(flat, input_ranges=[None]), form)
    calibrate(made, [directions(CLASSES)], method="min-max")
    finish(made)
    return made


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("end", [
    lambda x: layers.Dense(4, activation="softmax")(x),
    lambda x: layers.Softmax()(layers.Dense(4)(x)),
    lambda x: layers.Activation("softmax")(layers.Dense(4)(x)),
])
def test_every_way_to_write_a_softmax(end):
    entry = layers.Input((3,))
    model = lower(tf_keras.Model(entry, end(entry)))
    assert softmax_outputs(model) == (0,)
    values = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    answers, logits = (item(values).numpy() for item in (model, float_form(model, "logits")))
    np.testing.assert_allclose(softmax(logits), answers, rtol=1e-5)
    assert float_form(model, "float-probabilities") is model


def test_only_a_softmax_has_logits():
    entry = layers.Input((3,))
    model = lower(tf_keras.Model(entry, layers.Dense(4, activation="sigmoid", name="labels")(entry)))
    assert softmax_outputs(model) == () and measure_softmax(model, [np.zeros((1, 3), np.float32)]) == ()
    check_form("auto", model)
    with pytest.raises(ConfigError, match=r"export.output: 'logits' is for a network that ends in a softmax .* labels"):
        check_form("logits", model)


def test_one_of_two_outputs():
    entry = layers.Input((3,))
    ends = [layers.Dense(2, name="box")(entry), layers.Dense(4, activation="softmax", name="kind")(entry)]
    model = lower(tf_keras.Model(entry, ends))
    values = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    box, logits = float_form(model, "logits")(values)
    np.testing.assert_array_equal(box, model(values)[0])
    np.testing.assert_allclose(softmax(logits.numpy()), model(values)[1], rtol=1e-5)


def test_probabilities_are_on_256_steps(flat):
    answers = for_files(quantized(flat, "probabilities"), "probabilities").model(directions(CLASSES)).numpy()
    np.testing.assert_array_equal(answers * 256, np.rint(answers * 256))


def test_float_probabilities_are_those_of_the_integer_logits(flat):
    made = quantized(flat, "float-probabilities")
    answers, logits = (for_files(made, form).model(directions(CLASSES)).numpy() for form in
                       ("float-probabilities", "logits"))
    np.testing.assert_allclose(softmax(logits), answers, rtol=1e-5)
    assert not np.array_equal(answers * 256, np.rint(answers * 256))


def test_names_of_the_outputs_stay(flat):
    names = list(insert_fake_quantization(flat, input_ranges=[None]).model.output_names)
    for form in ("probabilities", "float-probabilities", "logits"):
        made = for_files(quantized(flat, form), form)
        assert list(made.model.output_names) == names
        assert made.prepared("int8-ptq").float_outputs == (tuple(names) if form == "float-probabilities" else ())


def test_a_state_comes_back_in_its_form(flat, tmp_path):
    made = quantized(flat, "float-probabilities")
    path = tmp_path / "state.npz"
    path.write_bytes(state_bytes(made, keep_float=(), notes={}))
    again = restore(
        load_state(path), lambda _: for_training(insert_fake_quantization(flat, input_ranges=[None]), "logits")
    )
    np.testing.assert_array_equal(again.model(directions(CLASSES)), made.model(directions(CLASSES)))
