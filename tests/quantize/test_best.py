"""The cheapest way to integers that no other beats on held-out examples."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeship.core.errors import ModelError
from edgeship.data import preprocess
from edgeship.export.tflite.convert import convert_tflite
from edgeship.quantize import best
from edgeship.quantize.prepare import finish, seed_ranges
from edgeship.quantize.state import load_state, restore, state_bytes
from tests.support.bars import CALIBRATION, SPEC, prepared, seeded, trained_bars


def test_one_example_in_four_judges_and_none_does_both():
    calibration, held_out = best.split(10)
    assert held_out.tolist() == [3, 7]
    assert sorted([*calibration, *held_out]) == list(range(10))


def test_too_few_examples_are_refused():
    with pytest.raises(ModelError, match=(
        "int8-ptq-best: expected at least 8 calibration examples, of which one in 4 judges, found 7; bring more, or "
        "take int8-ptq"
    )):
        best.split(7)


@pytest.mark.parametrize(("errors", "others", "beats"), [
    ([1.0, 2.0, 3.0], [2.0, 3.0, 4.1], True),
    ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], False),  # no difference: the cheaper one stays
    ([1.0, 2.0, 3.0], [0.0, 1.0, 9.0], False),  # better on average, by one example
    ([2.0, 3.0, 4.0], [1.0, 2.0, 3.0], False),
])
def test_a_way_beats_another_where_the_mean_difference_is_above_its_noise(errors, others, beats):
    assert best._beats(np.array(errors), np.array(others)) is beats


@pytest.fixture(scope="module")
def found():
    quantized = prepared(trained_bars())
    calibration, held_out = (
        [preprocess(CALIBRATION.select(places).images, SPEC)] for places in best.split(len(CALIBRATION))
    )
    return quantized, best.find_best(quantized, calibration, held_out), held_out[0]


def test_what_is_found_is_at_least_as_near_to_float_as_every_single_way(found):
    quantized, result, held_out = found
    assert result.steps and result.trials[0].steps == ("min-max",)
    assert [trial.steps[-1] for trial in result.trials][:4] == ["min-max", "batch-mean", "percentile", "mse"]
    assert result.sqnr_db >= result.min_max_sqnr_db
    assert (result.calibration_examples, result.held_out_examples) == (48, 16)
    assert json.loads(json.dumps(result.record))["steps"] == list(result.steps)
    assert " + ".join(result.steps) in result.sentence
    # What the network answers now is what was measured.
    network = best.logits_of(quantized.model)
    with quantized.in_float():
        wanted = network(held_out).numpy()
    noise = np.mean((network(held_out).numpy() - wanted) ** 2)
    np.testing.assert_allclose(10 * np.log10(np.mean(wanted**2) / noise), result.sqnr_db, atol=0.01)


@pytest.mark.parametrize("steps", [
    ("percentile",), ("min-max", "equalization", "bias-correction"), ("mse", "rounding", "bias-correction"),
])
def test_what_was_chosen_is_done_again_on_all_examples(steps):
    batches = [[preprocess(CALIBRATION.select(places).images, SPEC)] for places in best.split(len(CALIBRATION))]
    quantized, other = prepared(trained_bars()), prepared(trained_bars())
    start = quantized.model.get_weights()
    best.find_best(quantized, *batches)  # leaves whatever it found
    for network in (quantized, other):
        best.repeat(network, steps, [*batches[0], *batches[1]], start=start)
    for found, expected in zip(quantized.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    if steps == ("percentile",):  # ranges of all examples, weights of the float network
        plain = prepared(trained_bars())
        seed_ranges(plain, CALIBRATION, spec=SPEC, method="percentile")
        finish(plain)
        for found, expected in zip(quantized.model.get_weights(), plain.model.get_weights(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_it_comes_back_from_its_file_and_is_no_longer_than_min_max(found, tmp_path):
    quantized, result, held_out = found
    (tmp_path / "state.npz").write_bytes(state_bytes(quantized, keep_float=(), notes=result.record))
    again = restore(load_state(tmp_path / "state.npz"), lambda _: prepared(trained_bars()))
    np.testing.assert_array_equal(again.model(held_out), quantized.model(held_out))
    assert again.prepared("int8-ptq-best").notes["steps"] == list(result.steps)
    plain = seeded(trained_bars())
    finish(plain)
    sizes = [len(convert_tflite(made.model, scheme="int8-ptq")) for made in (again, plain)]
    assert sizes[0] <= sizes[1]
