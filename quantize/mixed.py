"""The fewest layers in float that keep the drop of accuracy within a bound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.core.errors import ModelError
from edgeship.core.progress import doing

# More than this share of the weighted layers in float is no integer network any more.
LARGEST_FLOAT_SHARE = 0.5
ROUNDING = 1e-9  # 0.90 - 0.89 is a little more than 0.01; one image of millions is far more than this


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of layers kept in float, and the top-1 it reached on the calibration images."""

    kept: tuple[str, ...]
    top1: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The layers that stay in float, and why."""

    kept: tuple[str, ...]
    float_top1: float
    max_accuracy_drop: float
    images: int
    trials: tuple[Trial, ...]

    @property
    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {**dataclasses.asdict(self), "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """One line for people."""
        first, last = self.trials[0], next(trial for trial in self.trials if trial.kept == self.kept)
        kept = "no layer stays in float"
        if self.kept:
            kept = f"{len(self.kept)} layers stay in float ({', '.join(self.kept)})"
        return (
            f"{kept}: on {self.images} calibration images float has {self.float_top1:.2%}, all int8 {first.top1:.2%}, "
            f"this {last.top1:.2%}; allowed is a drop of {self.max_accuracy_drop:.2%}"
        )


def choose_float_layers(
    ranked: Sequence[str], top1_with: Callable[[tuple[str, ...]], float], *, float_top1: float,
    max_accuracy_drop: float, images: int,
) -> Choice:
    """Keep the most expensive layers in float, one more at a time, until the bound is met; then give back what can be.

    Args:
        ranked: the weighted layers, most expensive first.
        top1_with: measures the network with these layers in float, on the calibration images.

    Raises:
        ModelError: half of the layers in float are not enough.
    """
    trials: list[Trial] = []

    def is_enough(kept: tuple[str, ...]) -> bool:
        trials.append(Trial(kept=kept, top1=top1_with(kept)))
        doing(f"{len(kept)} layers in float: top-1 {trials[-1].top1:.2%} on calibration images")
        return float_top1 - trials[-1].top1 <= max_accuracy_drop + ROUNDING

    kept: tuple[str, ...] = ()
    while not is_enough(kept):
        if len(kept) >= LARGEST_FLOAT_SHARE * len(ranked):
            raise ModelError(
                f"int8-mixed: with the {len(kept)} most sensitive of {len(ranked)} layers in float, top-1 on the "
                f"calibration images is {trials[-1].top1:.2%}, float {float_top1:.2%}: more than the "
                f"{max_accuracy_drop:.2%} of quantize.max_accuracy_drop; allow more, or train with int8-qat"
            )
        kept = (*kept, ranked[len(kept)])
    for layer in kept[:-1]:
        fewer = tuple(name for name in kept if name != layer)
        if is_enough(fewer):
            kept = fewer
    return Choice(
        kept=kept, float_top1=float_top1, max_accuracy_drop=max_accuracy_drop, images=images, trials=tuple(trials)
    )
