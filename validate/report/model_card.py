"""`MODEL_CARD.md`: what a bundle is and how good it is, with the YAML head that the Hugging Face hub reads.

The head has the fields of the hub's model card specification (`pipeline_tag`, `tags`, `model-index` with a task, a data
set and metrics). Its values are written as JSON, of which YAML 1.2 is a superset, so that no name can become markup. A
licence is the owner's to name, so there is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeship.core.artifact import Manifest, TensorSpec
from edgeship.core.files import write_atomically
from edgeship.core.measurement import Report, Row
from edgeship.core.version import __version__
from edgeship.validate.report.columns import cells, columns_of, megabytes
from edgeship.validate.report.gfm import bullets, escaped, section, table
from edgeship.validate.report.markdown import headline, machine_lines
from edgeship.validate.report.ship_lines import SHIP_COLUMNS, ship_cells, ship_legend

CARD_FILE = "MODEL_CARD.md"
PICTURES_TASK, OTHER_TASK = "image-classification", "other"  # the hub's words
MOST_LABELS = 20  # that are written out
SHORT_HASH = 12


def write_model_card(manifest: Manifest, report: Report, folder: Path, *, commit: str | None) -> Path:
    """Write `MODEL_CARD.md` into a bundle's folder and return its path. Raises StorageError."""
    write_atomically(folder / CARD_FILE, model_card(manifest, report, commit=commit).encode())
    return folder / CARD_FILE


def model_card(manifest: Manifest, report: Report, *, commit: str | None) -> str:
    """Return the card; the same manifest and report give the same text.

    Args:
        commit: that is checked out where the command runs; None: no repository.
    """
    columns = columns_of(report.rows)
    limits = (*report.failures, *(f"not judged: {reason}" for reason in report.not_judged), *report.notes)
    parts = [
        _head(manifest, report),
        f"# {escaped(_name(manifest, report))}",
        f"**{headline(report)}**",
        *_ship(report),
        "## Files",
        table(
            ("file", "format", "scheme", "size", "SHA-256"),
            [
                (item.file, item.format, item.scheme, megabytes(item.size_bytes), item.sha256)
                for item in manifest.artifacts
            ],
        ),
        *section("Inputs and outputs", _ends(manifest)),
        "## Evaluation",
        table(columns, [cells(row, columns) for row in report.rows]),
        *section("Limits", limits),
        *section("Measured on", machine_lines(report)),
        *section("Provenance", _provenance(manifest, commit)),
    ]
    return "\n\n".join(parts) + "\n"


def _head(manifest: Manifest, report: Report) -> str:
    values: dict[str, Any] = {
        "tags": ["edgeship", *dict.fromkeys(item.format for item in manifest.artifacts), *manifest.quantization],
        "model-index": [{"name": _name(manifest, report), "results": list(_results(manifest, report))}],
    }
    if manifest.preprocessing is not None:
        values["pipeline_tag"] = PICTURES_TASK
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in values.items()), "---"])


def _results(manifest: Manifest, report: Report) -> Iterator[dict[str, Any]]:
    """Yield one result with a metric per row: the accuracy, or the score of another task."""
    metrics = [metric for row in report.rows if (metric := _metric(row)) is not None]
    if metrics:
        data = str(manifest.data.get("name") or "arrays")
        test = manifest.splits.get("test") or {}
        yield {
            "task": {"type": OTHER_TASK if manifest.preprocessing is None else PICTURES_TASK},
            "dataset": {"name": data, "type": data, "split": "test", "revision": test.get("sha256")},
            "metrics": metrics,
        }


def _metric(row: Row) -> dict[str, Any] | None:
    place = f"{row.artifact} on {row.runtime}, {row.target}"
    if row.accuracy is not None:
        return {"type": "accuracy", "value": row.accuracy.top1, "name": f"top-1, {place}"}
    if row.score is not None:
        return {"type": row.score.metric, "value": row.score.value, "name": f"{row.score.metric}, {place}"}
    return None


def _name(manifest: Manifest, report: Report) -> str:
    """Return the name of the bundle's folder, or that of the folder around it where it is called "bundle"."""
    path = Path(report.bundle)
    return path.parent.name if path.name == "bundle" and path.parent.name else path.name or "bundle"


def _ship(report: Report) -> Iterator[str]:
    if report.ship:
        yield "## What to ship"
        yield table(SHIP_COLUMNS, map(ship_cells, report.ship))
        yield from bullets([ship_legend(report.ship)])


def _ends(manifest: Manifest) -> Iterator[str]:
    first = manifest.artifacts[0]
    for word, specs in (("input", first.inputs), ("output", first.outputs)):
        for spec in specs:
            yield f"{word} of {first.file}: {_spec(spec)}"
    if (images := manifest.preprocessing) is not None:
        yield (
            f"pictures: {images.channel_order}, {images.image_size} x {images.image_size}, {images.resize}; "
            f"from 0 to 1, less {_numbers(images.mean)}, divided by {_numbers(images.std)}"
        )
    if manifest.labels:
        more = f" ... ({len(manifest.labels):,} in all)" if len(manifest.labels) > MOST_LABELS else ""
        yield f"labels: {', '.join(manifest.labels[:MOST_LABELS])}{more}"


def _spec(spec: TensorSpec) -> str:
    grid = "" if spec.scale is None else f", scale {spec.scale:.9g}, zero point {spec.zero_point}"
    return f"{spec.name}, {spec.dtype} {' x '.join(map(str, spec.shape))}{grid}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _provenance(manifest: Manifest, commit: str | None) -> Iterator[str]:
    """Yield where the bundle comes from: hashes of the configuration, the weights and the data, tools, commit."""
    yield f"exported by {manifest.created_by}, this card by edgeship {__version__}"
    for key, value in manifest.source.items():
        yield f"{key.replace('_sha256', '')}: SHA-256 {value}"
    for name, split in manifest.splits.items():
        yield f"{name} split: {split.get('images', 'an unknown number of')} examples, SHA-256 {split.get('sha256')}"
    yield "tools: " + ", ".join(f"{name} {version}" for name, version in manifest.tools.items())
    yield f"commit: {commit or 'not known, no repository here'}"
