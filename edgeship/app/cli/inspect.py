"""The command `inspect`: what is in a file, on the terminal, as JSON, and for Model Explorer."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeship.app.cli.commands import Add
from edgeship.app.cli.console import print_json, print_line
from edgeship.app.cli.out_folder import check_out
from edgeship.core.errors import PASS, ConfigError


def add_inspect(add: Add) -> None:
    """`edgeship inspect`."""
    inspect = add("inspect", _inspect, "what is in a .tflite or .onnx file, and which traps it carries")
    inspect.add_argument("file", type=Path, metavar="FILE")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.add_argument(
        "--mobile", action="store_true", help="also what ONNX Runtime says of NNAPI and Core ML for an .onnx file"
    )
    inspect.add_argument(
        "--node-data", type=Path, metavar="OUT", help="also write node data for Model Explorer into this folder"
    )
    inspect.add_argument(
        "--report", type=Path, metavar="REPORT",
        help="with --node-data: the report.json of the file's bundle, for errors and times",
    )


def _inspect(options: argparse.Namespace) -> int:
    from rich.console import Console

    from edgeship.inspect.inspection import inspect_file, inspection_to_dict, render

    inspection = inspect_file(options.file)
    if options.json:
        print_json(inspection_to_dict(inspection))
    else:
        Console().print(render(inspection))
    if options.node_data is not None:
        _write_node_data(options.file, options.node_data, options.report)
    elif options.report is not None:
        raise ConfigError("--report: is for --node-data OUT, which is not there; add it, or leave --report out")
    if options.mobile:
        from edgeship.inspect.mobile import mobile_usability

        print_line(mobile_usability(options.file))
    return PASS


def _write_node_data(file: Path, out: Path, report_file: Path | None) -> None:
    import json

    from edgeship.core.files import write_atomically
    from edgeship.graph import read_graph
    from edgeship.inspect.node_data import node_data
    from edgeship.validate.report.report import load_report

    check_out(out, option="--node-data")
    report = None if report_file is None else load_report(report_file)
    documents = node_data(read_graph(file), report=report, artifact=file.name)
    for name, document in documents.items():
        write_atomically(out / f"{name}.json", json.dumps(document, indent=1).encode())
    print_line(f"node data for Model Explorer in {out}: {', '.join(sorted(documents))}")
