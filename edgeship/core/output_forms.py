"""Forms of a classifier's output: the numbers that its int8 files give behind a softmax, and the rule that chooses one.

    probabilities         int8, 256 steps of 1/256 (TFLite prescribes them)
    float-probabilities   float32: the softmax alone is computed in float, from int8 logits
    logits                int8 on a grid of their own: the softmax is left out
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

AUTO = "auto"
PROBABILITIES, FLOAT_PROBABILITIES, LOGITS = "probabilities", "float-probabilities", "logits"
OUTPUT_FORMS = (PROBABILITIES, FLOAT_PROBABILITIES, LOGITS)
SOFTMAX_STEPS = 256  # of an int8 softmax, from 0 to 255/256
LOGIT_STEPS = 255  # of an int8 tensor's grid, from its lower end to its upper one


def softmax_window(classes: int) -> float:
    """Return how far below the largest logit another one still counts: ln(2 * 256 * (classes - 1)).

    Let m be the largest logit, and let every logit below m - w be raised to it. The sum of all exp(z - m), which is 1
    or more, grows by at most (classes - 1) exp(-w); so every probability of a logit that was not raised falls by at
    most that share of itself, and the raised ones end at exp(-w) or less. With w as above both are at most 1/512,
    which is half a step: no int8 probability is off by more than rounding may make it. Of 10 classes w is 8.4, of
    1,000 classes 13.1.
    """
    return math.log(2 * SOFTMAX_STEPS * max(classes - 1, 1))


def least_top_steps(classes: int) -> int:
    """Return how many steps of 1/256 the largest probability needs, that int8 probabilities tell classes apart.

    Two logits that are one step s of their grid apart have probabilities p and p exp(-s); these are at least one step
    of 1/256 apart where p >= 1 / (1 - exp(-s)) steps. Below that an int8 softmax makes one code of what the int8 logits
    tell apart. The finest grid that logits have in front of a softmax spans its window (`softmax_window`). Of 10
    classes 31 steps, p = 0.12; of 1,000 classes 20 steps, p = 0.08. A tie at a larger p is one of the logits too (0.02
    to 0.05 apart), which no other form of the output resolves.
    """
    return math.ceil(1 / -math.expm1(-softmax_window(classes) / LOGIT_STEPS))


@dataclass(frozen=True, kw_only=True)
class SoftmaxFacts:
    """What the float network's probabilities are on the calibration data, of one output."""

    classes: int
    answers: int  # examples, or their positions where each has an answer of its own
    least_top: float  # the smallest of all largest probabilities
    tied: int  # answers whose two largest probabilities have one int8 code

    @property
    def is_told_apart(self) -> bool:
        """Whether int8 probabilities tell apart what int8 logits do, on all these answers."""
        return self.least_top * SOFTMAX_STEPS >= least_top_steps(self.classes)

    @property
    def sentence(self) -> str:
        """One line for people."""
        needed = least_top_steps(self.classes) / SOFTMAX_STEPS
        return (
            f"the largest of {self.classes:,} probabilities falls to {self.least_top:.3g} on the calibration data "
            f"(steps of 1/256 need {needed:.2g}), and {self.tied:,} of {self.answers:,} answers tie in int8"
        )


def softmax_facts(probabilities: np.ndarray) -> SoftmaxFacts:
    """Return the facts of some answers: float32 probabilities (n, ..., classes)."""
    classes = probabilities.shape[-1]
    rows = probabilities.reshape(-1, classes)
    codes = np.clip(np.rint(rows * SOFTMAX_STEPS), 0, SOFTMAX_STEPS - 1)
    tied = np.sum(codes == codes.max(axis=1, keepdims=True), axis=1) > 1
    return SoftmaxFacts(
        classes=classes, answers=len(rows), least_top=float(rows.max(axis=1).min()), tied=int(tied.sum())
    )


def joined(facts: Sequence[SoftmaxFacts]) -> SoftmaxFacts:
    """Return the facts of all answers of one output, from those of its parts."""
    return SoftmaxFacts(
        classes=facts[0].classes, answers=sum(item.answers for item in facts),
        least_top=min(item.least_top for item in facts), tied=sum(item.tied for item in facts),
    )


def resolve(asked: str, facts: Sequence[SoftmaxFacts]) -> str:
    """Return the form that "auto" means on these facts: the int8 one, unless it loses what the logits tell apart.

    "float-probabilities" then, and not "logits": the values stay what the float network gives, and every runtime has a
    float softmax. What was asked for by name is returned as it is.
    """
    if asked != AUTO:
        return asked
    return PROBABILITIES if all(item.is_told_apart for item in facts) else FLOAT_PROBABILITIES
