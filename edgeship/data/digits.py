"""scikit-learn's handwritten digits: 1,797 gray images of 8x8 that come with the library, no download."""

from __future__ import annotations

import numpy as np

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data.source import Source, labelled

DEFAULT_TEST_IMAGES = 500
BRIGHTEST = 16  # the images are stored as 0..16


def load_digits(config: DataConfig) -> Source:
    """All digits as uint8 of shape (1797, 8, 8); there is no test split of their own.

    Raises:
        DataError: `data.path` is set, though the digits are not read from there.
    """
    if config.path is not None:
        raise DataError(
            f"data.path: expected none, since the digits come with scikit-learn, found {config.path!r}; "
            "remove it, or choose the data.name that reads it"
        )
    from sklearn import datasets  # takes a second to import, and only this dataset needs it

    bunch = datasets.load_digits()
    pixels = np.rint(bunch.images * (255 / BRIGHTEST)).astype(np.uint8)
    return Source(
        where="digits",
        train=labelled("digits", pixels, bunch.target),
        test=None,
        labels=tuple(str(digit) for digit in range(10)),
        default_test_images=DEFAULT_TEST_IMAGES,
    )
