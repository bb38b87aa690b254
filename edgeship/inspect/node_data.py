"""Node data for Google's Model Explorer: what each operation of a file computes in, costs, and does wrong.

Model Explorer draws a .tflite or .onnx file as a graph and colours its nodes by "custom node data", a JSON file with
one value per node. A node is found by the name of any of its output tensors. The form is that of `GraphNodeData` in
google-ai-edge/model-explorer, src/server/package/src/model_explorer/node_data_builder.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgeship.core.errors import InputError
from edgeship.core.layer_names import KERNEL_SUFFIXES, kernel_names
from edgeship.core.measurement import Report
from edgeship.graph import Graph, Operation
from edgeship.graph.kinds import QDQ
from edgeship.graph.layer_costs import layer_costs

Document = dict[str, Any]  # what one file holds

INTEGER, FLOAT, KEPT = "integer", "float", "kept in float"
COLOURS = {INTEGER: "#c8e6c9", FLOAT: "#ffcdd2", KEPT: "#fff9c4"}
# From the cheap or exact to the costly or wrong; text stays readable on both.
GRADIENT = [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#ef9a9a"}]


def node_data(graph: Graph, *, report: Report | None = None, artifact: str | None = None) -> dict[str, Document]:
    """Return the node data of a file, by what each document shows.

    Without a report: "number-type", "multiply-accumulates", "parameters", "activation-bytes". With the report of the
    bundle that the file is in, also "error-db" (lost against float: minus the SQNR), "max-lsb" and "time-share", as far
    as the report has them.

    Args:
        graph: the file.
        report: of a bundle that has the file.
        artifact: the file's name in that report.

    Raises:
        InputError: the report has no such artifact.
    """
    names = {graph.after_quantize(item.outputs[0]).name: item for item in graph.operations if item.outputs}
    costs = layer_costs(graph)
    documents = {
        "number-type": _number_types(graph, _kept(report, artifact)),
        "multiply-accumulates": _numbers({item.layer: item.multiply_accumulates for item in costs}, names),
        "parameters": _numbers({item.layer: item.parameters for item in costs}, names),
        "activation-bytes": _numbers({item.layer: item.activation_bytes for item in costs}, names),
    }
    if report is not None:
        documents |= _measured(report, artifact, names)
    return {name: document for name, document in documents.items() if document["results"]}


def _number_types(graph: Graph, kept: frozenset[str]) -> Document:
    """Of each operation, by the tensor that it makes; a conversion is named by what it converts to."""
    results = {}
    for operation in graph.operations:
        if not operation.outputs:
            continue
        made = operation.outputs[0] if operation.kind in QDQ else graph.after_quantize(operation.outputs[0]).name
        tensor = graph.tensors.get(made)
        kind = INTEGER if tensor is not None and tensor.is_integer else FLOAT
        if kind == FLOAT and {operation.name, operation.outputs[0]} & kept:
            kind = KEPT
        results[operation.outputs[0]] = {"value": kind, "bgColor": COLOURS[kind]}
    return {"results": results}


def _numbers(values: Mapping[str, float | None], names: Mapping[str, Operation]) -> Document:
    """A value that is not known is left out: a 0 would be a claim."""
    results = {}
    for name, value in values.items():
        if value is not None:
            for key in _keys(name, names):
                results[key] = {"value": value}
    return {"results": results, "gradient": GRADIENT}


def _keys(layer: str, names: Mapping[str, Operation]) -> Iterable[str]:
    """The operation's own result, and the integer tensor behind it, where the file has them apart."""
    operation = names.get(layer)
    return {layer} if operation is None else {layer, operation.outputs[0]}


def _measured(report: Report, artifact: str | None, names: Mapping[str, Operation]) -> dict[str, Document]:
    known = sorted({row.artifact for row in report.rows})
    if artifact not in known:
        found = ", ".join(known) or "none"
        raise InputError(f"expected the report of a bundle with {artifact}, found one with {found}")
    documents = {}
    for errors in (item for item in report.layer_errors if item.artifact == artifact):
        decibels = {item.layer: None if item.sqnr_db is None else -item.sqnr_db for item in errors.layers}
        documents["error-db"] = _numbers(decibels, names)
        documents["max-lsb"] = _numbers({item.layer: item.max_lsb for item in errors.layers}, names)
    profiles = [row.profile for row in report.rows if row.artifact == artifact and row.profile is not None]
    if profiles:
        shares = {KERNEL_SUFFIXES.sub("", item.operation): item.share for item in profiles[0].operations}
        layers = {
            layer: next((shares[name] for name in (*kernel_names(layer), operation.name) if name in shares), None)
            for layer, operation in names.items()
        }
        documents["time-share"] = _numbers(layers, names)
    return documents


def _kept(report: Report | None, artifact: str | None) -> frozenset[str]:
    """The names of operations that are in float on purpose; a row tells them as "KIND NAME"."""
    rows = () if report is None else report.rows
    return frozenset(
        entry.partition(" ")[2] for row in rows if row.artifact == artifact and row.coverage is not None
        for entry in row.coverage.kept_float
    )
