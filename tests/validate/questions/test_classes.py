from __future__ import annotations

import numpy as np

from edgeship.core.metrics import METRICS
from edgeship.validate.questions.classes import count_classes
from edgeship.validate.questions.figures import labels_of
from edgeship.validate.questions.scores import Scoring


def test_counts_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    answers = np.array([0, 1, 1, 1, 1, 0])
    found = count_classes(answers, labels, classes=4)
    assert found.examples == (3, 2, 1, 0)
    assert found.answered == (2, 4, 0, 0)
    assert found.right == (1, 2, 0, 0)
    assert found.confusion == ((1, 2, 0, 0), (0, 2, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0))


def test_a_thousand_classes_have_counts_and_no_matrix() -> None:
    found = count_classes(np.array([999]), np.array([0]), classes=1000)
    assert found.confusion is None
    assert found.examples[0] == 1 and found.answered[999] == 1 and sum(found.right) == 0


def test_class_numbers_that_came_as_floats_are_counted() -> None:
    labels = labels_of(Scoring(metric=METRICS["top1"], targets=np.array([0.0, 2.0])))
    assert labels is not None
    assert count_classes(np.array([0, 1]), labels, classes=3).right == (1, 0, 0)
