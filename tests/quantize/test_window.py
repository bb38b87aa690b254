"""The window of a range, in closed form: what each reader does not tell apart, and how far below the logits it goes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.core.integers import sqnr_db
from edgeship.core.output_forms import softmax_window
from edgeship.quantize.calibration import CALIBRATIONS, Seen
from edgeship.quantize.ranges import Range
from edgeship.quantize.window import SIGMOID, SOFTMAX, TANH, Window, reach_of, seen_inside

CODES = {"sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 256, 0, 255), "tanh": (np.tanh, 128, -128, 127)}


@pytest.mark.parametrize(("name", "window"), [("sigmoid", SIGMOID), ("tanh", TANH)])
def test_codes_are_the_same_outside(name, window):
    """What is moved to the window's end has the code it had: the first one below, the last one above."""
    function, steps, first, last = CODES[name]

    def code(x: float) -> float:
        return float(np.clip(np.rint(function(x) * steps), first, last))

    assert code(window.low) == code(window.low - 50) == first
    assert code(window.high) == code(window.high + 50) == last
    # Not far too wide: a window of nine tenths loses a code.
    assert code(0.75 * window.low) > first and code(0.75 * window.high) < last


def test_the_reach_of_a_tail_by_hand():
    """Ten tops, all of them the tail: 1 to 10 lie 4.5 below the largest on average; 4.5 ln(100) = 20.72."""
    assert reach_of(10, np.arange(1.0, 11.0)) == pytest.approx(softmax_window(10) + 20.7233, abs=1e-3)
    # A tenth of a hundred: the ten smallest are 0 to 9.
    assert reach_of(10, np.arange(100.0)) == pytest.approx(softmax_window(10) + 20.7233, abs=1e-3)
    assert reach_of(10, np.full(50, 3.0)) == pytest.approx(softmax_window(10))


def test_unseen_examples_stay_inside_the_margin():
    """Of 20,000 further largest logits with an exponential lower end one is expected below it; the scale is a guess."""
    generator = np.random.default_rng(0)
    below = 0
    for _ in range(20):
        seen, unseen = (5 - generator.exponential(2.0, size) for size in (200, 1000))
        below += int(np.sum(unseen < seen.min() - (reach_of(10, seen) - softmax_window(10))))
    assert below <= 10


@pytest.mark.parametrize("method", sorted(CALIBRATIONS))
def test_every_calibration_is_inside(method):
    seen = Seen()
    for batch in np.random.default_rng(0).normal(0, 20, (4, 32, 10)).astype(np.float32):
        seen.add(batch)
    low, high = CALIBRATIONS[method](seen_inside(seen, Window(low=-3.0, high=2.0)))
    assert -3 <= low < 0 < high <= 2
    assert CALIBRATIONS["min-max"](seen_inside(seen, Window(low=-3.0))) == (-3, CALIBRATIONS["min-max"](seen)[1])


def test_extremes_without_samples_are_inside():
    seen = Seen(keeps_samples=False)
    seen.add(np.linspace(-9, 9, 30, dtype=np.float32).reshape(2, 15))
    assert CALIBRATIONS["min-max"](seen_inside(seen, Window(low=-3.0))) == (-3.0, 9.0)


def test_nothing_inside_is_the_end():
    seen = Seen()
    seen.add(np.full((2, 3), -9.0, np.float32))
    assert CALIBRATIONS["mse"](seen_inside(seen, Window(low=-3.0))) == (-3.0, 0.0)


def logits_range(**options) -> Range:
    """A range of logits that has seen two answers of two classes, (8, -200) and (-90, 6)."""
    made = Range(ema_decay=0.0, window=SOFTMAX, name="logits_range", **options)
    made(np.array([[8, -200], [-90, 6]], np.float32))
    made.seed("min-max")
    return made


def test_a_range_of_logits_by_hand():
    """The smaller top is 6, the tail's mean is 1 below its largest: 6 - ln(512) - ln(100) = -4.8435."""
    made = logits_range()
    assert float(made.minimum) == pytest.approx(6 - np.log(512) - np.log(100), abs=1e-3)
    assert float(made.maximum) == 8
    assert made.unbounded == (-200, 8)


def test_training_does_not_undo_it():
    """With a decay of 0 the range is the last batch's: tops of 1 and 3 -> the window moves down by 5."""
    made = logits_range()
    before = float(made.minimum)
    made(np.array([[1, -300], [3, -300]], np.float32), training=True)
    assert float(made.minimum) == pytest.approx(before - 5, abs=1e-3)
    assert float(made.maximum) == 3


def test_wide_logits_gain_what_their_range_loses():
    """From -300 to 12 are steps of 1.22; the window leaves about -12 to 12: a thirteenth, which is 22 dB."""
    generator = np.random.default_rng(0)
    logits = generator.uniform(-300, 0, (256, 10)).astype(np.float32)
    tops = generator.uniform(4, 12, 256)
    logits[:, 0], logits[:, 1] = tops, tops - generator.uniform(0.5, 4, 256)
    wanted, noise = softmax(logits), {}
    for name, window in (("open", None), ("window", SOFTMAX)):
        made = Range(ema_decay=0.0, window=window, name=name)
        made(logits)
        made.seed("min-max")
        noise[name] = sqnr_db(wanted, softmax(made(logits).numpy()))
    assert noise["window"] - noise["open"] > 15


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_a_logit_below_the_window_can_rise():
    """The gradient passes: the right class of an example that is badly wrong lies there."""
    import tensorflow as tf

    made, values = logits_range(), tf.Variable([[8.0, -200.0]])
    with tf.GradientTape() as tape:
        answer = made(values, training=True)[0, 1]
    np.testing.assert_array_equal(tape.gradient(answer, values), [[0, 1]])


def test_a_fixed_window_in_training():
    made = Range(ema_decay=0.0, window=SIGMOID, name="gate_range")
    made(np.array([[-50, 50]], np.float32))
    made.seed("min-max")
    assert (float(made.minimum), float(made.maximum)) == pytest.approx((SIGMOID.low, SIGMOID.high))
    made(np.array([[-2, 90]], np.float32), training=True)
    assert (float(made.minimum), float(made.maximum)) == pytest.approx((-2, SIGMOID.high))


def test_a_range_comes_back_from_its_configuration():
    config = Range(ema_decay=0.5, window=TANH, name="x_range").get_config()
    assert Range.from_config(config).window == TANH
