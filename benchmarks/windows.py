"""What the windows of saturating readers gain in post-training quantization, as a Markdown table.

    python -m benchmarks.windows [--run CONFIG FOLDER]... [--mlperf DIR] [--out FILE]

`--run` names a configuration of images and the folder in which `edgeship run` (or `benchmarks.families --work`) left
its float.keras; DIR has files of github.com/mlcommons/tiny. Every network is quantized twice with the same calibration
data, once with every window opened, and asked about the same test inputs. The columns: how many ranges have a window,
the lower end of the logits' range, the SQNR of the probabilities against the float network's, and the share of the
inputs with its top-1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from benchmarks.mlperf_tiny import CALIBRATION, CALIBRATION_SEED, ENTRIES, TEST_SEED, TESTS, opening
from edgeship.app.pipeline import lowered
from edgeship.core.config_file import load_config
from edgeship.core.integers import sqnr_db
from edgeship.data import load_splits, preprocessed_batches, preprocessing_of
from edgeship.model.build import load_model
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.prepare import calibrate, finish
from edgeship.quantize.window import OPEN

METHODS = ("min-max", "percentile", "mse")
BATCH = 50
HEAD = "| network | ranges | windows | logits from | SQNR, dB | same top-1 |"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A float network, its input range if that is known, and batches of calibration and test inputs."""

    name: str
    flat: tf_keras.Model
    span: tuple[float, float] | None
    calibration: Callable[[], Iterator[np.ndarray]]
    test: Callable[[], Iterator[np.ndarray]]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs=2, action="append", default=[], type=Path, metavar=("CONFIG", "FOLDER"))
    parser.add_argument("--mlperf", type=Path, help="a folder with files of the benchmark")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lines = opening(HEAD).splitlines()
    print("\n".join(lines))
    for case in (*map(_of_run, options.run), *(_of_mlperf(options.mlperf) if options.mlperf else ())):
        for line in rows_of(case):
            print(line, flush=True)
            lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


def _of_run(pair: tuple[Path, Path]) -> Case:
    config, folder = load_config(pair[0]), pair[1]
    splits, spec = load_splits(config.data), preprocessing_of(config.data)
    return Case(
        name=folder.parent.name if folder.name == "out" else folder.name,
        flat=lowered.load(folder / "float.keras"), span=spec.input_range,
        calibration=lambda: preprocessed_batches(splits.calibration, spec, size=BATCH),
        test=lambda: preprocessed_batches(splits.test, spec, size=BATCH),
    )


def _of_mlperf(folder: Path) -> Iterator[Case]:
    for name, entry in ENTRIES.items():
        if entry.classifies and (folder / entry.model).exists():
            given, asked = entry.inputs(CALIBRATION, seed=CALIBRATION_SEED), entry.inputs(TESTS, seed=TEST_SEED)
            yield Case(
                name=name, flat=lower(load_model(folder / entry.model)), span=None, calibration=partial(_cut, given),
                test=partial(_cut, asked),
            )


def _cut(examples: np.ndarray) -> Iterator[np.ndarray]:
    return (examples[start : start + BATCH] for start in range(0, len(examples), BATCH))


def rows_of(case: Case) -> Iterator[str]:
    """Yield the rows of one network: each way to choose ranges, without windows and with them."""
    wanted = _answers(case.flat, case)
    for method in METHODS:
        for has_windows in (False, True):
            made = insert_fake_quantization(case.flat, input_ranges=[case.span])
            logits = [item for item in made.ranges if item.window.softmax]
            count = sum(item.window.bounds_something for item in made.ranges)
            for item in made.ranges if not has_windows else ():
                item.window = OPEN
            calibrate(made, case.calibration(), method=method)
            finish(made)
            found = _answers(made.model, case)
            low = ", ".join(f"{float(item.minimum):.1f}" for item in logits)
            db, same = sqnr_db(wanted, found), np.mean(wanted.argmax(-1) == found.argmax(-1))
            yield f"| {case.name} | {method} | {count if has_windows else 0} | {low} | {db:.2f} | {same:.2%} |"


def _answers(model: Any, case: Case) -> np.ndarray:
    return np.concatenate([np.asarray(model(batch, training=False)) for batch in case.test()])


if __name__ == "__main__":
    main()
