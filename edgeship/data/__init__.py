"""The images: loading, disjoint splits, and the ONE preprocess(). NumPy and Pillow; no TensorFlow."""

from edgeship.data.calibration import CalibrationSplit, check_calibration
from edgeship.data.images import Images
from edgeship.data.preprocess import normalized, preprocess, preprocessed_batches, preprocessing_of, squares
from edgeship.data.splits import (
    Splits,
    hold_out,
    load_splits,
    load_test_split,
    require_calibration,
    split_sha256,
    splits_record,
)

__all__ = [
    "CalibrationSplit",
    "Images",
    "Splits",
    "check_calibration",
    "hold_out",
    "load_splits",
    "load_test_split",
    "normalized",
    "preprocess",
    "preprocessed_batches",
    "preprocessing_of",
    "require_calibration",
    "split_sha256",
    "splits_record",
    "squares",
]
