from __future__ import annotations

import numpy as np
import pytest

from edgeship.core.evidence import ClassCounts
from edgeship.validate.questions.chance import guessing
from edgeship.validate.questions.classes import count_classes


def counts(*, confusion: list[list[int]]) -> ClassCounts:
    """[the right class][the answer], as the stages count them."""
    pairs = [(right, answer) for right, row in enumerate(confusion) for answer, n in enumerate(row) for _ in range(n)]
    targets, answers = np.array(pairs).T
    return count_classes(answers, targets, classes=len(confusion))


@pytest.mark.parametrize("confusion", [
    [[150, 0, 0, 0], [150, 0, 0, 0], [150, 0, 0, 0], [150, 0, 0, 0]],  # always the same answer
    [[50, 50], [50, 50]],  # a coin
    [[0, 100], [100, 0]],  # the classes in another order
    [[900, 0], [100, 0]],  # always the frequent one: 90 % are right
    [[5, 1], [3, 1]],  # too few to tell
])
def test_answers_that_have_nothing_to_do_with_the_inputs(confusion: list[list[int]]) -> None:
    found = guessing(counts(confusion=confusion))
    assert found is not None and found.verdict == "inconclusive"
    assert "may be guessing" in found.sentence and "data.mean, data.std" in found.sentence


@pytest.mark.parametrize("confusion", [
    [[480, 120], [100, 500]],
    [[40, 10, 10], [10, 40, 10], [10, 10, 40]],
    [[900, 50], [5, 45]],  # a detector of a rare class: 94.5 % are right, and 95 % would be without it
    [[6, 0], [0, 6]],
])
def test_answers_that_know_something(confusion: list[list[int]]) -> None:
    assert guessing(counts(confusion=confusion)) is None


def test_the_figures_of_the_sentence_by_hand() -> None:
    # 20 + 10 of 100 are right; by chance 50 % * 60 % + 50 % * 40 % = 50 %.
    found = guessing(counts(confusion=[[20, 30], [40, 10]]))
    assert found is not None
    assert "30 of 100 answers are right (30.0%), and 50.0% would be" in found.sentence


def test_no_classes_nothing_to_say() -> None:
    assert guessing(None) is None
