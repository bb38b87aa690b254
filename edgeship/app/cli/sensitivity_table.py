"""sensitivity.json as a table for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def render(document: dict[str, Any]) -> Table:
    """One row per layer, most expensive first."""
    table = Table(
        title=f"what quantizing one layer alone costs, on {document['images']} calibration images "
        f"({document['calibration']} ranges)"
    )
    for column in ("layer", "quantized", "SQNR dB", "top-1 agreement"):
        table.add_column(column, justify="left" if column in ("layer", "quantized") else "right", overflow="fold")
    for row in document["layers"]:
        noise = "no noise" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"
        quantized = "weights and result" if row["has_weights"] else "result"
        table.add_row(row["layer"], quantized, noise, f"{row['agreement']:.2%}")
    return table
