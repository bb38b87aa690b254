"""Broken artifacts: at least 200 of them through `validate` and `inspect`. The parent lives, and none is called good.

Bit flips, truncations, and swapped, cleared and repeated sections of the file, in both formats. Each is put into a
bundle whose hashes fit, as if somebody had signed it, so that what is tested is not the hash check alone.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.core.artifact import MANIFEST_FILE, manifest_from_json, manifest_to_json
from edgeship.core.config import ValidateConfig
from edgeship.core.errors import ArtifactError, BundleError
from edgeship.data import Images
from edgeship.inspect.inspection import inspect_file
from edgeship.validate.run import validate_bundle
from edgeship.validate.subject.bundle import load_bundle

PER_FORMAT = 104
PER_BUNDLE = 26  # rows of one report
CONFIG = ValidateConfig(
    runtimes=("litert", "onnxruntime"), images=30, latency_launches=1, latency_runs=1, latency_seconds=0.1,
    timeout_seconds=30, max_accuracy_drop=0.5,
)


def flip(content: bytearray, random: np.random.Generator) -> None:
    """One to eight bits anywhere."""
    for position in random.integers(0, len(content) * 8, random.integers(1, 9)):
        content[position // 8] ^= 1 << (position % 8)


def flip_structure(content: bytearray, random: np.random.Generator) -> None:
    """One bit where the tables are: the first and the last kilobyte."""
    position = int(random.integers(0, 8 * 1024)) % (len(content) * 8)
    if random.random() < 0.5:
        position = len(content) * 8 - 1 - position
    content[position // 8] ^= 1 << (position % 8)


def truncate(content: bytearray, random: np.random.Generator) -> None:
    """The end is missing, now and then almost all of it."""
    del content[int(len(content) * random.random() ** 2):]


def swap(content: bytearray, random: np.random.Generator) -> None:
    """Two sections in each other's place."""
    size = int(random.integers(8, len(content) // 4))
    first, second = sorted(int(start) for start in random.integers(0, len(content) - size, 2))
    second = max(second, first + size)
    one, two = bytes(content[first : first + size]), bytes(content[second : second + size])
    content[first : first + len(two)], content[second : second + len(one)] = two, one[: len(content) - second]


def clear(content: bytearray, random: np.random.Generator) -> None:
    """A section of zeros or ones, as a broken storage gives."""
    size = int(random.integers(4, 256))
    start = int(random.integers(0, len(content) - size))
    content[start : start + size] = bytes([0 if random.random() < 0.5 else 255]) * size


def repeat(content: bytearray, random: np.random.Generator) -> None:
    """A section twice, so that all offsets behind it are wrong."""
    size = int(random.integers(4, 256))
    start = int(random.integers(0, len(content) - size))
    content[start:start] = content[start : start + size]


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    flip, flip_structure, truncate, swap, clear, repeat,
)


def mutants(path: Path, count: int) -> list[bytes]:
    """`count` files that differ from `path` and from one another; the same ones every time."""
    original, random = path.read_bytes(), np.random.default_rng(len(path.name))
    found: dict[bytes, None] = {}
    while len(found) < count:
        content = bytearray(original)
        MUTATIONS[len(found) % len(MUTATIONS)](content, random)
        if bytes(content) != original:
            found[bytes(content)] = None
    return list(found)


@pytest.fixture(scope="module", params=["int8.tflite", "int8.onnx"])
def broken(request: pytest.FixtureRequest, master_bundle: Path) -> tuple[Path, list[bytes]]:
    return master_bundle / request.param, mutants(master_bundle / request.param, PER_FORMAT)


def test_inspect_describes_or_refuses(broken: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    original, contents = broken
    refused = 0
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}{original.suffix}"
        path.write_bytes(content)
        try:
            assert inspect_file(path).size_bytes == len(content)
        except ArtifactError as error:
            assert str(path) in str(error)
            refused += 1
    # Some flips hit weights, which nobody can know to be wrong; truncations and swaps are seen.
    assert refused >= PER_FORMAT // 3


def test_a_hash_that_does_not_fit_is_seen_at_once(
    broken: tuple[Path, list[bytes]], master_bundle: Path, tmp_path: Path
) -> None:
    original, contents = broken
    folder = Path(shutil.copytree(master_bundle, tmp_path / "bundle"))
    for content in contents:
        (folder / original.name).write_bytes(content)
        with pytest.raises(BundleError, match=f"{original.name}: altered since the export"):
            load_bundle(folder)


@pytest.mark.parametrize("part", range(PER_FORMAT // PER_BUNDLE))
def test_validate_survives_and_calls_none_good(
    broken: tuple[Path, list[bytes]], master_bundle: Path, test_images: Images, tmp_path: Path, resign: Any, part: int
) -> None:
    original, contents = broken
    contents = contents[part * PER_BUNDLE : (part + 1) * PER_BUNDLE]
    folder = Path(shutil.copytree(master_bundle, tmp_path / "bundle"))
    manifest = manifest_from_json((folder / MANIFEST_FILE).read_text(), where=folder)
    sibling, real = (
        next(item for item in manifest.artifacts if item.name == name) for name in ("int8.tflite", original.name)
    )
    arrays = dict(np.load(folder / "golden.npz"))
    good = dataclasses.replace(real, same_grid_as=None) if real is sibling else real
    artifacts = [sibling] if real is sibling else [sibling, good]
    for number, content in enumerate(contents):
        name = f"broken-{number}{original.suffix}"
        (folder / name).write_bytes(content)
        artifacts.append(dataclasses.replace(real, name=name, file=name, same_grid_as="int8.tflite"))
        arrays[f"expected/{name}"] = arrays[f"expected/{original.name}"]
    np.savez(folder / "golden.npz", **arrays)
    (folder / MANIFEST_FILE).write_text(
        manifest_to_json(dataclasses.replace(manifest, artifacts=tuple(artifacts)))
    )
    resign(folder)
    report = validate_bundle(load_bundle(folder), test_images, CONFIG)
    assert len(report.rows) == len(artifacts)
    harmless = {
        row.artifact for row in report.rows
        if row.error is None and not any(row.artifact in failure for failure in report.failures)
    }
    # What is not failed is harmless (names, padding, unused bits): its answers are those of the real file.
    assert good.name in harmless and len(harmless) < len(artifacts)
    for pair in report.agreements:
        names = {label.split(" / ")[0] for label in (pair.first, pair.second)}
        if good.name in names and names <= harmless:
            assert (pair.max_lsb, pair.top1_agreement) == (0, 1.0), names
    assert report.verdict == "fail"
