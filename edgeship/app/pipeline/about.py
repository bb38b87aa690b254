"""What a stage is going to do, in a few words: the line in a log when it begins."""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.core.artifact import STRETCH, Preprocessing
from edgeship.core.config import Config
from edgeship.core.schemes import SCHEMES, TRAINING
from edgeship.data import Splits
from edgeship.data.preprocess import share_cut_off

WORTH_A_LINE = 0.01  # of the pixels of a picture

PREFLIGHT = "what could be refused after the training is tried before it"
OUTPUT = "the form of the output, from the answers to the calibration data"
SENSITIVITY = "what quantizing each layer alone costs"


def pictures(splits: Splits, spec: Preprocessing) -> Iterator[str]:
    """Yield how many pictures there are, and what of them the model does not see."""
    yield (
        f"{len(splits.train):,} training, {len(splits.calibration):,} calibration, {len(splits.test):,} test images"
        + (f", {splits.removed_duplicates} duplicates removed" if splits.removed_duplicates else "")
    )
    if (cut_off := share_cut_off(splits.test, spec)) >= WORTH_A_LINE:
        yield (
            f"of each picture the largest central square is taken; {cut_off:.0%} of the pixels lie outside of it. "
            f'A model that was trained on whole pictures wants data.fit = "{STRETCH}"'
        )


def training(config: Config) -> str:
    """Return what is trained, and how long."""
    epochs = config.train.epochs
    name = config.model.factory or config.model.path or config.model.name
    return f"{name}, {epochs} epochs" if epochs else f"{name} as it is (train.epochs = 0)"


def ranges(config: Config, scheme: str) -> str:
    """Return how the integer ranges of a scheme are found."""
    if SCHEMES[scheme].needs == TRAINING:
        return f"{config.quantize.epochs} epochs of training with rounding"
    return "ranges from calibration data"


def files(config: Config) -> str:
    """Return which schemes are written in which formats."""
    return f"{', '.join(config.quantize.schemes)} as {', '.join(config.export.formats)}"


def measurements(targets: tuple[str, ...]) -> str:
    """Return what is measured, and where."""
    return f"accuracy, parity, coverage and latency on {', '.join(targets)}"
