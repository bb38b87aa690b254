"""What the U8S8 files of a bundle answer on a processor without VNNI, on one that has it: accuracy on all test images.

    python -m benchmarks.bundle_without_vnni CONFIG BUNDLE...    the configuration that the bundles' data come from

Per file: its unsafe pairs, the top-1 and the difference from float32.onnx with a paired 95 % interval, the signal to
noise against it, and how many answers differ from those with nothing hidden; VNNI and AVX-512 are hidden from ONNX
Runtime (benchmarks/hidden_vnni.py).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import mlperf_tiny
from benchmarks.cells import decibels, points
from benchmarks.hidden_vnni import build_mask, hidden
from edgeship.core.config_file import load_config
from edgeship.core.integers import dequantize, sqnr_db
from edgeship.data import load_splits, preprocess, preprocessing_of
from edgeship.export.proof.golden import specs_and_outputs
from edgeship.graph import read_graph
from edgeship.graph.saturation import saturation_of

HEAD = "| bundle | file | unsafe pairs | top-1 | difference from float, points | SQNR, dB | answers that differ |"
MASK = "avx512"


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """The test images, and what is right."""

    inputs: np.ndarray
    labels: np.ndarray

    def answers(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return a file's raw outputs and what they stand for, (images, classes)."""
        _, (spec,), (outputs,) = specs_and_outputs(path.read_bytes(), format="onnx", inputs=(self.inputs,))
        raw = outputs.reshape(len(outputs), -1)
        return raw, dequantize(raw, spec)

    def is_right(self, values: np.ndarray) -> np.ndarray:
        """Return which images get their own class."""
        found: np.ndarray = values.argmax(axis=1) == self.labels
        return found


def main() -> None:
    """Ask every file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("bundles", nargs="+", type=Path)
    options = parser.parse_args()
    if missing := [bundle for bundle in options.bundles if not (bundle / "float32.onnx").is_file()]:
        parser.error(f"{missing[0]}: expected a bundle with float32.onnx, found none; export it with that scheme")
    data = load_config(options.config).data
    test, spec = load_splits(data).test, preprocessing_of(data)
    asked = Asked(inputs=preprocess(test.images[:], spec), labels=np.asarray(test.labels))
    with tempfile.TemporaryDirectory() as folder:
        library = build_mask(Path(folder))
        print(mlperf_tiny.opening(HEAD), flush=True)
        for bundle in options.bundles:
            for line in rows_of(bundle, asked, library):
                print(line, flush=True)


def rows_of(bundle: Path, asked: Asked, library: Path) -> Iterator[str]:
    """Yield the lines of a bundle."""
    _, floats = asked.answers(bundle / "float32.onnx")
    float_right = asked.is_right(floats)
    for path in sorted(bundle.glob("int8-*-u8s8.onnx")):
        here, _ = asked.answers(path)
        with hidden(MASK, library):
            raw, values = asked.answers(path)
        right = asked.is_right(values)
        unsafe = sum(layer.unsafe_pairs for layer in saturation_of(read_graph(path)).layers)
        yield (
            f"| {bundle} | {path.name} | {unsafe:,} | {right.mean():.2%} "
            f"| {points(float_right, right)} | {decibels(sqnr_db(floats, values))} "
            f"| {np.sum((raw != here).any(axis=1)):,} of {len(raw):,} |"
        )


if __name__ == "__main__":
    main()
