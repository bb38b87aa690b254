"""The trial of a metric on a few test examples, before the training: can it read the outputs and the targets?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeship.core.metrics import Metric
from edgeship.data.examples import Examples

if TYPE_CHECKING:
    import tf_keras

TRIED = 64  # examples: one forward pass, and as good as certain to have logits outside of 0 to 1 among their outputs


def try_metric(model: tf_keras.Model, test: Examples, *, metric: Metric | None) -> None:
    """Score the first test examples, whatever the figure is: an untrained model may have one that is not a number.

    Raises:
        DataError: outputs or targets that the metric cannot read.
    """
    from edgeship.export.proof.golden import float_outputs
    from edgeship.validate.questions.scores import scoring_of

    few = test.first(TRIED)
    scoring = scoring_of(metric, few.targets, rank=len(model.outputs[0].shape))
    if not scoring.scores:
        return
    outputs = float_outputs(model, few, label="metric, tried")
    inputs = tuple(next(few.batches(TRIED))) if scoring.reads_inputs else ()
    scoring.raw_rows(outputs, inputs, start=0)
