"""What a network was not trained on is told from what it was."""

from __future__ import annotations

from benchmarks.qat import left_over
from edgeship.core.config import Config, DataConfig
from edgeship.data import load_splits
from edgeship.data.images import image_hashes


def test_images_left_over_served_for_nothing() -> None:
    config = Config(data=DataConfig(name="digits", train_images=200, calibration_images=50, test_images=100))
    splits = load_splits(config.data)
    left = left_over(splits, config)
    served = {image for part in (splits.train, splits.calibration, splits.test) for image in image_hashes(part)}
    assert not served & set(image_hashes(left))
    assert len(left) + 350 + splits.removed_duplicates == 1797  # all of the digits
