"""The images: loading, disjoint splits, and the ONE preprocess(). NumPy and Pillow; no TensorFlow."""

from edgeship.data.images import Images
from edgeship.data.preprocess import preprocess, preprocessed_batches, preprocessing_of
from edgeship.data.splits import (
    Splits,
    load_splits,
    load_test_split,
    require_calibration,
    split_sha256,
    splits_record,
)

__all__ = [
    "Images",
    "Splits",
    "load_splits",
    "load_test_split",
    "preprocess",
    "preprocessed_batches",
    "preprocessing_of",
    "require_calibration",
    "split_sha256",
    "splits_record",
]
