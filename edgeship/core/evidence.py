"""What stands behind a row's figures: counts per class, examples whose answer changed, values that moved, layers.

The records are part of `report.json` (measurement.py). A figure that was not measured is None.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_CLASSES = 100  # of a confusion matrix: more cells than 10,000 are no picture, and no file to read
MOST_EXAMPLES = 50
MOST_PAIRS = 12
MOST_VALUES = 16  # of an output, kept with a pair of outputs


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """How often each class is right and how often it is answered, over the test examples: one number per class."""

    examples: tuple[int, ...]  # that are of the class
    answered: tuple[int, ...]  # that are given the class
    right: tuple[int, ...]  # both
    confusion: tuple[tuple[int, ...], ...] | None  # [the right class][the answer]; None: more than MOST_CLASSES


@dataclass(frozen=True, kw_only=True)
class ChangedExample:
    """A test example to which a file gives another class than float Keras.

    An output is the model's own number for a class: a probability where the model ends in a softmax. Those of float
    Keras are None where it did not run.
    """

    index: int  # among the test examples, from 0
    sha256: str  # of its inputs as the float model takes them
    target: int | None
    float_answer: int
    answer: int
    float_output: float | None  # of float Keras, for its own answer
    float_output_of_answer: float | None  # of float Keras, for the file's answer
    output: float  # of the file, for its own answer
    output_of_float_answer: float  # of the file, for float Keras's answer

    @property
    def margin_change(self) -> float:
        """How far the lead of float Keras's answer over the file's fell; without float Keras, how far below 0 it is."""
        before = 0.0
        if self.float_output is not None and self.float_output_of_answer is not None:
            before = self.float_output - self.float_output_of_answer
        return before + self.output - self.output_of_float_answer


@dataclass(frozen=True, kw_only=True)
class ChangedAnswers:
    """The test examples whose answer changed; `examples` are at most MOST_EXAMPLES, the largest change first."""

    compared: int
    changed: int
    examples: tuple[ChangedExample, ...]


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of values between edges; one more edge than counts."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class OutputPair:
    """A test example's first output, by float Keras and by a file: the first MOST_VALUES numbers of it."""

    index: int
    sha256: str
    distance: float  # root mean square of the difference, over the whole output
    float_values: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Deviations:
    """How far outputs that are no classes lie from float Keras's, and each example's score beside float Keras's."""

    compared: int  # test examples; 0: float Keras did not run
    distances: Histogram | None  # of the examples' root mean square differences
    furthest: tuple[OutputPair, ...]  # at most MOST_PAIRS, the furthest first
    scores: Histogram | None  # the metric's number per example; None: no targets, or it is not one number
    float_scores: Histogram | None  # with the same edges


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What one operation of a file costs, by the shapes in the file. None: they do not tell."""

    layer: str  # the tensor that it makes, or for a product the integer tensor behind it
    kind: str  # "CONV_2D", "Conv" ...
    multiply_accumulates: int | None  # per inference; 0 for what does not multiply by weights
    parameters: int  # stored weights and biases
    activation_bytes: int | None  # of its results


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """What a file costs, operation by operation in the file's order, and in all."""

    artifact: str
    layers: tuple[LayerCost, ...]
    multiply_accumulates: int | None
    parameters: int
    arena_bytes: int | None  # the most bytes of activations that are alive at once
    error: str | None = None  # why the file could not be read
