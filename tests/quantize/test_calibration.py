from __future__ import annotations

import numpy as np
import pytest

from edgeship.quantize.calibration import (
    CALIBRATIONS,
    SAMPLES_PER_BATCH,
    SHARES,
    Seen,
    batch_mean,
    min_max,
    mse,
    percentile,
)


def seen(*batches, members=None):
    found = Seen()
    for index, batch in enumerate(batches):
        found.add(np.asarray(batch, np.float32), member=0 if members is None else members[index])
    return found


def normal(shape, *, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rounded(values, low, high):
    """The 8-bit form of values, by the definition."""
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale


def error(values, low, high):
    return float(np.mean((rounded(values, low, high) - values) ** 2))


def test_min_max_is_over_everything():
    assert min_max(seen([[-1.0, 2.0]], [[-3.0, 1.0]], [[0.0, 5.0]], members=[0, 0, 1])) == (-3.0, 5.0)


def test_batch_mean_is_over_the_batches_of_each_tensor():
    assert batch_mean(seen([[-1.0, 2.0]], [[-3.0, 4.0]])) == (-2.0, 3.0)
    # A mean over tensors would lie between them, and clip the largest.
    assert batch_mean(seen([[-1.0, 2.0]], [[0.0, 100.0]], members=[0, 1])) == (-1.0, 100.0)


def test_percentile_leaves_out_one_value_in_ten_thousand_at_each_end():
    values = np.arange(-10_000, 10_001) / 10_000
    low, high = percentile(seen(values[None]))
    expected = np.quantile(values, [0.0001, 0.9999])
    np.testing.assert_allclose([low, high], expected, atol=1e-6)
    assert min_max(seen(values[None])) == (-1.0, 1.0)


def test_percentile_is_not_moved_by_a_rare_outlier():
    values = normal((32, 32, 32))
    values[0, 0, 0] = 1000.0
    assert percentile(seen(values))[1] < 5.0


def test_a_tensor_with_fewer_values_than_the_percentile_leaves_out_has_its_extremes():
    """Fewer than one value in 10,000 is not zero: the percentile is 0, and a range must hold something."""
    values = np.zeros((1, 20_000))
    values[0, 7] = 3.0
    assert percentile(seen(values)) == (0.0, 3.0)


def swish(values):
    return values / (1 + np.exp(-values))


@pytest.mark.parametrize("values", [
    normal((2, 1000)), np.abs(normal((2, 1000))), np.random.default_rng(0).laplace(size=(2, 1000)),
    np.random.default_rng(0).uniform(0, 1, (2, 1000)), swish(3 * normal((2, 1000))),
], ids=["normal", "half normal", "laplace", "uniform", "swish"])
def test_mse_finds_what_brute_force_finds(values):
    values = np.asarray(values, np.float32)
    low, high = mse(seen(values))
    values = values.reshape(-1).astype(np.float64)
    least, most = min(values.min(), 0.0), max(values.max(), 0.0)
    shares = SHARES[::2]
    tried = [error(values, least * low, most * high) for low in (shares if least else [1.0]) for high in shares]
    # One end after the other instead of every pair; the search steps by a hundredth of the extremes.
    assert error(values, low, high) < 1.01 * min(tried)


def with_outlier(batches, outlier):
    """One value in about half a million, in the first batch."""
    batches[0][0, 0] = outlier
    return batches


def test_mse_clips_an_outlier_of_a_normal_and_nothing_of_a_uniform():
    # Clipping at c costs (40 - c)^2 in one of n = 524,288 values; rounding costs ((c + 4) / 255)^2 / 12 in each of
    # them. The sum is least where (40 - c) / n = (c + 4) / (12 * 255^2): at c = 22.
    normals = with_outlier([normal((1, SAMPLES_PER_BATCH), seed=seed) for seed in range(16)], 40.0)
    low, high = mse(seen(*normals))
    assert high == pytest.approx(22.0, abs=1.0) and -6.0 < low < -3.0
    uniform = seen(np.random.default_rng(0).uniform(-1, 1, (1, SAMPLES_PER_BATCH)))
    assert mse(uniform) == pytest.approx(min_max(uniform), rel=0.02)


def test_mse_does_not_clip_the_dense_end_for_an_outlier_at_the_other():
    """Of a swish: nothing is below -0.28, where many values are, and a few are far above."""
    batches = with_outlier([swish(normal((1, SAMPLES_PER_BATCH), seed=seed)) for seed in range(16)], 40.0)
    low, high = mse(seen(*batches))
    # Much as above; half of the values lie on few codes near the minimum, where they round better than evenly.
    assert high == pytest.approx(23.0, abs=2.0) and low < -0.26


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7, 16, 24, 40, 112])
@pytest.mark.parametrize("width", [8, 9])
def test_the_sample_sees_every_channel_alike(channels, width):
    pixels = -(-4 * SAMPLES_PER_BATCH // (width * width * channels)) * width
    values = np.broadcast_to(np.arange(channels, dtype=np.float32), (pixels, width, width, channels))
    (sample,) = seen(values).samples
    assert len(sample) >= SAMPLES_PER_BATCH // 2
    counts = np.bincount(sample.astype(int), minlength=channels)
    assert counts.min() > 0.9 * counts.max()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_sample_sees_every_image_row_and_column_alike(axis):
    shape = (32, 28, 28, 24)
    places = np.arange(shape[axis], dtype=np.float32).reshape([-1 if at == axis else 1 for at in range(4)])
    (sample,) = seen(np.broadcast_to(places, shape)).samples
    counts = np.bincount(sample.astype(int), minlength=shape[axis])
    assert counts.min() > 0.9 * counts.max()


def test_a_small_tensor_is_sampled_whole():
    values = normal((4, 3))
    np.testing.assert_array_equal(seen(values).values, values.reshape(-1))


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_every_method_holds_zero_alone_for_zeros(method):
    low, high = CALIBRATIONS[method](seen(np.zeros((2, 5))))
    assert (low, high) == (0.0, 0.0)


def test_extremes_need_no_samples():
    found = Seen(keeps_samples=False)
    for batch in (normal((8, 4, 4, 3)), 3 * normal((8, 4, 4, 3), seed=1)):
        found.add(batch)
    assert not found.samples
    assert min_max(found) == min_max(seen(normal((8, 4, 4, 3)), 3 * normal((8, 4, 4, 3), seed=1)))
