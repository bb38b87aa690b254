"""Metrics: how the answers of a model are scored against targets, one row per example.

    top1, top5            is the right class first, or among the first five; probabilities or logits, (n, classes)
    binary_accuracy       share of an example's labels on the right side of 0.5, (n, labels); probabilities
    binary_accuracy_of_logits    the same, on the right side of 0
    mean_absolute_error   \
    mean_squared_error    /  over an example's values; the targets have the output's shape
    mean_iou              intersection over union of pixel classes, mean over classes, (n, h, w, classes); pixels of the
                          class 255 are void, as in PASCAL VOC, and not counted. (n, h, w, 1) is the probability of
                          class 1, as behind a sigmoid
    mean_iou_of_logits    the same; (n, h, w, 1) is a logit
    auc                   area under the receiver operating characteristic; one score per example, targets 0 or 1
    reconstruction_auc    the same; an example's score is the mean squared distance of the output from the input

A metric of the user's is a function `(outputs, targets) -> one number per example`, of which the mean counts. `outputs`
is an array, or a list of arrays where the model has several outputs.

Rows and not one number, so that two models are compared example by example (paired), and so that an interval is had by
drawing examples anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

VOID = 255
NUMBERS = "biuf"  # kinds of NumPy's types that targets may have
Outputs = Sequence[np.ndarray]  # real numbers, one array per output
Decide = Callable[[Outputs], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to score answers.

    `rows` takes (outputs, targets, inputs) of some examples and returns an array whose first axis counts them;
    `combine` takes such rows of any examples and returns the figure.
    """

    name: str
    rows: Callable[[Outputs, np.ndarray, Outputs], np.ndarray]
    combine: Callable[[np.ndarray], float]
    higher_is_better: bool = True
    is_share: bool = True  # from 0 to 1: a drop counts in points; otherwise as a share of float's own figure
    is_binary: bool = False  # each row is right or wrong
    counts_classes: bool = False  # the targets are class numbers
    decide: Decide | None = None  # the answers that two models can share, int (n, ...)
    reads_inputs: bool = False


def mean(rows: np.ndarray) -> float:
    """Return the mean of one number per example."""
    return float(np.mean(rows))


def _first_classes(outputs: Outputs) -> np.ndarray:
    """Return the class of each example: the first of the largest outputs.

    Integer outputs tie now and then (a softmax in int8 has 256 values); the first class wins, as in NumPy, TensorFlow
    and the usual argmax of an application.
    """
    answer: np.ndarray = np.argmax(_one(outputs), axis=-1).astype(np.int64)
    return answer


def _top1(outputs: Outputs, targets: np.ndarray, inputs: Outputs) -> np.ndarray:
    classes = _first_classes(outputs)
    _expect_classes(targets, _one(outputs).shape)
    return np.asarray(classes == targets)


def _top5(outputs: Outputs, targets: np.ndarray, inputs: Outputs) -> np.ndarray:
    scores = _one(outputs)
    _expect_classes(targets, scores.shape)
    # Stable, so that of equal scores the class that comes first counts, as in `top1`.
    order = np.argsort(-scores.astype(np.float64), axis=-1, kind="stable")[..., :5]
    return np.asarray((order == targets[..., None]).any(-1))


def _labels(outputs: Outputs) -> np.ndarray:
    """Return 1 where a probability is above 0.5, 0 elsewhere.

    Logits would be cut at 0.5 as well, and every score be a little wrong, so values that are no probabilities are
    refused.
    """
    values = _one(outputs)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"expected probabilities from 0 to 1, as behind a sigmoid, found outputs from {values.min():.4g} to "
            f"{values.max():.4g}; of logits the metrics are called binary_accuracy_of_logits and mean_iou_of_logits"
        )
    return (values > 0.5).astype(np.int64)


def _labels_of_logits(outputs: Outputs) -> np.ndarray:
    return (_one(outputs) > 0).astype(np.int64)


def _binary_rows(decide: Decide, outputs: Outputs, targets: np.ndarray, inputs: Outputs) -> np.ndarray:
    labels = decide(outputs)
    targets = _shaped(targets, labels.shape)
    _expect(bool(np.isin(targets, (0, 1)).all()), "labels that are 0 or 1", targets)
    return _per_example(labels == targets)


def _pixel_classes(labels: Decide, outputs: Outputs) -> np.ndarray:
    """Return the class of each pixel; one number per pixel says yes or no, as `labels` reads it."""
    return labels(outputs)[..., 0] if _one(outputs).shape[-1] == 1 else _first_classes(outputs)


def _absolute_error(outputs: Outputs, targets: np.ndarray, inputs: Outputs) -> np.ndarray:
    values = _one(outputs).astype(np.float64)
    return _per_example(np.abs(values - _shaped(targets, values.shape)))


def _squared_error(outputs: Outputs, targets: np.ndarray, inputs: Outputs) -> np.ndarray:
    values = _one(outputs).astype(np.float64)
    return _per_example((values - _shaped(targets, values.shape)) ** 2)


def _intersections(decide: Decide, outputs: Outputs, targets: np.ndarray, inputs: Outputs) -> np.ndarray:
    """Return (n, 2, classes): how many pixels of each class both have, and how many at least one has."""
    classes, count = decide(outputs), max(2, _one(outputs).shape[-1])
    _expect_numbers(targets)
    counted = targets != VOID if count <= VOID else np.full(targets.shape, True)
    _expect_classes(np.where(counted, targets, 0), (*classes.shape, count))
    rows = []
    for example, place in enumerate(counted):
        found, wanted = classes[example][place], targets[example][place]
        both = np.bincount(found[found == wanted], minlength=count)[:count]
        sizes = [np.bincount(side, minlength=count)[:count] for side in (found, wanted.astype(np.int64))]
        rows.append((both, sizes[0] + sizes[1] - both))
    return np.asarray(rows, np.int64)


def _mean_iou(rows: np.ndarray) -> float:
    """Return the mean over the classes that occur: intersections and unions are summed over all examples before."""
    both, either = rows.sum(axis=0)
    return float(np.mean(both[either > 0] / either[either > 0]))


def _scored(outputs: Outputs, targets: np.ndarray, inputs: Outputs) -> np.ndarray:
    scores = _one(outputs)
    scores = scores.reshape(len(scores), -1)
    _expect(scores.shape[1] == 1, "one score per example (an output of one number)", scores)
    return _with_marks(scores[:, 0], targets)


def _distances(outputs: Outputs, targets: np.ndarray, inputs: Outputs) -> np.ndarray:
    given, made = _one(inputs).astype(np.float64), _one(outputs).astype(np.float64)
    _expect(given.shape == made.shape, f"an output of the input's shape {given.shape}", made)
    return _with_marks(_per_example((given - made) ** 2), targets)


def _with_marks(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    targets = _shaped(targets, scores.shape)
    _expect(bool(np.isin(targets, (0, 1)).all()), "targets that are 0 (normal) or 1 (anomaly)", targets)
    return np.stack([scores.astype(np.float64), targets.astype(np.float64)], axis=1)


def _auc(rows: np.ndarray) -> float:
    """Return the share of pairs of a 1 and a 0 in which the 1 has the larger score; ties count half (Mann, Whitney)."""
    scores, marks = rows[:, 0], rows[:, 1] == 1
    positives, negatives = int(marks.sum()), int((~marks).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - (sizes - 1) / 2  # the mean rank of equal scores, from 1
    ranks = float(middle[place][marks].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (
        *(
            Metric(
                name=name, rows=rows, combine=mean, is_binary=True, counts_classes=True, decide=_first_classes
            )
            for name, rows in (("top1", _top1), ("top5", _top5))
        ),
        *(
            Metric(name=name, rows=partial(_binary_rows, decide), combine=mean, decide=decide)
            for name, decide in (("binary_accuracy", _labels), ("binary_accuracy_of_logits", _labels_of_logits))
        ),
        Metric(
            name="mean_absolute_error", rows=_absolute_error, combine=mean, higher_is_better=False, is_share=False
        ),
        Metric(
            name="mean_squared_error", rows=_squared_error, combine=mean, higher_is_better=False, is_share=False
        ),
        *(
            Metric(
                name=name, rows=partial(_intersections, decide), combine=_mean_iou, counts_classes=True, decide=decide
            )
            for name, decide in (
                ("mean_iou", partial(_pixel_classes, _labels)),
                ("mean_iou_of_logits", partial(_pixel_classes, _labels_of_logits)),
            )
        ),
        Metric(name="auc", rows=_scored, combine=_auc),
        Metric(name="reconstruction_auc", rows=_distances, combine=_auc, reads_inputs=True),
    )
}


def without_last_one(metric: Metric | None, targets: np.ndarray | None, *, rank: int) -> np.ndarray | None:
    """Return class numbers without a last axis of one, which Keras takes too; other targets as they are.

    Args:
        rank: of the outputs that the targets belong to: 2 of (n, classes).
    """
    if targets is None or metric is None or not metric.counts_classes or targets.ndim != rank or targets.shape[-1] != 1:
        return targets
    return targets[..., 0]


def metric_of_function(name: str, function: Callable[[Any, np.ndarray], Any]) -> Metric:
    """Return the metric of a user's function `(outputs, targets) -> one number per example`.

    Its numbers may have any scale, and more is better: negate errors, or use one of `METRICS`.
    """

    def rows(outputs: Outputs, targets: np.ndarray, inputs: Outputs) -> np.ndarray:
        found = np.asarray(function(outputs[0] if len(outputs) == 1 else list(outputs), targets), np.float64)
        _expect(found.shape == (len(targets),), f"one number per example, shape ({len(targets)},)", found)
        return found

    return Metric(name=name, rows=rows, combine=mean, is_share=False)


def _one(arrays: Outputs) -> np.ndarray:
    """Return the array of a model with one; the metrics by name look at nothing else."""
    if len(arrays) != 1:
        raise ValueError(
            f"expected a model with one output, found {len(arrays)}; name a function of your own as \"module:function\""
        )
    return arrays[0]


def _per_example(values: np.ndarray) -> np.ndarray:
    answer: np.ndarray = values.reshape(len(values), -1).mean(axis=1)
    return answer


def _shaped(targets: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return targets in the output's shape; an axis of 1 at the end may be left out on either side."""
    _expect_numbers(targets)
    if targets.shape == shape:
        return targets
    _expect(
        targets.shape == (*shape, 1) or (*targets.shape, 1) == shape, f"targets of the output's shape {shape}", targets
    )
    return targets.reshape(shape)


def _expect_classes(targets: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError for targets that are no classes of outputs of this shape, (n, ..., classes)."""
    _expect_numbers(targets)
    _expect(targets.shape == shape[:-1], f"class numbers of shape {shape[:-1]}", targets)
    if targets.size and not (targets.min() >= 0 and targets.max() < shape[-1] and np.all(targets == np.floor(targets))):
        raise ValueError(
            f"expected class numbers from 0 to {shape[-1] - 1}, found {targets.min():g} to {targets.max():g}"
        )


def _expect_numbers(targets: np.ndarray) -> None:
    """Raise ValueError for names, dates and complex numbers: none of our metrics can score by them."""
    if targets.dtype.kind not in NUMBERS:
        raise ValueError(
            f"expected targets that are numbers, found an array of {targets.dtype} {targets.shape}; give the position "
            "of each class among the outputs instead of its name"
        )


def _expect(fits: bool, expected: str, found: np.ndarray) -> None:
    if not fits:
        raise ValueError(f"expected {expected}, found an array of {found.dtype} {found.shape}")
