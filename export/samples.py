"""Samples: the inputs that an export calibrates with, and those on which it proves its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edgeship.core.artifact import Preprocessing
from edgeship.data import Splits, preprocess, require_calibration
from edgeship.data.examples import Batch, examples_of_images

CALIBRATION_BATCH = 32
NOISE_EXAMPLES, NOISE_SEED = 8, 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Inputs as the model takes them: one array per model input, in its order.

    `calibration` yields batches, as often as it is called; `golden` are the examples that travel with the bundle; to
    `noise`, of the same shapes, the files answer as well when they are proven.
    """

    calibration: Callable[[], Iterator[Batch]]
    golden: Batch
    noise: Batch

    @property
    def proof(self) -> Batch:
        """The golden examples and the noise, one behind the other."""
        return tuple(np.concatenate(pair) for pair in zip(self.golden, self.noise, strict=True))


def samples_of_images(splits: Splits, *, spec: Preprocessing, golden_images: int) -> Samples:
    """Return the samples of an image classifier: golden images are the first of the test split."""
    golden = splits.test.select(np.arange(min(golden_images, len(splits.test.labels))))

    def calibration() -> Iterator[Batch]:
        require_calibration(splits)
        return examples_of_images(splits.calibration, spec).batches(CALIBRATION_BATCH)

    inputs = preprocess(golden.images[:], spec)
    return Samples(calibration=calibration, golden=(inputs,), noise=(noise_images(inputs.shape[1:], spec),))


def noise_images(shape: tuple[int, ...], spec: Preprocessing) -> np.ndarray:
    """Return images of uniform noise, preprocessed: float32 `(NOISE_EXAMPLES, h, w, c)`."""
    pixels = np.random.default_rng(NOISE_SEED).integers(0, 256, (NOISE_EXAMPLES, *shape), dtype=np.uint8)
    return preprocess(pixels, spec)


def noise_between(examples: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Return uniform noise of the examples' shape and type within a range: `(NOISE_EXAMPLES, ...)`.

    Integers (class numbers, tokens) are drawn from the examples' own values, since others may mean nothing.
    """
    generator = np.random.default_rng(NOISE_SEED)
    shape = (NOISE_EXAMPLES, *examples.shape[1:])
    if examples.dtype.kind != "f":
        return generator.choice(examples.reshape(-1), size=shape).astype(examples.dtype)
    return generator.uniform(*span, size=shape).astype(examples.dtype)
