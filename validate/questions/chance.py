"""Does the float model know anything? Files that agree with a model that guesses are proven to guess as well."""

from __future__ import annotations

from edgeship.core.evidence import ClassCounts
from edgeship.validate.questions.findings import INCONCLUSIVE, Finding
from edgeship.validate.questions.proportions import wilson_interval


def guessing(counts: ClassCounts | None) -> Finding | None:
    """Return the finding that float Keras's answers may have nothing to do with its inputs; None where they have.

    The share of right answers is held against the share that would be right by chance if the model gave the same
    answers as often, but to any examples: the chance agreement of Cohen's kappa (Educational and Psychological
    Measurement 20, 1960). Unlike the share of the most frequent class, it does not blame a good detector of a rare
    class.
    """
    if counts is None or not (examples := sum(counts.examples)):
        return None
    right = sum(counts.right)
    by_chance = sum(
        own * answered for own, answered in zip(counts.examples, counts.answered, strict=True)
    ) / examples**2
    if wilson_interval(right, examples)[0] > by_chance:
        return None
    return Finding(verdict=INCONCLUSIVE, sentence=(
        f"the float model itself may be guessing: {right:,} of {examples:,} answers are right "
        f"({right / examples:.1%}), and {by_chance:.1%} would be if they had nothing to do with the inputs, so no "
        "file's accuracy is proven; are the scale of the inputs (of images: data.mean, data.std), their channels, the "
        "order of the classes and the weights those that it was trained with?"
    ))
