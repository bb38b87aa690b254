"""`report.json`: written, and read again for a comparison. Markdown and terminal are drawn from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from edgeship.core.artifact import Quantization
from edgeship.core.errors import InputError
from edgeship.core.files import write_atomically, write_json
from edgeship.core.measurement import (
    READABLE_SCHEMAS,
    REPORT_FILE,
    Accuracy,
    Agreement,
    Coverage,
    Grid,
    Latency,
    LatencyLaunch,
    LayerError,
    LayerErrors,
    OperationTime,
    Parity,
    Profile,
    Report,
    Row,
    TargetRecord,
)
from edgeship.validate.report.markdown import report_to_markdown

MARKDOWN_FILE = "report.md"

Record = TypeVar("Record")
PARTS: dict[str, Any] = {"accuracy": Accuracy, "parity": Parity, "coverage": Coverage}


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json` and `report.md` into `folder`. Raises StorageError."""
    write_json(folder / REPORT_FILE, report_to_json(report))
    write_atomically(folder / MARKDOWN_FILE, report_to_markdown(report).encode())


def load_report(path: Path) -> Report:
    """Read a `report.json`.

    Raises:
        InputError: no such file, not a report, another schema version, a field missing or unknown.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: expected a {REPORT_FILE}, found none that can be read ({error}); validate again"
        ) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema not in READABLE_SCHEMAS:
        raise InputError(
            f"{path}: expected a report of schema {' or '.join(map(str, READABLE_SCHEMAS))}, found {schema!r}; "
            "use the edgeship version that wrote it, or validate again"
        )
    try:
        return report_from_json(document)
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not a complete report ({error}); validate again") from error


def report_to_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON values."""
    return dataclasses.asdict(report)


def report_from_json(document: dict[str, Any]) -> Report:
    """The inverse of `report_to_json`. Raises TypeError or KeyError on another form."""
    return _record(Report, {
        **document,
        "rows": tuple(_row(item) for item in document["rows"]),
        "grids": tuple(_record(Grid, item) for item in document["grids"]),
        "targets": tuple(_record(TargetRecord, item) for item in document["targets"]),
        "agreements": tuple(_record(Agreement, item) for item in document["agreements"]),
        "layer_errors": tuple(_layer_errors(item) for item in document["layer_errors"]),
        "quantization": {scheme: _record(Quantization, item) for scheme, item in document["quantization"].items()},
    })


def _row(item: dict[str, Any]) -> Row:
    parts = {
        key: None if item[key] is None else _record(kind, item[key]) for key, kind in PARTS.items()
    }
    return _record(Row, {
        **item, **parts, "latency": _latency(item["latency"]), "profile": _profile(item["profile"]),
    })


def _latency(item: dict[str, Any] | None) -> Latency | None:
    if item is None:
        return None
    launches = (
        _record(LatencyLaunch, {**launch, "rounds_ms": tuple(map(tuple, launch["rounds_ms"]))})
        for launch in item["launches"]
    )
    return _record(Latency, {**item, "launches": tuple(launches)})


def _profile(item: dict[str, Any] | None) -> Profile | None:
    if item is None:
        return None
    operations = tuple(_record(OperationTime, operation) for operation in item["operations"])
    return _record(Profile, {**item, "operations": operations})


def _layer_errors(item: dict[str, Any]) -> LayerErrors:
    return _record(LayerErrors, {**item, "layers": tuple(_record(LayerError, layer) for layer in item["layers"])})


def _record(kind: type[Record], values: dict[str, Any]) -> Record:
    """JSON has no tuples: every list of a record was one."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
