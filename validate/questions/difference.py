"""A row's accuracy or score against float Keras's, beside the least that `[validate]` allows."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.config import ValidateConfig
from edgeship.core.measurement import Accuracy, Row
from edgeship.core.schemes import SCHEMES

# Integer weights all the same; int16x8-ptq has TFLite files only.
FINER_OUTPUTS = tuple(name for name, item in SCHEMES.items() if item.quantizes_weights and item.activations != "int8")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A model's figure minus float Keras's, turned so that more is better, and the least that is allowed."""

    value: float
    interval: tuple[float, float]
    limit: float
    examples: int
    noun: str
    found: str
    allowed: str


def difference_of(row: Row, config: ValidateConfig) -> Difference | None:
    """Return a row's difference from float Keras; None where the two were not compared."""
    return _of_classes(row, config) or _of_score(row, config)


def _of_classes(row: Row, config: ValidateConfig) -> Difference | None:
    accuracy = row.accuracy
    if accuracy is None or accuracy.delta is None or accuracy.delta_ci95 is None:
        return None
    (lower, upper), limit = accuracy.delta_ci95, -config.max_accuracy_drop
    return Difference(
        value=accuracy.delta, interval=accuracy.delta_ci95, limit=limit, examples=accuracy.images, noun="examples",
        found=(
            f"top-1 differs from float Keras by {_points(accuracy.delta)} "
            f"(95 % interval {_points(lower)} to {_points(upper)}, {accuracy.images:,} examples)"
        ),
        allowed=f"validate.max_accuracy_drop allows {_points(limit)}{_ties(accuracy, -limit)}",
    )


def _of_score(row: Row, config: ValidateConfig) -> Difference | None:
    """Shares are held against `max_accuracy_drop`; other figures may be worse by a share of float Keras's own."""
    score = row.score
    if score is None or score.delta is None or score.delta_ci95 is None or score.float_value is None:
        return None
    if score.is_share:
        limit, key = config.max_accuracy_drop, "max_accuracy_drop"
    else:
        limit, key = config.max_metric_change * abs(score.float_value), "max_metric_change"
    sign = 1 if score.higher_is_better else -1
    lower, upper = score.delta_ci95
    return Difference(
        value=sign * score.delta, interval=(lower, upper) if sign > 0 else (-upper, -lower), limit=-limit,
        examples=score.examples, noun="examples",
        found=(
            f"{score.metric} {score.value:.4g} differs from float Keras's {score.float_value:.4g} by "
            f"{score.delta:+.3g} (95 % interval {lower:+.3g} to {upper:+.3g}, {score.examples:,} examples)"
        ),
        allowed=f"validate.{key} allows {-sign * limit:+.3g}",
    )


def _ties(accuracy: Accuracy, drop: float) -> str:
    """Why integers lose that much, where their output's step alone can do it: a softmax of many classes, mostly."""
    if accuracy.tied_share is None or accuracy.tied_share <= drop:
        return ""
    return (
        f"; for {accuracy.tied_share:.0%} of the examples several classes share the largest output code: the output's "
        f"step is too coarse to tell them apart. Schemes with a finer output: {', '.join(FINER_OUTPUTS)}"
    )


def _points(share: float) -> str:
    return f"{share * 100:+.2f} points"
