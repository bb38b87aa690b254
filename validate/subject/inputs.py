"""The test images as model inputs: preprocessed once, quantized once per input type, a few hundred per file.

50,000 images of 224 x 224 x 3 are 30 GB as float32, so they are never all in memory or all on disk: a portion
is written, every artifact runs it, it is deleted, the next one is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeship.core.artifact import Preprocessing, TensorSpec
from edgeship.core.errors import StorageError
from edgeship.core.integers import quantize
from edgeship.data import Images, preprocess

CHUNK_IMAGES = 256  # large enough that a request costs nothing beside it, small enough to share out evenly
CHUNKS_PER_CORE = 4
PORTION_BYTES = 1 << 30  # of files at a time; /tmp is memory on some machines


@dataclass(frozen=True, kw_only=True)
class InputKind:
    """What distinguishes one artifact's input from another's, for the same images."""

    dtype: str
    scale: float | None
    zero_point: int | None

    @classmethod
    def of(cls, spec: TensorSpec) -> InputKind:
        """The kind of an artifact's input."""
        return cls(dtype=spec.dtype, scale=spec.scale, zero_point=spec.zero_point)

    @classmethod
    def of_float(cls, spec: TensorSpec) -> InputKind:
        """Return the kind of the same input of the float model."""
        return cls(dtype=spec.dtype if spec.scale is None else "float32", scale=None, zero_point=None)

    @property
    def spec(self) -> TensorSpec:
        """As a tensor for `quantize`."""
        return TensorSpec(
            name="input", shape=(), dtype=self.dtype, scale=self.scale, zero_point=self.zero_point
        )


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Consecutive test images in files: `files[kind]` are .npy files of shape (images, S, S, C), in order."""

    start: int
    images: int
    files: dict[InputKind, list[Path]]


def portions(
    images: Images, spec: Preprocessing, *, kinds: list[InputKind], cores: int, folder: Path
) -> Iterator[Portion]:
    """The test images portion by portion; a portion's files are gone when the next one is asked for.

    Raises:
        DataError: an image that cannot be read.
        StorageError: no room for the files.
    """
    chunk = _chunk_images(len(images), cores)
    for start in range(0, len(images), size := _portion_images(spec, kinds, chunk)):
        indices = np.arange(start, min(start + size, len(images)))
        files: dict[InputKind, list[Path]] = {kind: [] for kind in kinds}
        for number, part in enumerate(np.split(indices, range(chunk, len(indices), chunk))):
            values = preprocess(images.select(part).images, spec)
            for kind_number, kind in enumerate(kinds):
                files[kind].append(write_array(folder / f"inputs-{kind_number}-{number}.npy", values, kind))
        yield Portion(start=start, images=len(indices), files=files)
        for path in (path for paths in files.values() for path in paths):
            path.unlink()


def write_array(path: Path, values: np.ndarray, kind: InputKind) -> Path:
    """Preprocessed float32 images as an .npy file of the artifact's input type. Raises StorageError."""
    with translated_full_disk(path):
        np.save(path, quantize(values, kind.spec), allow_pickle=False)
    return path


@contextmanager
def translated_full_disk(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); validation needs up to "
            f"{PORTION_BYTES >> 20} MiB there: free some space, or set TMPDIR to a folder that has it"
        ) from error


def _chunk_images(images: int, cores: int) -> int:
    return min(CHUNK_IMAGES, max(1, math.ceil(images / (cores * CHUNKS_PER_CORE))))


def _portion_images(spec: Preprocessing, kinds: list[InputKind], chunk: int) -> int:
    values = spec.image_size * spec.image_size * spec.channels
    bytes_per_image = values * sum(np.dtype(kind.dtype).itemsize for kind in kinds)
    return max(chunk, PORTION_BYTES // bytes_per_image // chunk * chunk)
