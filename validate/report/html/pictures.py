"""Pictures of test examples: `examples.npz` beside `report.json`, and the same inside the page.

Pixels are data, so they stay out of `report.json`. The file has `index`, int64 (k,), the places among the test
examples, and `pixels`, uint8 (k, height, width, channels).
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgeship.core.artifact import Preprocessing
from edgeship.core.errors import InputError
from edgeship.core.files import write_atomically
from edgeship.core.measurement import Report
from edgeship.data.examples import Examples
from edgeship.validate.report.html.chosen import integer_rows

EXAMPLES_FILE = "examples.npz"
MOST_PICTURES = 200  # in all rows together
LARGEST = 96  # pixels of a side: 50 pictures of noise stay under 2 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Thumbnails of test examples: `pixels[place]` is that of the example `index[place]`."""

    index: np.ndarray
    pixels: np.ndarray

    def data_uris(self) -> dict[int, str]:
        """Return each picture as a PNG in a `data:` address, by the place of its example."""
        return {int(index): _data_uri(pixels) for index, pixels in zip(self.index, self.pixels, strict=True)}


def pictures_of(report: Report, examples: Examples, spec: Preprocessing | None) -> Pictures | None:
    """Return thumbnails of the changed examples; None where the inputs are no pictures, or nothing changed.

    Args:
        spec: how images were made inputs; None: the inputs are arrays, whose smallest value is drawn black and whose
            largest white.
    """
    wanted = [
        item.index for row in integer_rows(report) if row.changed is not None for item in row.changed.examples
    ]
    index = np.array(list(dict.fromkeys(wanted))[:MOST_PICTURES], np.int64)
    if not len(index) or len(examples.read(index[:1])) != 1:
        return None
    (values,) = examples.read(index)
    if values.ndim == 3:
        values = values[..., None]
    if values.ndim != 4 or values.shape[-1] not in (1, 3) or min(values.shape[1:3]) < 2:
        return None
    pixels = _drawn(values, spec)
    if spec is not None and spec.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    return Pictures(index=index, pixels=np.stack([_thumbnail(picture) for picture in pixels]))


def write_pictures(pictures: Pictures | None, folder: Path) -> None:
    """Write `examples.npz`, or remove one of an older report. Raises StorageError."""
    if pictures is None:
        (folder / EXAMPLES_FILE).unlink(missing_ok=True)
        return
    stream = io.BytesIO()
    np.savez_compressed(stream, index=pictures.index, pixels=pictures.pixels)
    write_atomically(folder / EXAMPLES_FILE, stream.getvalue())


def read_pictures(folder: Path) -> Pictures | None:
    """Return the pictures beside a report; None where there are none. Raises InputError."""
    path = folder / EXAMPLES_FILE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Pictures(index=arrays["index"], pixels=arrays["pixels"])
        if found.pixels.dtype != np.uint8 or found.pixels.ndim != 4 or found.pixels.shape[-1] not in (1, 3):
            raise ValueError(f"pixels of {found.pixels.dtype} {found.pixels.shape}")
        if 0 in found.pixels.shape[1:]:
            raise ValueError("pictures without pixels")
        if found.index.shape != (len(found.pixels),) or found.index.dtype != np.int64:
            raise ValueError(f"an index of {found.index.dtype} {found.index.shape}")
    # Damaged bytes make zipfile, zlib and NumPy raise nearly anything.
    except Exception as error:
        raise InputError(
            f"{path}: expected arrays `index` and `pixels`, found a file that cannot be read so ({error}); remove it, "
            "or validate again"
        ) from error
    return found


def _drawn(values: np.ndarray, spec: Preprocessing | None) -> np.ndarray:
    """Return inputs as bytes of pixels."""
    reals = values.astype(np.float64)
    if spec is not None:
        reals = (reals * np.asarray(spec.std) + np.asarray(spec.mean)) * 255
    else:
        axes = (1, 2, 3)
        low, high = reals.min(axis=axes, keepdims=True), reals.max(axis=axes, keepdims=True)
        reals = (reals - low) / np.where(high > low, high - low, 1) * 255
    drawn: np.ndarray = np.clip(np.rint(reals), 0, 255).astype(np.uint8)
    return drawn


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    height, width, channels = picture.shape
    scale = min(1.0, LARGEST / max(height, width))
    if scale == 1.0:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    found = np.asarray(_image(picture).resize(size, Image.Resampling.BOX))
    return found.reshape(size[1], size[0], channels)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _data_uri(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    _image(pixels).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
