"""Every scheme in every format it exists in, from one trained float model: size, accuracy, speed, one table.

    python -m benchmarks.schemes --out DIR                              trains configs/digits.toml first
    python -m benchmarks.schemes --out DIR --model runs/digits/float.keras    takes a trained model as it is

Prints the Markdown table of docs/schemes.md and leaves report.json with the raw samples in DIR. Accuracies compare with
float Keras on the same test images; times are one inference on one thread, and speed-ups are over the float32 file of
the same format on the same runtime.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.config import Config
from edgeship.core.config_file import load_config
from edgeship.core.measurement import Report, Row
from edgeship.core.schemes import SCHEMES
from edgeship.validate.report.columns import COLUMNS

SHOWN = ("top-1", "delta, points [95 %]", "agreement", "SQNR dB", "median ms", "speed-up [95 %]")
RUNTIMES = ("litert", "onnxruntime")


def main() -> None:
    """Parse, run the pipeline, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/digits.toml"))
    parser.add_argument("--model", type=Path, help="a trained .keras file, instead of training one")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=300, help="inferences timed of each file")
    options = parser.parse_args()
    config = every_scheme(load_config(options.config), model=options.model, runs=options.runs)
    report = Pipeline(config=config, out=options.out, module_folder=options.config.resolve().parent).run()
    print("\n".join(table(report)))


def every_scheme(config: Config, *, model: Path | None, runs: int) -> Config:
    """The configuration with all schemes, each in every format that it has."""
    formats = ("tflite", "onnx", "ort")
    skip = tuple(f"{scheme.name}:{name}" for scheme in SCHEMES.values() for name in scheme.impossible)
    changed = replace(
        config,
        quantize=replace(config.quantize, schemes=tuple(SCHEMES), max_accuracy_drop=0.0),
        export=replace(config.export, formats=formats, skip=skip, tflite_io=("int8",), onnx_variants=("u8u8",)),
        validate=replace(config.validate, runtimes=RUNTIMES, targets=("cpu",), latency_runs=runs),
    )
    if model is None:
        return changed
    return replace(
        changed, model=replace(config.model, path=str(model.resolve())), train=replace(config.train, epochs=0)
    )


def table(report: Report) -> Iterator[str]:
    """One line per file, float32 of its format first."""
    header = ("scheme", "file", "runs on", "size", "of float32", *SHOWN)
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for row in report.rows:
        drawn = dict(zip(COLUMNS, (draw(row) for draw in COLUMNS.values()), strict=True))
        suffix = row.artifact.rsplit(".", 1)[1]
        share = (row.size_bytes or 0) / _float_size(report, suffix)
        cells = (row.scheme, suffix, row.runtime, drawn["size"], f"{share:.0%}", *(drawn[name] for name in SHOWN))
        yield f"| {' | '.join(cells)} |"


def _float_size(report: Report, suffix: str) -> int:
    found: Row = next(row for row in report.rows if row.artifact == f"float32.{suffix}")
    return found.size_bytes or 1


if __name__ == "__main__":
    main()
