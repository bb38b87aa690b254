from __future__ import annotations

import numpy as np
import pytest

from edgeship.core.bounds import (
    FLOAT32_DB,
    least_agreement,
    least_sqnr_between_formats_db,
    least_sqnr_db,
    least_sqnr_of_siblings_db,
)
from edgeship.core.integers import sqnr_db
from edgeship.core.schemes import SCHEMES


@pytest.mark.parametrize("scheme", [item.name for item in SCHEMES.values() if item.activations != "float32"])
def test_an_integer_scheme_has_no_bound(scheme: str) -> None:
    assert least_sqnr_db(scheme, products=5) is None
    assert least_agreement(scheme, products=5) is None
    assert least_sqnr_between_formats_db(scheme) is None


def test_float32_is_held_to_its_rounding_however_deep() -> None:
    assert least_sqnr_db("float32", products=1) == least_sqnr_db("float32", products=400) == FLOAT32_DB
    assert least_agreement("float32", products=10) > 0.9999


def test_coarser_numbers_and_more_products_lower_the_bound() -> None:
    schemes = ("float32", "float16", "weight-only-int8", "dynamic-int8")
    bounds = [least_sqnr_db(scheme, products=4) for scheme in schemes]
    assert bounds == sorted(bounds, reverse=True) and len(set(bounds)) == 4
    deep = least_sqnr_db("float16", products=40)
    assert deep == pytest.approx(bounds[1] - 10)
    shares = [least_agreement(scheme, products=4) for scheme in schemes]
    assert shares == sorted(shares, reverse=True) and shares[-1] > 0.4


def test_files_of_the_same_numbers_differ_by_float32_rounding() -> None:
    assert least_sqnr_between_formats_db("float16") == least_sqnr_between_formats_db("weight-only-int8") == FLOAT32_DB
    assert least_sqnr_between_formats_db("dynamic-int8") is None


@pytest.mark.parametrize(("scheme", "products"), [("float16", 1), ("float16", 12), ("weight-only-int8", 12)])
def test_a_chain_of_products_with_rounded_weights_keeps_the_bound(scheme: str, products: int) -> None:
    random = np.random.default_rng(0)
    exact = rounded = random.normal(size=(64, 50))
    for _ in range(products):
        weights = random.laplace(size=(50, 50)) / 10  # heavy tails
        if scheme == "float16":
            small = weights.astype(np.float16).astype(np.float64)
        else:
            steps = np.abs(weights).max(axis=0) / 127
            small = np.rint(weights / steps) * steps
        exact, rounded = np.maximum(exact @ weights, 0), np.maximum(rounded @ small, 0)
    found, bound = sqnr_db(exact, rounded), least_sqnr_db(scheme, products=products)
    assert bound < found < bound + 45


def test_siblings_are_no_farther_apart_than_independent_errors_would_put_them() -> None:
    random = np.random.default_rng(1)
    model = random.normal(size=10_000)
    first, second = model + random.normal(0, 0.01, model.shape), model + random.normal(0, 0.01, model.shape)
    least = least_sqnr_of_siblings_db(sqnr_db(model, first), sqnr_db(model, second))
    assert sqnr_db(first, second) == pytest.approx(least, abs=0.3)
    worse = model + random.normal(0, 0.03, model.shape)
    assert sqnr_db(first, worse) < least_sqnr_of_siblings_db(sqnr_db(model, first), sqnr_db(model, worse)) - 3
