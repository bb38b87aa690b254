"""A process of edgeship's own looks for garbage less often, and still does."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from edgeship.core.collector import THRESHOLDS, collect_less_often


@pytest.fixture(autouse=True)
def thresholds_of_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_the_collector_looks_less_often_and_is_not_switched_off() -> None:
    gc.set_threshold(700, 10, 10)
    collect_less_often()
    assert gc.get_threshold() == THRESHOLDS
    assert gc.isenabled() and all(new > 0 for new in THRESHOLDS) and THRESHOLDS[0] > 700
