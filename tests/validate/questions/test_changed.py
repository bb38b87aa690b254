from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgeship.core.evidence import MOST_EXAMPLES, MOST_PAIRS
from edgeship.data.examples import Examples, examples_of_arrays
from edgeship.validate.questions.changed import Changes, Reference

FLOATS = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.1, 0.8]])
OWN = np.array([[0.3, 0.6, 0.1], [0.3, 0.6, 0.1], [0.5, 0.1, 0.4]])
TARGETS = np.array([0, 1, 2, 0, 1, 2])


def inputs(count: int) -> Examples:
    return examples_of_arrays((np.arange(count * 2, dtype=np.float32).reshape(count, 2),))


def test_changed_classes_by_hand() -> None:
    """Examples 0 and 2 change: the lead of float's answer falls from 0.5 to -0.3, and from 0.7 to -0.1."""
    changes, reference = Changes(), Reference(targets=TARGETS, exported=None)
    for start in (0, 3):  # two portions of the same numbers
        reference.take((FLOATS,), FLOATS.argmax(1), start=start)
        reference.compare(changes, (OWN,), OWN.argmax(1), start=start)
    found = changes.answers(inputs(6))
    assert found is not None
    assert (found.compared, found.changed) == (6, 4)
    assert sorted(item.index for item in found.examples) == [0, 2, 3, 5]
    first = next(item for item in found.examples if item.index == 2)
    assert (first.target, first.float_answer, first.answer) == (2, 2, 0)
    assert (first.float_output, first.float_output_of_answer) == (0.8, 0.1)
    assert (first.output, first.output_of_float_answer) == (0.5, 0.4)
    assert first.margin_change == pytest.approx(0.8)
    assert [round(item.margin_change, 6) for item in found.examples] == [0.8] * 4
    example = np.array([4.0, 5.0], np.float32)
    assert first.sha256 == hashlib.sha256(b"float32 (2,)\n" + example.tobytes()).hexdigest()


def test_without_float_keras_the_classes_of_the_export_are_compared() -> None:
    changes, reference = Changes(), Reference(targets=None, exported=np.array([0, 1, 2]))
    reference.compare(changes, (OWN,), OWN.argmax(1), start=0)
    found = changes.answers(inputs(3))
    assert found is not None and found.changed == 2
    assert all(item.float_output is None and item.target is None for item in found.examples)
    assert found.examples[0].index == 0  # 0.6 - 0.3 is more than 0.5 - 0.4
    assert found.examples[0].margin_change == pytest.approx(0.3)


def test_the_answers_of_another_portion_are_not_compared() -> None:
    changes, reference = Changes(), Reference(targets=None, exported=None)
    reference.take((FLOATS,), FLOATS.argmax(1), start=0)
    reference.compare(changes, (OWN,), OWN.argmax(1), start=3)
    assert changes.answers(inputs(6)) is None


def test_at_most_fifty_and_the_largest_change_first() -> None:
    generator = np.random.default_rng(0)
    lead = generator.uniform(0.0, 0.5, 200)
    floats, own = (np.stack([0.5 + sign * lead, 0.5 - sign * lead], axis=1) for sign in (1, -1))
    changes, reference = Changes(), Reference(targets=None, exported=None)
    reference.take((floats,), floats.argmax(1), start=0)
    reference.compare(changes, (own,), own.argmax(1), start=0)
    found = changes.answers(inputs(200))
    assert found is not None and found.changed == 200 and len(found.examples) == MOST_EXAMPLES
    assert [item.index for item in found.examples] == list(np.argsort(-lead)[:MOST_EXAMPLES])


def test_values_that_moved_by_hand() -> None:
    floats, own = np.zeros((20, 4)), np.zeros((20, 4))
    own[3] = (2, 0, 0, 0)  # root mean square 1
    own[7] = (1, 1, 1, 1)  # 1 too
    own[9] = (4, 4, 4, 4)
    changes, reference = Changes(), Reference(targets=None, exported=None)
    reference.take((floats,), None, start=0)
    reference.compare(changes, (own,), None, start=0)
    found = changes.deviations(inputs(20), scored=np.arange(20.0), float_scored=np.arange(20.0) + 10)
    assert changes.answers(inputs(20)) is None
    assert found is not None and found.compared == 20
    assert [(pair.index, pair.distance) for pair in found.furthest[:3]] == [(9, 4.0), (3, 1.0), (7, 1.0)]
    assert found.furthest[0].values == (4.0, 4.0, 4.0, 4.0) and len(found.furthest) == MOST_PAIRS
    assert found.distances is not None and sum(found.distances.counts) == 20 and found.distances.counts[-1] == 1
    assert found.scores is not None and found.float_scores is not None
    assert found.scores.edges == found.float_scores.edges and found.scores.edges[-1] == 29.0


def test_several_outputs_count_together_and_right_or_wrong_is_no_histogram() -> None:
    changes, reference = Changes(), Reference(targets=None, exported=None)
    reference.take((np.zeros((2, 1)), np.zeros((2, 2, 2))), None, start=0)
    reference.compare(changes, (np.full((2, 1), 3.0), np.full((2, 2, 2), 4.0)), None, start=0)
    found = changes.deviations(inputs(2), scored=np.array([True, False]), float_scored=np.array([True, True]))
    assert found is not None and found.furthest[0].distance == pytest.approx(5.0)  # 3 and 4
    assert found.scores is None and found.float_scores is None
