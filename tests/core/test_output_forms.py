"""The form of a classifier's output: hand-computed ties and bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeship.core.output_forms import joined, least_top_steps, resolve, softmax_facts, softmax_window


def test_a_window_of_ten_classes():
    """2 * 256 * 9 = 4608 and ln(4608) = 8.4356; one class or two: ln(512) = 6.2383."""
    assert softmax_window(10) == pytest.approx(8.4356, abs=1e-4)
    assert softmax_window(1) == softmax_window(2) == pytest.approx(6.2383, abs=1e-4)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_what_is_below_the_window_costs_half_a_step_at_most(classes):
    """The worst case: all others lie far below, and are raised to the window's end."""
    logits = np.full(classes, -1e4)
    logits[0] = 0.0
    raised = np.maximum(logits, -softmax_window(classes))
    before, after = (np.exp(values) / np.exp(values).sum() for values in (logits, raised))
    assert np.abs(before - after).max() <= 0.5 / 256
    assert np.abs(before - after).max() > 0.49 / 256  # so the bound is not far too wide


def test_steps_that_the_largest_probability_needs():
    """Of 10 classes a step of the logits is 8.4356 / 255 = 0.03308, and 1 / (1 - exp(-0.03308)) = 30.7."""
    assert least_top_steps(10) == 31
    assert least_top_steps(1000) == 20
    for classes in (2, 10, 1000):
        step, top = softmax_window(classes) / 255, least_top_steps(classes)
        assert top * (1 - math.exp(-step)) >= 1 > (top - 1) * (1 - math.exp(-step))


def test_ties_by_hand():
    """0.4 is 102.4 steps and 0.4008 is 102.6; 0.402 is 102.9 steps, so 0.402 ties with 0.4008 at 103."""
    facts = softmax_facts(np.array([[0.4, 0.4008, 0.1992], [0.402, 0.4008, 0.1972], [0.9, 0.05, 0.05]], np.float32))
    assert (facts.classes, facts.answers, facts.tied) == (3, 3, 1)
    assert facts.least_top == pytest.approx(0.4008)
    assert "the largest of 3 probabilities falls to 0.401" in facts.sentence
    assert "1 of 3 answers tie in int8" in facts.sentence


def test_each_position_has_an_answer():
    facts = softmax_facts(np.full((2, 3, 4), 0.25, np.float32))
    assert (facts.answers, facts.tied, facts.least_top) == (6, 6, 0.25)


def test_facts_of_parts_are_joined():
    parts = [softmax_facts(np.array([row], np.float32)) for row in ([0.5, 0.5], [0.9, 0.1])]
    assert joined(parts) == softmax_facts(np.array([[0.5, 0.5], [0.9, 0.1]], np.float32))


@pytest.mark.parametrize(("top", "form"), [(31 / 256, "probabilities"), (30.9 / 256, "float-probabilities")])
def test_auto_changes_where_int8_loses_what_the_logits_have(top, form):
    rows = np.full((1, 10), (1 - top) / 9, np.float32)
    rows[0, 3] = top
    assert resolve("auto", [softmax_facts(rows)]) == form


def test_two_confident_classes_stay_probabilities():
    assert resolve("auto", [softmax_facts(np.array([[0.98, 0.02], [0.501, 0.499]], np.float32))]) == "probabilities"


def test_what_was_asked_for_is_taken():
    facts = [softmax_facts(np.full((1, 1000), 0.001, np.float32))]
    assert resolve("auto", facts) == "float-probabilities"
    assert [resolve(name, facts) for name in ("probabilities", "logits")] == ["probabilities", "logits"]
