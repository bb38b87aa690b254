from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship.core.artifact import TensorSpec
from edgeship.core.errors import StorageError
from edgeship.core.integers import quantize
from edgeship.data import Images, preprocess
from edgeship.data.examples import examples_of_images
from edgeship.validate.subject import inputs
from edgeship.validate.subject.bundle import load_bundle
from edgeship.validate.subject.inputs import InputKind, portions, write_array

SPEC = TensorSpec(name="image", shape=(1, 8, 8, 1), dtype="int8", scale=0.01, zero_point=3)
KINDS = [(InputKind.of(SPEC),), (InputKind(dtype="float32", scale=None, zero_point=None),)]


@pytest.mark.parametrize("portion_bytes", [1, 64 * 5 * 20, 1 << 30])
def test_portions_hold_every_image_once_in_order(
    master_bundle: Path, test_images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion_bytes: int
) -> None:
    monkeypatch.setattr(inputs, "PORTION_BYTES", portion_bytes)
    preprocessing = load_bundle(master_bundle).manifest.preprocessing
    assert preprocessing is not None
    wanted, examples = preprocess(test_images.images, preprocessing), examples_of_images(test_images, preprocessing)
    seen: dict[tuple[InputKind, ...], list[np.ndarray]] = {kind: [] for kind in KINDS}
    position = 0
    for portion in portions(examples, kinds=KINDS, cores=2, folder=tmp_path):
        assert portion.start == position
        position += portion.images
        for kind in KINDS:
            seen[kind] += [np.load(path, allow_pickle=False) for (path,) in portion.files[kind]]
        # Never more on disk than one portion; a portion is at least one chunk of 90 / (2 cores x 4) images.
        assert len(list(tmp_path.iterdir())) == sum(len(paths) for paths in portion.files.values())
        assert portion.images * 64 * 5 <= max(portion_bytes, 12 * 64 * 5)
    assert position == len(test_images) and not list(tmp_path.iterdir())
    assert np.array_equal(np.concatenate(seen[KINDS[0]]), quantize(wanted, SPEC))
    assert np.array_equal(np.concatenate(seen[KINDS[1]]), wanted)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"x.npy: could not be written .* set TMPDIR"):
        write_array(tmp_path / "missing" / "x.npy", np.zeros((1, 8, 8, 1), np.float32), KINDS[0][0])
