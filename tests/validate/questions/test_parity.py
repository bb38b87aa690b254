from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from edgeship.core.artifact import TensorSpec
from edgeship.core.integers import sqnr_db
from edgeship.core.metrics import METRICS
from edgeship.graph.content import Content
from edgeship.validate.questions.accuracy import measure_accuracy, tied_share
from edgeship.validate.questions.parity import golden_lsb, measure_agreement, measure_parity
from edgeship.validate.subject.inputs import InputKind
from edgeship.validate.subject.rows import Candidate, Measured

INT8 = TensorSpec(name="y", shape=(1, 3), dtype="int8", scale=1 / 256, zero_point=-128)
UINT8 = TensorSpec(name="y", shape=(1, 3), dtype="uint8", scale=1 / 256, zero_point=0)


def measured(name: str, outputs: np.ndarray, spec: TensorSpec) -> Measured:
    candidate = Candidate(
        name=name, runtime="litert", path=Path(name), scheme="int8-qat", artifact=None, size_bytes=1,
        input_kinds=(InputKind.of(spec),),
    )
    return Measured(
        candidate=candidate, examples=len(outputs), decisions=top1_of(outputs), scored=None, outputs=(outputs,),
        golden_outputs=(outputs[:2],), output_specs=(spec,), grid_specs=(spec,), coverage=None,
    )


def top1_of(outputs: np.ndarray) -> np.ndarray:
    decide = METRICS["top1"].decide
    assert decide is not None
    return decide([outputs])


SIGNED = np.array([[127, -128, -128], [0, -28, -100], [-100, -100, -56]], np.int8)
FIRST = measured("a", SIGNED, INT8)
SECOND = measured("b", (SIGNED.astype(np.int16) + 128 + [[0, 0, 3], [0, 0, 0], [9, 0, 0]]).astype(np.uint8), UINT8)


def test_sqnr() -> None:
    signal = np.array([3.0, 4.0], np.float32)
    assert sqnr_db(signal, signal + np.float32(0.5)) == pytest.approx(10 * math.log10(25 / 0.5))
    assert sqnr_db(signal, signal) is None  # infinite is not a number JSON has
    assert sqnr_db(np.zeros(2), signal) is None
    assert sqnr_db(signal, signal + np.float32([0.5, 0.25]), resolution=0.25) == pytest.approx(20.0)
    assert sqnr_db(signal, signal + np.float32(0.25), resolution=0.25) is None


def test_a_sigmoid_that_is_sure_is_right_to_the_last_bit_of_one() -> None:
    """ONNX Runtime's kernel answers 1.5e-8 for everything below -18."""
    spec = TensorSpec(name="y", shape=(1, 1), dtype="float32", scale=None, zero_point=None)
    keras, runtime = np.float32([[1e-9], [3e-10]]), np.float32([[1.5e-8], [1.5e-8]])
    rows = [measured(name, values, spec) for name, values in (("a", keras), ("b", runtime))]
    rows = [
        dataclasses.replace(row, candidate=dataclasses.replace(row.candidate, scheme="float32")) for row in rows
    ]
    sure, any_values = Content(resolutions=(2.0**-24,)), Content()
    assert measure_parity(rows[1], (keras,), sibling=None, content=sure).sqnr_db is None
    assert (measure_parity(rows[1], (keras,), sibling=None, content=any_values).sqnr_db or 0) < 0
    assert measure_agreement(*rows, None, float_outputs=(keras,), content=sure).sqnr_db is None
    assert (measure_agreement(*rows, None, float_outputs=(keras,), content=any_values).sqnr_db or 0) < 0


def test_parity_against_float_and_against_the_sibling() -> None:
    float_outputs = (SIGNED[:2].astype(np.float32) + 128) / 256 + np.float32(0.25)
    parity = measure_parity(FIRST, (float_outputs,), sibling=SECOND)
    assert parity.max_abs_error == pytest.approx(0.25)
    assert (parity.sibling, parity.max_lsb) == ("b / litert", 9)
    assert parity.differing_share == pytest.approx(2 / 9)
    assert parity.sibling_agreement == 1.0
    alone = measure_parity(FIRST, (float_outputs,), sibling=None)
    assert (alone.sibling, alone.max_lsb, alone.differing_share, alone.sibling_agreement) == (None,) * 4


def test_outputs_on_other_scales_have_no_lsb() -> None:
    other = dataclasses.replace(SECOND, grid_specs=(dataclasses.replace(UINT8, scale=1 / 128),))
    agreement = measure_agreement(FIRST, other, np.array([0, 0, 2]))
    assert (agreement.max_lsb, agreement.differing_share, agreement.top1_agreement) == (None, None, 1.0)


def test_agreement_counts_second_minus_first() -> None:
    flipped = measured("b", SIGNED[[1, 1, 2]][:, [1, 0, 2]], INT8)
    agreement = measure_agreement(FIRST, flipped, np.array([1, 0, 2]))
    assert agreement.top1_agreement == pytest.approx(1 / 3)
    assert agreement.accuracy_delta == 0.0  # one gained, one lost
    assert agreement.accuracy_delta_ci95 is not None
    assert agreement.accuracy_delta_ci95[0] < 0 < agreement.accuracy_delta_ci95[1]


def test_the_share_of_same_classes_that_rounding_explains_follows_the_better_file() -> None:
    """One file answers as float Keras, which leaves the other nothing; both are wrong in a third, which leaves much."""
    flipped = measured("b", SIGNED[[1, 1, 2]][:, [1, 0, 2]], INT8)
    assert FIRST.decisions is not None and flipped.decisions is not None
    right = measure_agreement(FIRST, flipped, None, float_decisions=FIRST.decisions)
    assert right.least_agreement == 1.0 and right.top1_agreement == pytest.approx(1 / 3)
    both_wrong = measure_agreement(FIRST, flipped, None, float_decisions=np.array([0, 1, 2]))
    assert both_wrong.least_agreement == pytest.approx(1 - math.sqrt(2) / 3)
    assert measure_agreement(FIRST, flipped, None).least_agreement is None


def test_golden_lsb() -> None:
    assert golden_lsb((SIGNED,), (SIGNED + np.int8(0),), (INT8,)) == 0
    assert golden_lsb((SIGNED[:1],), (np.array([[-128, 127, -128]], np.int8),), (INT8,)) == 255
    assert golden_lsb((np.ones(3),), (np.zeros(3),), (TensorSpec(name="y", shape=(3,), dtype="float32"),)) is None


def test_of_several_outputs_the_worst_counts() -> None:
    """The second output of two is 3 LSB away, and by itself of a lower SQNR."""
    moved = SIGNED.copy()
    moved[0, 1] += 3
    two = [
        dataclasses.replace(
            FIRST, outputs=(SIGNED, codes), golden_outputs=(SIGNED, codes), output_specs=(INT8, INT8),
            grid_specs=(INT8, INT8),
        )
        for codes in (SIGNED, moved)
    ]
    floats = tuple((codes.astype(np.float32) + 128) / 256 for codes in (SIGNED, SIGNED))
    parity = measure_parity(two[1], floats, sibling=two[0])
    assert (parity.max_lsb, parity.differing_share) == (3, pytest.approx(1 / 18))
    assert parity.sqnr_db == pytest.approx(sqnr_db(floats[1], (moved.astype(np.float32) + 128) / 256))
    assert parity.max_abs_error == pytest.approx(3 / 256)


def test_answers_that_are_values_have_no_agreement() -> None:
    values = [dataclasses.replace(row, decisions=None) for row in (FIRST, SECOND)]
    agreement = measure_agreement(*values, None)
    assert (agreement.top1_agreement, agreement.accuracy_delta, agreement.max_lsb) == (None, None, 9)
    assert measure_parity(values[0], (SIGNED.astype(np.float32)[:2],), sibling=None).agreement is None


def test_the_first_of_equal_outputs_wins() -> None:
    assert top1_of(np.array([[5, 5, 1], [0, 7, 7]], np.int8)).tolist() == [0, 1]


def test_accuracy_is_paired_image_by_image() -> None:
    labels = np.array([0, 1, 2, 0])
    accuracy = measure_accuracy(np.array([0, 1, 0, 1]), labels, float_top1=np.array([0, 0, 2, 0]))
    assert (accuracy.top1, accuracy.float_top1, accuracy.delta, accuracy.agreement) == (0.5, 0.75, -0.25, 0.25)
    assert accuracy.mcnemar_p == 1.0  # 1 gained, 2 lost: as likely as not
    alone = measure_accuracy(np.array([0, 1, 0, 1]), labels, float_top1=None)
    assert (alone.float_top1, alone.delta, alone.delta_ci95, alone.mcnemar_p, alone.agreement) == (None,) * 5


def test_ties_at_the_largest_code_are_counted() -> None:
    codes = np.array([[-128, -128, -128], [-128, -127, -128], [5, 5, -128], [-1, 0, 1]], np.int8)
    assert tied_share(codes) == 0.5
    labels = np.zeros(4, np.int64)
    assert measure_accuracy(top1_of(codes), labels, float_top1=labels, codes=codes).tied_share == 0.5
    assert measure_accuracy(top1_of(codes), labels, float_top1=labels).tied_share is None
