"""Metrics against figures that can be had by hand or from scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn

from edgeship.core.metrics import METRICS, metric_of_function, without_last_one

RANDOM = np.random.default_rng(3)


def figure(name: str, outputs: np.ndarray, targets: np.ndarray, inputs: np.ndarray | None = None) -> float:
    metric = METRICS[name]
    return metric.combine(metric.rows([outputs], targets, [] if inputs is None else [inputs]))


def test_top1_and_top5_take_probabilities_and_logits() -> None:
    logits, targets = RANDOM.normal(size=(200, 12)), RANDOM.integers(0, 12, 200)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for outputs in (logits, probabilities):
        assert figure("top1", outputs, targets) == sklearn.accuracy_score(targets, outputs.argmax(-1))
        assert figure("top5", outputs, targets) == pytest.approx(
            sklearn.top_k_accuracy_score(targets, outputs, k=5, labels=np.arange(12))
        )


def test_of_equal_scores_the_class_that_comes_first_counts() -> None:
    outputs = np.zeros((1, 8))
    assert figure("top1", outputs, np.array([0])) == 1
    assert figure("top5", outputs, np.array([4])) == 1
    assert figure("top5", outputs, np.array([5])) == 0


@pytest.mark.parametrize("shape", [(50,), (50, 1)])
def test_targets_may_leave_out_an_axis_of_one(shape: tuple[int, ...]) -> None:
    outputs = RANDOM.normal(size=(50, 1))
    targets = RANDOM.normal(size=shape)
    for name, wanted in (
        ("mean_absolute_error", sklearn.mean_absolute_error), ("mean_squared_error", sklearn.mean_squared_error)
    ):
        assert figure(name, outputs, targets) == pytest.approx(wanted(targets.reshape(-1), outputs.reshape(-1)))


def test_binary_accuracy_is_the_share_of_labels() -> None:
    outputs, targets = np.array([[0.9, 0.2, 0.6], [0.4, 0.1, 0.8]]), np.array([[1, 0, 0], [1, 0, 1]])
    assert figure("binary_accuracy", outputs, targets) == pytest.approx(4 / 6)


def test_logits_of_labels_are_cut_at_zero_and_never_taken_for_probabilities() -> None:
    logits, targets = np.array([[0.3, -0.2], [-4.0, 0.1]]), np.array([[1, 0], [0, 1]])
    assert figure("binary_accuracy_of_logits", logits, targets) == 1
    with pytest.raises(ValueError, match=r"expected probabilities from 0 to 1.*from -4 to 0.3.*_of_logits"):
        figure("binary_accuracy", logits, targets)
    with pytest.raises(ValueError, match="expected probabilities from 0 to 1"):
        figure("binary_accuracy", np.full((2, 2), np.nan), targets)


@pytest.mark.parametrize("name", ["mean_iou", "mean_iou_of_logits"])
def test_one_number_per_pixel_says_yes_or_no(name: str) -> None:
    # Of class 1 two pixels are found and three wanted, one of them void: 2 in common of 2; class 0 has 1 of 1.
    outputs = np.array([[[0.9], [0.8], [0.1], [0.2]]]) - (0.5 if name.endswith("logits") else 0)
    targets = np.array([[1, 1, 0, 255]])
    assert figure(name, outputs[:, None], targets[:, None]) == 1
    # Half of what either has of class 1, and nothing of class 0.
    assert figure(name, outputs[:, None], np.array([[[1, 0, 1, 1]]])) == pytest.approx((1 / 4 + 0) / 2)
    (classes,) = METRICS[name].decide([outputs[:, None]])  # type: ignore[misc]
    assert classes.tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize("levels", [3, 1000])
def test_auc_counts_ties_half(levels: int) -> None:
    targets = RANDOM.integers(0, 2, 300)
    scores = RANDOM.integers(0, levels, 300) + targets * levels / 4
    assert figure("auc", scores[:, None], targets) == pytest.approx(sklearn.roc_auc_score(targets, scores))


def test_reconstruction_auc_scores_by_the_distance_from_the_input() -> None:
    inputs, targets = RANDOM.normal(size=(80, 6)), RANDOM.integers(0, 2, 80)
    outputs = inputs + RANDOM.normal(size=inputs.shape) * (1 + targets[:, None])
    distance = ((inputs - outputs) ** 2).mean(-1)
    assert figure("reconstruction_auc", outputs, targets, inputs) == pytest.approx(
        sklearn.roc_auc_score(targets, distance)
    )


def test_mean_iou_sums_over_all_examples_and_leaves_out_classes_that_do_not_occur() -> None:
    outputs, targets = RANDOM.normal(size=(5, 7, 9, 4)), RANDOM.integers(0, 3, (5, 7, 9))
    outputs[..., 3] = -100  # never found, never wanted
    assert figure("mean_iou", outputs, targets) == pytest.approx(
        sklearn.jaccard_score(targets.reshape(-1), outputs.argmax(-1).reshape(-1), average="macro")
    )


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_void_pixels_are_not_counted(kind: type) -> None:
    """By hand: of 4 pixels two are void; class 0 is right once and found once too often, class 1 is missed once."""
    outputs = np.eye(2)[[[[0, 0], [1, 0]]]]
    targets = np.array([[[0, 1], [255, 255]]], kind)
    assert figure("mean_iou", outputs, targets) == pytest.approx((1 / 2 + 0) / 2)
    many = np.eye(300)[[[[255, 255]]]]
    assert figure("mean_iou", many, np.array([[[255, 255]]], np.int64)) == 1.0  # a class like others, of 300


def test_a_users_function_gets_one_array_or_a_list_of_them() -> None:
    def closeness(outputs: object, targets: np.ndarray) -> np.ndarray:
        first = outputs[0] if isinstance(outputs, list) else outputs
        return -np.abs(first[:, 0] - targets)  # type: ignore[index]

    metric, targets = metric_of_function("closeness", closeness), np.array([1.0, 2.0])
    for outputs in ([np.array([[1.5], [2.0]])], [np.array([[1.5], [2.0]]), np.zeros((2, 3))]):
        assert metric.combine(metric.rows(outputs, targets, [])) == -0.25


@pytest.mark.parametrize(("name", "outputs", "targets", "message"), [
    ("top1", np.zeros((4, 3)), np.zeros((4, 3)), r"expected class numbers of shape \(4,\)"),
    ("top1", np.zeros((4, 3)), np.array([0, 1, 2, 3]), "expected class numbers from 0 to 2, found 0 to 3"),
    ("top5", np.zeros((4, 3)), np.array([-1, 0, 0, 0]), "expected class numbers from 0 to 2, found -1 to 0"),
    ("mean_iou", np.zeros((1, 1, 2, 3)), np.array([[[0, -1]]]), "expected class numbers from 0 to 2, found -1 to 0"),
    ("mean_iou", np.zeros((1, 1, 2, 3)), np.array([[[0, 7]]]), "expected class numbers from 0 to 2, found 0 to 7"),
    ("top1", np.zeros((2, 3)), np.array(["cat", "dog"]), "expected targets that are numbers, found an array of <U3"),
    ("top1", np.zeros((1, 3)), np.array(["2020-01-01"], "datetime64[D]"), "expected targets that are numbers"),
    ("auc", np.zeros((2, 1)), np.array(["no", "yes"]), "expected targets that are numbers"),
    ("binary_accuracy", np.zeros((1, 2)), np.array([["a", "b"]]), "expected targets that are numbers"),
    ("mean_squared_error", np.zeros((2, 1)), np.zeros((2, 1), complex), "expected targets that are numbers"),
    ("top1", np.zeros((4, 3)), np.array([0, 0.5, 1, 2]), "expected class numbers from 0 to 2, found 0 to 2"),
    ("mean_squared_error", np.zeros((4, 3)), np.zeros((4, 2)), r"expected targets of the output's shape \(4, 3\)"),
    ("binary_accuracy", np.zeros((4, 3)), np.full((4, 3), 2), "expected labels that are 0 or 1"),
    ("auc", np.zeros((4, 3)), np.zeros(4), "expected one score per example"),
    ("mean_iou", np.zeros((2, 4, 4, 3)), np.zeros((2, 4)), r"expected class numbers of shape \(2, 4, 4\)"),
])
def test_targets_that_do_not_fit(name: str, outputs: np.ndarray, targets: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        METRICS[name].rows([outputs], targets, [outputs])


@pytest.mark.parametrize(("name", "shape", "rank", "found"), [
    ("top1", (5, 1), 2, (5,)), ("top1", (5,), 2, (5,)), ("top1", (5, 1), 3, (5, 1)), ("top5", (5, 3), 2, (5, 3)),
    ("mean_iou", (5, 4, 4, 1), 4, (5, 4, 4)), ("mean_squared_error", (5, 1), 2, (5, 1)),
])
def test_class_numbers_may_stand_in_a_column(name: str, shape: tuple[int, ...], rank: int, found: Any) -> None:
    targets = without_last_one(METRICS[name], np.zeros(shape), rank=rank)
    assert targets is not None and targets.shape == found
    assert without_last_one(METRICS[name], None, rank=rank) is None


def test_a_metric_by_name_looks_at_one_output() -> None:
    with pytest.raises(ValueError, match="expected a model with one output, found 2; name a function"):
        METRICS["top1"].rows([np.zeros((2, 2)), np.zeros((2, 2))], np.zeros(2), [])


def test_a_function_that_returns_another_shape() -> None:
    metric = metric_of_function("all", lambda outputs, targets: 0.5)
    with pytest.raises(ValueError, match=r"expected one number per example, shape \(3,\)"):
        metric.rows([np.zeros((3, 1))], np.zeros(3), [])
