"""Factors of channels, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.quantize.channel_factors import LARGEST_RATIO, factors, reach_of, read_shares


def test_channels_in_front_of_a_depthwise_layer_become_equal():
    largest = np.array([8.0, 2.0, 4.0])
    np.testing.assert_allclose(largest / factors(largest, None, largest), 8.0)


def test_half_of_the_ratio_goes_to_the_weights():
    largest, weights = np.array([9.0, 1.0]), np.array([1.0, 1.0])
    divisors = factors(largest, weights, largest)
    np.testing.assert_allclose(divisors, [1.0, 1 / 3])
    # As far apart as the weights are then: 3 to 1 the one, 1 to 3 the other.
    np.testing.assert_allclose(largest / divisors, [9.0, 3.0])
    np.testing.assert_allclose(weights * divisors, [1.0, 1 / 3])


def test_no_channel_is_enlarged_without_bounds_and_dead_ones_stay():
    equal_weights = np.ones(3)
    divisors = factors(np.array([1.0, 1e-6, 0.0]), None, equal_weights)
    np.testing.assert_allclose(divisors, [1.0, 1 / LARGEST_RATIO, 1.0])
    np.testing.assert_array_equal(factors(np.zeros(3), None, equal_weights), 1.0)


def test_a_channel_that_its_weights_make_small_is_enlarged_as_much():
    """Three channels 10^4 apart: by their weights the second, by chance (its weights could do more) the third."""
    divisors = factors(np.array([1.0, 1e-4, 1e-4]), None, np.array([2.0, 2e-4, 2.0]))
    np.testing.assert_allclose(divisors, [1.0, 1e-4, 1 / LARGEST_RATIO])


def test_the_weights_of_a_dead_channel_do_not_become_the_largest():
    """The live channels' weights become 1e-2 of what they were; the dead one's, as large as theirs, become so too."""
    largest, weights = np.array([1e-4, 1e-4, 0.0]), np.array([1.0, 0.5, 1.0])
    divisors = factors(largest, weights, np.array([1e-4, 1e-4, 1e-4]))
    assert (divisors * weights)[2] == pytest.approx((divisors * weights)[:2].max())
    # Its own weights could make it large: then it is not enlarged beyond the bound.
    divisors = factors(np.array([1.0, 1e-4, 0.0]), np.array([1e-4, 1.0, 1.0]), np.array([1.0, 1e-4, 1.0]))
    assert divisors.tolist() == pytest.approx([1.0, 1e-4, 1 / LARGEST_RATIO])


def test_what_a_channel_can_reach_is_what_its_weights_and_bias_give():
    kernel, bias = np.array([[1, -2, 0], [3, 1, 0]]), np.array([0, 1, -5.0])
    np.testing.assert_allclose(reach_of(kernel, bias, axes=1, largest_input=2.0), [8, 7, 5])
    np.testing.assert_allclose(reach_of(kernel.reshape(1, 2, 3, 1), None, axes=2, largest_input=1.0), [4, 3, 0])


def test_a_weight_counts_as_a_share_of_its_output_channels_largest():
    kernel = np.array([[[4, 0.5], [-8, 0.1]]])  # two input channels, two outputs
    np.testing.assert_allclose(read_shares(kernel), [1.0, 1.0])
    np.testing.assert_allclose(read_shares(kernel[..., :1]), [0.5, 1.0])
