from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgeship.core.config import ValidateConfig
from edgeship.core.measurement import Accuracy, Agreement, Coverage, Grid, Parity, Row
from edgeship.core.schemes import SCHEMES
from edgeship.validate.questions.formats import formats_sentence
from edgeship.validate.questions.gate import judge, wrong_answers

CONFIG = ValidateConfig(max_accuracy_drop=0.02, min_coverage=1.0, min_agreement=0.98, max_layer_lsb=1)
ACCURACY = Accuracy(
    images=500, top1=0.97, top1_ci95=(0.95, 0.98), float_top1=0.975, delta=-0.005, delta_ci95=(-0.015, 0.005),
    mcnemar_p=0.5, agreement=0.99,
)
COVERAGE = Coverage(integer=56, total=56, float_ops=(), per_channel=36, weighted=36)
ROW = Row(
    artifact="int8-qat.tflite", scheme="int8-qat", runtime="litert", target="cpu", threads=1, size_bytes=1,
    accuracy=ACCURACY, coverage=COVERAGE,
)
GRID = Grid(
    tflite="int8-qat.tflite", onnx="int8-qat.onnx", tensors_compared=130, mismatches=(), layers_compared=56,
    layer_max_lsb=1, worst_layer="Conv stem",
)
AGREEMENT = Agreement(
    first="int8-qat.tflite / litert", second="int8-qat.onnx / onnxruntime", images=500, top1_agreement=0.99,
    max_lsb=3, differing_share=0.1, accuracy_delta=0.0, accuracy_delta_ci95=(-0.01, 0.01),
)


def row(*, interval: tuple[float, float] = (-0.015, 0.005), delta: float = -0.005, **changes: Any) -> Row:
    accuracy = dataclasses.replace(ACCURACY, delta=delta, delta_ci95=interval)
    return dataclasses.replace(ROW, **{"accuracy": accuracy, **changes})


def test_pass() -> None:
    assert judge([ROW], [GRID], [AGREEMENT], CONFIG) == ("pass", ())


@pytest.mark.parametrize(("interval", "delta", "verdict"), [
    ((-0.0200, 0.01), -0.005, "pass"),  # the limit itself is allowed
    ((-0.05, -0.021), -0.035, "fail"),
    ((-0.05, -0.02), -0.035, "inconclusive"),
    ((-0.03, 0.01), -0.01, "inconclusive"),
])
def test_accuracy_is_judged_by_the_whole_interval(
    interval: tuple[float, float], delta: float, verdict: str
) -> None:
    assert judge([row(interval=interval, delta=delta)], [], [], CONFIG)[0] == verdict


def test_outputs_too_coarse_for_the_classes_are_named_as_the_reason() -> None:
    """Many classes: the probabilities of all are below a step, or many have the largest code."""
    (lossy,) = judge([dataclasses.replace(ROW, accuracy=dataclasses.replace(
        ACCURACY, delta=-0.9, delta_ci95=(-0.95, -0.85), tied_share=0.97,
    ))], [], [], CONFIG)[1]
    assert "for 97% of the examples several classes share the largest output code" in lossy
    assert "or the schemes dynamic-int8, weight-only-int8, int16x8-ptq" in lossy
    assert 'Files with a finer output: export.output = "float-probabilities" or "logits"' in lossy
    few = dataclasses.replace(ACCURACY, delta=-0.9, delta_ci95=(-0.95, -0.85), tied_share=0.02)
    assert "share the largest" not in judge([dataclasses.replace(ROW, accuracy=few)], [], [], CONFIG)[1][0]


def test_inconclusive_says_how_many_images_would_decide() -> None:
    _, (sentence,) = judge([row(interval=(-0.03, 0.01), delta=-0.01)], [], [], CONFIG)
    assert "about 2,000 test examples would decide it" in sentence
    _, (sentence,) = judge([row(interval=(-0.03, -0.01), delta=-0.02)], [], [], CONFIG)
    assert "no number of examples" in sentence


@pytest.mark.parametrize("changes", [
    {"runtime": "litert-reference"}, {"runtime": "onnxruntime-unoptimized"}, {"runtime": "keras"},
])
def test_only_runtimes_that_users_have_are_gated(changes: dict[str, str]) -> None:
    bad = row(interval=(-0.9, -0.8), delta=-0.85, coverage=None, **changes)
    assert judge([ROW, bad], [], [], CONFIG)[0] == "pass"


def test_coverage_names_the_float_operations() -> None:
    coverage = Coverage(integer=2, total=10, float_ops=tuple(f"Conv c{i}" for i in range(8)),
                        per_channel=0, weighted=0)
    verdict, (sentence,) = judge([row(coverage=coverage)], [], [], CONFIG)
    assert verdict == "fail"
    assert "2 of 10 executed operations are integer (20.0%)" in sentence
    assert "Conv c0; Conv c1" in sentence and "and 3 more" in sentence


def test_layers_kept_in_float_do_not_count_and_others_do() -> None:
    kept = ("DEQUANTIZE a/dequantized", "CONV_2D b/float", "QUANTIZE b")
    on_purpose = Coverage(integer=50, total=53, float_ops=(), per_channel=35, weighted=35, kept_float=kept)
    assert judge([row(coverage=on_purpose)], [], [], CONFIG) == ("pass", ())
    by_accident = dataclasses.replace(on_purpose, integer=49, float_ops=("ADD c",))
    verdict, (sentence,) = judge([row(coverage=by_accident)], [], [], CONFIG)
    assert verdict == "fail"
    assert "49 of 50 executed operations outside the layers kept in float are integer (98.0%)" in sentence
    assert "in float: ADD c" in sentence


def test_scales_that_the_file_promises_and_the_runtime_has_not() -> None:
    lost = dataclasses.replace(COVERAGE, per_channel=1, weighted=3)
    verdict, (sentence,) = judge([row(coverage=lost)], [], [], CONFIG)
    assert verdict == "fail" and "2 of 3 integer convolutions have one weight scale for all channels" in sentence
    for right in (
        dataclasses.replace(lost, weight_scales="per-tensor"), dataclasses.replace(lost, per_channel=3),
        dataclasses.replace(lost, per_channel=None),
    ):
        assert judge([row(coverage=right)], [], [], CONFIG) == ("pass", ())


@pytest.mark.parametrize("scheme", [scheme.name for scheme in SCHEMES.values() if not scheme.integer])
def test_schemes_that_compute_in_float_are_gated_by_accuracy_alone(scheme: str) -> None:
    assert judge([row(coverage=None, scheme=scheme)], [], [], CONFIG)[0] == "pass"
    assert judge([row(coverage=None, scheme=scheme, interval=(-0.3, -0.2), delta=-0.25)], [], [], CONFIG)[0] == "fail"


@pytest.mark.parametrize("scheme", [scheme.name for scheme in SCHEMES.values() if scheme.integer])
def test_coverage_of_an_integer_scheme_that_is_not_known_fails(scheme: str) -> None:
    assert judge([row(coverage=None, scheme=scheme)], [], [], CONFIG)[0] == "fail"


def test_one_scale_for_all_channels_fails() -> None:
    coverage = dataclasses.replace(COVERAGE, per_channel=35)
    verdict, (sentence,) = judge([row(coverage=coverage)], [], [], CONFIG)
    assert verdict == "fail" and "1 of 36 integer convolutions have one weight scale" in sentence
    unknown = dataclasses.replace(COVERAGE, per_channel=None)
    assert judge([row(coverage=unknown)], [], [], CONFIG)[0] == "pass"


@pytest.mark.parametrize(("sqnr_db", "scored", "verdict"), [
    (-3.0, False, "inconclusive"), (9.9, False, "inconclusive"), (10.1, False, "pass"), (None, False, "pass"),
    (-3.0, True, "pass"),  # its accuracy says whether it is good enough
])
def test_far_from_float_is_no_pass_where_nothing_is_scored(
    sqnr_db: float | None, scored: bool, verdict: str
) -> None:
    parity = Parity(
        sqnr_db=sqnr_db, max_abs_error=1.0, sibling=None, max_lsb=None, differing_share=None, sibling_agreement=None
    )
    given = row(parity=parity, **({} if scored else {"accuracy": None}))
    found, reasons = judge([given], [GRID], [AGREEMENT], CONFIG, scored=scored)
    assert found == verdict
    assert all("bring some" in reason for reason in reasons)


def test_grids() -> None:
    off = dataclasses.replace(GRID, mismatches=("a: not in the ONNX file",))
    verdict, (sentence,) = judge([ROW], [off], [], CONFIG)
    assert verdict == "fail" and "1 of 130 tensors are not on one integer grid: a: not in" in sentence
    far = dataclasses.replace(GRID, layer_max_lsb=2)
    verdict, (sentence,) = judge([ROW], [far], [], CONFIG)
    assert verdict == "fail" and "layer Conv stem differs by 2 LSB" in sentence
    broken = dataclasses.replace(GRID, error="3 layers could not be run alone")
    assert judge([ROW], [broken], [], CONFIG)[0] == "fail"
    missing = dataclasses.replace(GRID, error="not measured: install onnx to compare the two files")
    assert judge([ROW], [missing], [], CONFIG)[0] == "pass"


def test_agreement_of_the_two_formats_and_of_the_two_optimization_levels() -> None:
    low = dataclasses.replace(AGREEMENT, top1_agreement=0.97)
    verdict, (sentence,) = judge([ROW], [], [low], CONFIG)
    assert verdict == "fail" and "ship as one model" in sentence
    saturated = dataclasses.replace(
        low, first="int8-qat.onnx / onnxruntime", second="int8-qat.onnx / onnxruntime-unoptimized"
    )
    verdict, (sentence,) = judge([ROW], [], [saturated], CONFIG)
    assert verdict == "fail" and "without VNNI" in sentence
    explained = dataclasses.replace(low, second="int8-qat.tflite / litert-reference")
    assert judge([ROW], [], [explained], CONFIG)[0] == "pass"


def test_formats_may_part_as_far_as_their_distance_from_float_explains_unless_the_user_says_how_far() -> None:
    default = dataclasses.replace(CONFIG, min_agreement=None)
    low = dataclasses.replace(AGREEMENT, top1_agreement=0.81)
    explained, wrong = (dataclasses.replace(low, least_agreement=least) for least in (0.2, 0.9))
    assert judge([ROW], [], [explained], default) == ("pass", ())
    assert "so far from float Keras that rounding explains it" in formats_sentence(explained)
    verdict, (sentence,) = judge([ROW], [], [wrong], default)
    assert verdict == "fail" and "81.0% of 500 examples, where their distance from float Keras explains no" in sentence
    verdict, (sentence,) = judge([ROW], [], [low], default)  # float Keras did not run
    assert verdict == "fail" and "expected 98.0% (validate.min_agreement)" in sentence
    assert judge([ROW], [], [dataclasses.replace(low, top1_agreement=0.985, least_agreement=1.0)], default)[0] == "pass"
    verdict, (sentence,) = judge([ROW], [], [explained], CONFIG)
    assert verdict == "fail" and "validate.min_agreement is 98.0%" in sentence


def test_error_rows_fail_and_all_failures_are_told() -> None:
    broken = dataclasses.replace(ROW, accuracy=None, coverage=None, error="x / litert: crashed (SIGSEGV)")
    verdict, sentences = judge(
        [broken, row(interval=(-0.3, -0.2), delta=-0.25)], [dataclasses.replace(GRID, layer_max_lsb=9)], [], CONFIG
    )
    assert verdict == "fail" and len(sentences) == 3
    assert sentences[0] == "x / litert: crashed (SIGSEGV)"


def test_nothing_measured_is_refused_and_a_failure_outweighs() -> None:
    verdict, (sentence,) = judge([], [], [], CONFIG)
    assert verdict == "refused" and "nothing is proven" in sentence
    assert judge([dataclasses.replace(ROW, runtime="keras", coverage=None)], [], [], CONFIG)[0] == "refused"
    straddling, failing = row(interval=(-0.03, 0.01)), row(interval=(-0.3, -0.2), delta=-0.25)
    assert judge([straddling, failing], [], [], CONFIG)[0] == "fail"
    assert judge([row(accuracy=None), straddling], [], [], CONFIG)[0] == "refused"


def test_the_artifacts_whose_answers_fail_here_are_named() -> None:
    failing = row(interval=(-0.3, -0.2), delta=-0.25)
    both = {"int8-qat.tflite", "int8-qat.onnx"}
    assert wrong_answers([ROW, row(interval=(-0.03, 0.01))], [GRID], [AGREEMENT], CONFIG) == frozenset()
    assert wrong_answers([failing], [], [], CONFIG) == {"int8-qat.tflite"}
    for changes in ({"target": "adb"}, {"runtime": "litert-reference"}):
        assert wrong_answers([dataclasses.replace(failing, **changes)], [], [], CONFIG) == frozenset()
    low = dataclasses.replace(AGREEMENT, top1_agreement=0.9)
    assert wrong_answers([ROW], [], [low], CONFIG) == both
    saturated = dataclasses.replace(low, first="a.onnx / onnxruntime", second="a.onnx / onnxruntime-unoptimized")
    assert wrong_answers([ROW], [], [saturated], CONFIG) == {"a.onnx"}
    assert wrong_answers([ROW], [dataclasses.replace(GRID, layer_max_lsb=2)], [], CONFIG) == both
    # What is in float is no matter of the answers.
    coverage = dataclasses.replace(COVERAGE, integer=10, float_ops=("Conv a",) * 46)
    assert wrong_answers([row(coverage=coverage)], [], [], CONFIG) == frozenset()
