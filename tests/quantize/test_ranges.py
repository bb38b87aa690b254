from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from edgeship.core.errors import ModelError
from edgeship.quantize.ranges import DEAD_RANGE, Mode, Range

DECAY = 0.75  # exact in float32, and so are the values below


def made(**options):
    item = Range(ema_decay=DECAY, name="layer_range", **options)
    item.build((None, 2))
    return item


def observe(item, *batches, member=0):
    for batch in batches:
        item(tf.constant(batch, tf.float32), member=member)
    return item


def seeded(*batches, method="min-max", **options):
    item = observe(made(**options), *batches)
    item.seed(method)
    return item


def ends(item):
    return float(item.minimum), float(item.maximum)


def train(item, batch, **options):
    return item(tf.constant(batch, tf.float32), training=True, **options)


def test_a_range_observes_without_rounding():
    item = made()
    assert item.mode is Mode.OBSERVE
    values = np.array([[0.123456, -7.5]], np.float32)
    np.testing.assert_array_equal(item(values), values)
    observe(item, [[1.0, 2.0]])
    assert item.seen.extremes == {0: [(-7.5, float(values[0, 0])), (1.0, 2.0)]}
    assert ends(item) == (0.0, 1.0)


def test_tracing_observes_nothing():
    item = made()
    tf.function(item)(tf.ones((1, 2)))
    assert not item.seen.extremes


def test_an_off_range_does_nothing_at_all():
    item = made()
    item.mode = Mode.OFF
    np.testing.assert_array_equal(item(tf.constant([[0.123456, 2.0]])), np.float32([[0.123456, 2.0]]))
    assert not item.seen.extremes


def test_seeding_sets_the_range_and_starts_to_follow():
    item = seeded([[-1.0, 2.0]], [[-3.0, 1.0]])
    assert ends(item) == (-3.0, 2.0) and item.mode is Mode.FOLLOW
    assert item.scale == pytest.approx(5 / 255)


def test_a_seeded_range_rounds_to_255_steps_and_clips():
    item = seeded([[0.0, 255.0]])
    np.testing.assert_array_equal(item(tf.constant([[0.4, 0.6, 300.0, -5.0]])), [[0.0, 1.0, 255.0, 0.0]])


@pytest.mark.parametrize(("batch", "expected"), [([[2.0, 3.0]], (0.0, 3.0)), ([[-2.0, -1.0]], (-2.0, 0.0))])
def test_zero_is_in_every_range(batch, expected):
    assert ends(seeded(batch)) == expected


def test_following_moves_by_the_decay_in_training_alone():
    item = seeded([[-1.0, 2.0]])
    item(tf.constant([[-9.0, 9.0]]))
    assert ends(item) == (-1.0, 2.0)
    train(item, [[-5.0, 6.0]])
    assert ends(item) == (-1.0 * 0.75 - 5.0 * 0.25, 2.0 * 0.75 + 6.0 * 0.25)


def test_what_follows_is_rounded_to_the_range_it_has_then():
    item = seeded([[0.0, 255.0]])
    outputs = train(item, [[0.4, 100.4, 1275.0]])
    assert ends(item) == (0.0, 510.0)
    np.testing.assert_array_equal(outputs, [[0.0, 100.0, 510.0]])  # steps of 2


def test_the_minimum_of_a_relu_stays_exactly_zero():
    item = seeded([[0.0, 2.0]])
    for high in (1.0, 3.0, 0.3):
        train(item, [[0.0, high]])
    assert float(item.minimum) == 0.0


def test_following_passes_gradients_within_the_range_and_none_beyond():
    item, values = seeded([[-1.0, 1.0]]), tf.constant([[-9.0, 0.5, 9.0]])
    item.freeze()
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = item(values, training=True)
    np.testing.assert_array_equal(tape.gradient(outputs, values), [[0.0, 1.0, 0.0]])


def test_a_frozen_range_does_not_move():
    item = seeded([[-1.0, 2.0]])
    item.freeze()
    train(item, [[-5.0, 6.0]])
    assert ends(item) == (-1.0, 2.0) and item.mode is Mode.FROZEN


def test_a_fixed_range_is_known_before_and_stays():
    item = observe(made(known=(0.0, 255 / 256), fixed=True), [[-5.0, 5.0]])
    item.seed("min-max")
    train(item, [[-5.0, 5.0]])
    assert ends(item) == (0.0, 255 / 256) and item.mode is Mode.FROZEN


def test_a_known_range_without_zero_is_widened_to_it():
    assert ends(made(known=(0.25, 1.0), fixed=True)) == (0.0, 1.0)


def test_a_known_range_widens_the_observed_one_and_is_never_left():
    item = seeded([[-1.0, 4.0]], known=(-2.0, 2.0))
    assert ends(item) == (-2.0, 4.0)
    train(item, [[-1.0, 0.0]])
    assert ends(item) == (-2.0, 4.0 * 0.75 + 2.0 * 0.25)


def test_a_cap_clips_in_every_mode():
    item = made(cap=6.0)
    np.testing.assert_array_equal(item(tf.constant([[1.0, 8.0]])), [[1.0, 6.0]])
    assert item.seen.extremes == {0: [(1.0, 6.0)]}
    item.seed("min-max")
    assert ends(item) == (0.0, 6.0)
    assert float(tf.reduce_max(train(item, [[1.0, 80.0]]))) == 6.0
    assert ends(item) == (0.0, 6.0)
    item.mode = Mode.OFF
    np.testing.assert_array_equal(item(tf.constant([[1.0, 8.0]])), [[1.0, 6.0]])


def test_the_members_of_a_grid_are_followed_one_by_one_and_the_range_holds_them_all():
    item = made(members=2)
    observe(item, [[-1.0, 1.0]], member=0)
    observe(item, [[0.0, 8.0]], member=1)
    item.seed("min-max")
    assert ends(item) == (-1.0, 8.0)
    for _ in range(100):  # 0.75^100 is far below what float32 tells apart
        train(item, [[-1.0, 1.0]], member=0)
        train(item, [[0.0, 8.0]], member=1)
    assert ends(item) == pytest.approx((-1.0, 8.0), rel=1e-6)


def test_what_moves_along_on_a_grid_is_rounded_and_sets_nothing():
    item = made(members=1)
    item(tf.constant([[0.0, 99.0]]), member=None)
    assert not item.seen.extremes
    observe(item, [[0.0, 255.0]])
    item.seed("min-max")
    np.testing.assert_array_equal(train(item, [[0.6, 1.4]], member=None), [[1.0, 1.0]])
    assert ends(item) == (0.0, 255.0)


@pytest.mark.parametrize(("batches", "message"), [
    ([], "layer_range: no calibration example reached this tensor"),
    ([[[np.nan, 1.0]]], "layer_range: NaN or infinite values on the calibration examples"),
    ([[[1.0, 2.0]], [[np.inf, 1.0]]], "layer_range: NaN or infinite values on the calibration examples"),
])
@pytest.mark.parametrize("method", ["min-max", "batch-mean", "percentile", "mse"])
def test_what_has_no_range_is_refused(batches, message, method):
    item = observe(made(), *batches)
    with pytest.raises(ModelError, match=message):
        item.seed(method)


@pytest.mark.parametrize("known", [None, (-1.0, 3.0)])
@pytest.mark.parametrize("method", ["min-max", "batch-mean", "percentile", "mse"])
def test_zeros_have_a_grid_too(method, known):
    item = observe(made(known=known), [[0.0, 0.0]], [[0.0, 0.0]])
    item.seed(method)
    assert item.is_dead is (known is None)
    assert ends(item) == (known or DEAD_RANGE)
    np.testing.assert_array_equal(item(tf.constant([[0.0, 0.0]])), [[0.0, 0.0]])


@pytest.mark.parametrize("values", [[1e-9, 2e-7], [-3e-8, 5e-8], [-1e-30, 0.0]])
@pytest.mark.parametrize("method", ["min-max", "batch-mean", "percentile", "mse"])
def test_almost_zeros_have_the_finest_grid(values, method):
    """A layer scale of 1e-6 before its training: such a tensor has a grid that the converter does not widen."""
    item = observe(made(), [values], [values])
    item.seed(method)
    low, high = ends(item)
    assert item.is_tiny and not item.is_dead and high - low == pytest.approx(2e-6)
    np.testing.assert_allclose(item(tf.constant([values])), [values], atol=2e-6 / 255)


def test_a_configuration_makes_the_same_range_again():
    item = made(members=3, known=(-1.0, 2.0), cap=6.0)
    again = Range.from_config(item.get_config())
    assert again.get_config() == item.get_config()
