"""int8-ptq-best: the cheapest way to integers that no other one beats on examples that it was not found on.

    min-max, batch-mean, percentile, mse    the ranges (`calibration.py`)
    equalization                            channels of one size between two layers (`equalization.py`)
    joint equalization                      the same for all channels, those of sums and concatenations too
    bias-correction                         the mean error of every channel taken out (`bias_correction.py`)
    rounding                                weights rounded by what they do to answers (`rounding.py`), then the same

None of them adds an operation or a byte to the file. They are tried in this order, which is that of their cost, each on
top of what was kept before. One is kept if it beats that: if the mean difference of the squared errors of the
examples' answers is above 0 with 95 % confidence. What was chosen is then done again on all examples, since those set
apart have served.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from edgeship.core.channel_sizes import CHANNEL_SIZES, Sizes, record_of
from edgeship.core.errors import ModelError
from edgeship.core.progress import doing, fact, track
from edgeship.quantize.bias_correction import correct_bias
from edgeship.quantize.calibration import CALIBRATIONS
from edgeship.quantize.equalization import equalize
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.layerwise import Adjust, Seen, adjust_layers, examples_that_fit
from edgeship.quantize.prepare import finish, name_dead, observe, seed
from edgeship.quantize.rounding import round_by_answers
from edgeship.quantize.sensitivity import logits_of

LEAST_EXAMPLES = 8
HELD_OUT_EVERY = 4  # of the calibration examples one in four judges, three in four are calibrated on
CONFIDENCE = 1.96  # standard errors: 95 % of a normal distribution
LAYER_BATCH, PART_BATCH = 16, 32
# Examples that layers are adjusted on: more change the numbers by less than the rounding does.
LAYER_EXAMPLES = 128


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to integers, and what it gave on the held-out examples."""

    steps: tuple[str, ...]
    sqnr_db: float | None  # None: no noise at all
    is_kept: bool  # it beat what was best before
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Best:
    """What was chosen, and what it gained."""

    steps: tuple[str, ...]
    sqnr_db: float | None
    min_max_sqnr_db: float | None
    calibration_examples: int
    held_out_examples: int
    trials: tuple[Trial, ...]

    @property
    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """One line for people."""
        return (
            f"{' + '.join(self.steps)}: {_db(self.sqnr_db)} on {self.held_out_examples} held-out calibration examples "
            f"(min-max: {_db(self.min_max_sqnr_db)}), found on {self.calibration_examples} others in "
            f"{sum(trial.seconds for trial in self.trials):.0f} s"
        )


def split(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the examples to calibrate on, and of those that judge.

    Raises:
        ModelError: too few examples to set some apart.
    """
    if count < LEAST_EXAMPLES:
        raise ModelError(
            f"int8-ptq-best: expected at least {LEAST_EXAMPLES} calibration examples, of which one in {HELD_OUT_EVERY} "
            f"judges, found {count}; bring more, or take int8-ptq"
        )
    places = np.arange(count)
    judges = places % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    return places[~judges], places[judges]


def parts(batches: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return batches to calibrate on, and batches of the examples that judge. Raises ModelError: too few examples."""
    arrays = [tf.nest.flatten(batch) for batch in batches]
    joined = [np.concatenate(part) for part in zip(*arrays, strict=True)]
    made = ([
        tf.nest.pack_sequence_as(batches[0], [array[places[start : start + PART_BATCH]] for array in joined])
        for start in range(0, len(places), PART_BATCH)
    ] for places in split(len(joined[0])))
    calibration, held_out = made
    return calibration, held_out


def find_best(quantized: QuantizedModel, calibration: Sequence[Any], held_out: Sequence[Any]) -> Best:
    """Set ranges, kernels and biases of a prepared model to the best that was found.

    Args:
        calibration, held_out: preprocessed batches, float32; an array each, or a list of them for several inputs.
    """
    search = _Search(quantized, calibration, held_out)
    for method in track(CALIBRATIONS, label="ranges", total=len(CALIBRATIONS), share=0.3):
        search.attempt((method,), _ranges_by(method))
    ranges, weights = search.steps, quantized.model.get_weights()
    for name, jointly in _EQUALIZATIONS.items():
        search.attempt((*ranges, name), partial(_equalized, weights=weights, method=ranges[0], jointly=jointly))
    # Both adjust the network as the ranges left it: behind a correction, its biases are not the float network's.
    ranges, weights = search.steps, quantized.model.get_weights()
    for steps, change in track(_ADJUSTMENTS.items(), label="adjustments", total=len(_ADJUSTMENTS)):
        search.attempt((*ranges, *steps), partial(_adjusted, weights=weights, change=change))
    name_dead(quantized)
    return search.finished()


def repeat(
    quantized: QuantizedModel, steps: Sequence[str], batches: Sequence[Any], *, start: Sequence[np.ndarray]
) -> Sizes:
    """Do the chosen steps once more on all examples; return what equalization divided channels by.

    Args:
        start: the weights of the prepared model before anything was tried.
    """
    sizes: Sizes = {}
    method, *others = steps
    examples = _tensors(batches)
    quantized.model.set_weights(start)
    _set_ranges(quantized, observe(quantized, examples), method)
    if others and others[0] in _EQUALIZATIONS:
        sizes = equalize(quantized, examples, jointly=_EQUALIZATIONS[others.pop(0)])
        _set_ranges(quantized, observe(quantized, examples), method)
    if others:
        _adjust(quantized, examples, _ADJUSTMENTS[tuple(others)])
    return sizes


def found(quantized: QuantizedModel, calibration: Sequence[Any], held_out: Sequence[Any]) -> dict[str, Any]:
    """Find the best, do it again on all examples, say what it is, and return its record."""
    start = quantized.model.get_weights()
    best = find_best(quantized, calibration, held_out)
    sizes = repeat(quantized, best.steps, [*calibration, *held_out], start=start)
    fact(best.sentence)
    return {**best.record, **({CHANNEL_SIZES: record_of(sizes)} if sizes else {})}


class _Search:
    """The network as the best trial so far left it, and what that was."""

    def __init__(self, quantized: QuantizedModel, calibration: Sequence[Any], held_out: Sequence[Any]) -> None:
        self.quantized = quantized
        self.calibration, self.held_out = _tensors(calibration), _tensors(held_out)
        network = logits_of(quantized.model)
        self._network = network if len(quantized.model.outputs) == 1 else quantized.model
        self._trials: list[Trial] = []
        with quantized.in_float():
            self._wanted = self._answers()
        self._powers = [float(np.mean(np.square(answers, dtype=np.float64))) or 1.0 for answers in self._wanted]
        self._errors: np.ndarray | None = None
        self._weights: list[np.ndarray] = []
        self.seen = observe(quantized, self.calibration)
        self.steps: tuple[str, ...] = ()

    def attempt(self, steps: tuple[str, ...], apply: Callable[[_Search], bool]) -> None:
        """Try a step on the network as it is; keep it if it beats what was kept before, take it back otherwise."""
        start, seen = time.monotonic(), self.seen
        if not apply(self):
            return
        errors = self._squared_errors()
        is_kept = self._errors is None or _beats(errors, self._errors)
        trial = Trial(
            steps=steps, sqnr_db=_sqnr_db(errors), is_kept=is_kept, seconds=round(time.monotonic() - start, 1)
        )
        self._trials.append(trial)
        doing(f"{' + '.join(steps)}: {_db(trial.sqnr_db)}{', kept' if is_kept else ''}")
        if is_kept:
            self._errors, self.steps = errors, steps
            self._weights = self.quantized.model.get_weights()
        else:
            self.seen = seen
            self.quantized.model.set_weights(self._weights)
            finish(self.quantized)

    def finished(self) -> Best:
        """Return what was found."""
        first, last = self._trials[0], next(trial for trial in self._trials[::-1] if trial.is_kept)
        return Best(
            steps=self.steps, sqnr_db=last.sqnr_db, min_max_sqnr_db=first.sqnr_db,
            calibration_examples=_count(self.calibration), held_out_examples=_count(self.held_out),
            trials=tuple(self._trials),
        )

    def _answers(self) -> list[np.ndarray]:
        """Each output's answers on the held-out examples, (examples, values of one); run eagerly, as modes are read."""
        batches = [tf.nest.flatten(self._network(batch, training=False)) for batch in self.held_out]
        return [
            np.concatenate([np.asarray(answer).reshape(len(answer), -1) for answer in answers])
            for answers in zip(*batches, strict=True)
        ]

    def _squared_errors(self) -> np.ndarray:
        """Each held-out example's mean squared error, as a share of the outputs' mean square."""
        pairs = zip(self._answers(), self._wanted, self._powers, strict=True)
        return np.asarray(np.mean([
            np.mean(np.square(answers.astype(np.float64) - wanted), axis=1) / power for answers, wanted, power in pairs
        ], axis=0))


def _ranges_by(method: str) -> Callable[[_Search], bool]:
    def apply(search: _Search) -> bool:
        _set_ranges(search.quantized, search.seen, method)
        return True

    return apply


def _set_ranges(quantized: QuantizedModel, seen: Any, method: str) -> None:
    seed(quantized, seen, method=method)
    finish(quantized)


def _equalized(search: _Search, *, weights: list[np.ndarray], method: str, jointly: bool) -> bool:
    """Equalize the network that has these weights; it stays as it is where no channel takes a factor."""
    search.quantized.model.set_weights(weights)
    if not equalize(search.quantized, search.calibration, jointly=jointly):
        return False
    search.seen = observe(search.quantized, search.calibration)
    return _ranges_by(method)(search)


def _adjusted(search: _Search, *, weights: list[np.ndarray], change: Adjust) -> bool:
    """Adjust layer by layer, on some of the calibration examples, the network that has these weights."""
    quantized = search.quantized
    quantized.model.set_weights(weights)
    finish(quantized)
    _adjust(quantized, search.calibration, change)
    return True


def _adjust(quantized: QuantizedModel, examples: Sequence[Any], change: Adjust) -> None:
    count = min(LAYER_EXAMPLES, examples_that_fit(quantized))
    adjust_layers(quantized, list(_first(examples, count, size=LAYER_BATCH)), change)
    finish(quantized)


def _round_and_correct(layer: Any, seen: Seen) -> None:
    round_by_answers(layer, seen)
    correct_bias(layer, seen)


_EQUALIZATIONS = {"equalization": False, "joint equalization": True}  # name -> whether jointly
_ADJUSTMENTS: dict[tuple[str, ...], Adjust] = {
    ("bias-correction",): correct_bias, ("rounding", "bias-correction"): _round_and_correct,
}


def _beats(errors: np.ndarray, others: np.ndarray) -> bool:
    gains = others - errors
    return bool(gains.mean() > CONFIDENCE * gains.std(ddof=1) / np.sqrt(len(gains)))


def _sqnr_db(errors: np.ndarray) -> float | None:
    noise = float(errors.mean())
    return float(-10 * np.log10(noise)) if noise > 0 else None


def _db(value: float | None) -> str:
    return "no noise" if value is None else f"{value:.1f} dB"


def _tensors(batches: Sequence[Any]) -> list[Any]:
    return [tf.nest.map_structure(tf.constant, batch) for batch in batches]


def _count(batches: Sequence[Any]) -> int:
    return sum(int(tf.nest.flatten(batch)[0].shape[0]) for batch in batches)


def _first(batches: Sequence[Any], count: int, *, size: int) -> Iterator[Any]:
    """The first `count` examples, in batches of at most `size`."""
    for batch in batches:
        length = int(tf.nest.flatten(batch)[0].shape[0])
        for start in range(0, min(length, count), size):
            end = min(start + size, length, count)
            yield tf.nest.map_structure(lambda values, low=start, high=end: values[low:high], batch)
        count -= length
        if count <= 0:
            return
