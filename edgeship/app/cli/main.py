"""The command line: arguments -> one call -> print -> exit code; nothing else."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.app.cli.compare import add_baseline, add_compare
from edgeship.app.cli.console import print_json, print_line, wide_console
from edgeship.app.cli.inspect import add_inspect
from edgeship.app.cli.out_folder import check_out
from edgeship.app.cli.report import add_report
from edgeship.core.collector import collect_less_often
from edgeship.core.errors import (
    FAILED,
    FAULT,
    INCONCLUSIVE,
    INTERRUPTED,
    PASS,
    REFUSED,
    USAGE,
    ConfigError,
    EdgeshipError,
    StorageError,
    in_one_line,
    is_full_disk,
)
from edgeship.core.parts import how_to_install
from edgeship.core.version import __version__

if TYPE_CHECKING:
    from edgeship.app.pipeline.array_pipeline import ArrayPipeline
    from edgeship.app.pipeline.pipeline import Pipeline
    from edgeship.core.config import Config, ValidateConfig
    from edgeship.core.measurement import Report
    from edgeship.data.examples import Examples
    from edgeship.validate.subject.bundle import Bundle

VERDICT_CODES = {"pass": PASS, "fail": FAILED, "inconclusive": INCONCLUSIVE, "refused": REFUSED}
DEVICE_OPTIONS = {
    "ssh_command": "the ssh command with options, for example 'ssh -F my_config'",
    "device_python": "on boards and phones: the Python that has numpy and a runtime's package (default: python3)",
    "device_folder": "on boards and phones: where a folder for the run is made",
    "benchmark_model": "on phones: TensorFlow Lite's benchmark_model, a file here or device:/path",
    "perf_test": "on phones: onnxruntime_perf_test, a file here or device:/path",
}
QUIET_PACKAGES = (
    "ai_edge_litert", "keras", "onnx", "onnxruntime", "tensorflow", "tensorflow_model_optimization", "tf2onnx",
    "tf_keras",
)
QUICKSTART = Path(__file__).resolve().parents[2] / "configs" / "digits.toml"


def entry_point() -> None:
    """The console script."""
    collect_less_often()
    if not sys.warnoptions:  # what Python's -W or PYTHONWARNINGS asks for is shown
        # The packages' advice to each other, and about layers that train and convert as they are.
        warnings.filterwarnings("ignore", module=rf"({'|'.join(QUIET_PACKAGES)})(\.|$)")
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = command_parser().parse_args(arguments)
    try:
        check_out(getattr(options, "out", None))
        code: int = options.call(options)
        return code
    except KeyboardInterrupt:
        _complain("interrupted; what was finished is kept, the same command continues from there")
        return INTERRUPTED
    except EdgeshipError as error:
        if options.debug:
            raise
        _complain(f"error: {error}")
        return error.exit_code
    # The last resort: a traceback ends with 1, which would read as a gate that failed.
    except Exception as error:
        if options.debug:
            raise
        text, code = _foreign(error)
        _complain(f"error: {text}")
        return code


def _foreign(error: Exception) -> tuple[str, int]:
    """(what to say, the exit code) of an error that edgeship did not raise on purpose."""
    if is_full_disk(error):
        where = getattr(error, "filename", None) or f"the disk of --out, or that of {tempfile.gettempdir()}"
        text = f"{where}: no space left; free some, and the same command continues from what was finished"
        return text, StorageError.exit_code
    if isinstance(error, ModuleNotFoundError) and (text := how_to_install(error.name) or ""):
        return text, USAGE
    if isinstance(error, MemoryError):
        return f"the memory is not enough ({in_one_line(error)}); use fewer images or a smaller batch", USAGE
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}", StorageError.exit_code
    return f"{in_one_line(error)}: this is a fault of edgeship; edgeship --debug ... shows where it happened", FAULT


def command_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeship",
        description="Train once, ship two: int8 TFLite and int8 ONNX from one Keras model with custom layers, "
        "each proven against the float model.",
        epilog="Exit codes: 0 pass, 1 a gate failed, 2 wrong input or usage, 3 inconclusive, 4 refused, "
        "70 a fault of edgeship, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"edgeship {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, call: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(call=call)
        return command

    run = add("run", _run, "train, quantize, export and validate; without CONFIG the quickstart on digits")
    run.add_argument("config", nargs="?", type=Path, metavar="CONFIG", default=QUICKSTART)
    stages = {
        "train": "train the float model",
        "quantize": "quantization-aware training (trains the float model first if need be)",
        "export": "write the bundle of TFLite and ONNX files (runs the stages before if need be)",
    }
    for name, summary in stages.items():
        stage = add(name, _stage, summary)
        stage.add_argument("config", type=Path, metavar="CONFIG")
    sensitivity = add(
        "sensitivity", _sensitivity,
        "what quantizing each layer alone costs, most expensive first (trains first if need be)",
    )
    sensitivity.add_argument("config", type=Path, metavar="CONFIG")
    sensitivity.add_argument("--json", action="store_true", help="as JSON")
    for name in ("run", *stages, "sensitivity"):
        commands.choices[name].add_argument(
            "--out", type=Path, metavar="DIR", help="where results go (default: runs/NAME-OF-THE-CONFIG)"
        )
    validate = add("validate", _validate, "prove a bundle: accuracy, parity, coverage, latency; report and verdict")
    validate.add_argument("bundle", type=Path, metavar="BUNDLE")
    validate.add_argument(
        "--on", action="append", metavar="TARGET",
        help="where to run, repeatable: cpu (default), ssh://user@host[:port], adb[:SERIAL], arm64[:CPU], x86[:CPU], "
        "browser",
    )
    validate.add_argument("--runtime", action="append", metavar="RUNTIME", help="only these runtimes")
    validate.add_argument("--images", type=int, metavar="N", help="only the first N test images")
    validate.add_argument(
        "--layers", action="store_true", help="compare integer artifacts with float layer by layer, even if they pass"
    )
    validate.add_argument(
        "--sustained", type=float, metavar="SECONDS",
        help="also run each row for so long without a pause, where the processor is real: does it keep its speed?",
    )
    validate.add_argument("--data", type=Path, metavar="CONFIG", help="images and gates from this configuration")
    validate.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (default: beside the bundle)")
    for command in (run, validate):
        command.add_argument("--all", action="store_true", help="also print the table of all rows, which report.md has")
    for key, text in DEVICE_OPTIONS.items():
        validate.add_argument(f"--{key.replace('_', '-')}", metavar="X", help=text)
    add_compare(add, DEVICE_OPTIONS)
    add_baseline(add, DEVICE_OPTIONS)
    add_report(add)
    add_inspect(add)
    setup = add("setup", _setup, "fetch what a target needs: arm64 (70 MB, seconds) or browser (180 MB)")
    setup.add_argument("part", choices=("arm64", "browser"), metavar="PART", help="arm64 or browser")
    doctor = add("doctor", _doctor, "which runtimes and targets work here, and what to install for the others")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _run(options: argparse.Namespace) -> int:
    pipeline = _pipeline(options)
    report = pipeline.run()
    if report is None:
        print_line(f"run: this worker's part is done; the chief leaves the results in {pipeline.out}")
        return PASS
    return _show(report, pipeline.out, everything=options.all)


def _stage(options: argparse.Namespace) -> int:
    pipeline = _pipeline(options)
    getattr(pipeline, options.command)()
    print_line(f"{options.command}: done, results are in {pipeline.out}")
    return PASS


def _sensitivity(options: argparse.Namespace) -> int:
    from edgeship.app.cli.sensitivity_table import render

    pipeline = _pipeline(options)
    document = pipeline.sensitivity()
    if options.json:
        print_json(document)
        return PASS
    wide_console().print(render(document))
    print_line(f"sensitivity: done, results are in {pipeline.sensitivity_file}")
    return PASS


def _pipeline(options: argparse.Namespace) -> Pipeline | ArrayPipeline:
    from edgeship.app.pipeline.array_pipeline import ArrayPipeline
    from edgeship.app.pipeline.pipeline import Pipeline
    from edgeship.core.config_file import load_config

    config = load_config(options.config)
    out = options.out or Path("runs") / options.config.stem
    check_out(out)
    made = ArrayPipeline if config.data.is_arrays else Pipeline
    return made(config=config, out=out, module_folder=options.config.resolve().parent)


def _validate(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from edgeship.app.pipeline.about import measurements
    from edgeship.core.config import Config, DataConfig
    from edgeship.core.config_file import load_config, section_from_dict
    from edgeship.core.progress import stage
    from edgeship.data import load_test_split
    from edgeship.data.examples import examples_of_images
    from edgeship.validate.report.html.pictures import pictures_of
    from edgeship.validate.report.report import write_report
    from edgeship.validate.run import validate_bundle
    from edgeship.validate.subject.bundle import load_bundle

    bundle = load_bundle(options.bundle)
    if options.data:
        config = load_config(options.data)
    else:
        config = Config(data=section_from_dict(DataConfig, "data", bundle.manifest.data))
    gates = config.validate
    chosen = replace(
        gates,
        runtimes=tuple(options.runtime or gates.runtimes),
        targets=tuple(options.on or gates.targets),
        images=gates.images if options.images is None else options.images,
        sustained_seconds=gates.sustained_seconds if options.sustained is None else options.sustained,
        **{key: value for key in DEVICE_OPTIONS if (value := getattr(options, key)) is not None},
    )
    with stage("validate", measurements(chosen.targets)):
        if (spec := bundle.manifest.preprocessing) is None:
            report, examples = _validate_arrays(bundle, config, chosen, options)
        else:
            test = load_test_split(config.data)
            report = validate_bundle(bundle, test, chosen, layers=options.layers)
            examples = examples_of_images(test, spec)
    out = options.out or options.bundle.resolve().parent
    write_report(report, out, pictures_of(report, examples, spec))
    return _show(report, out, everything=options.all)


def _validate_arrays(
    bundle: Bundle, config: Config, chosen: ValidateConfig, options: argparse.Namespace
) -> tuple[Report, Examples]:
    """Of a bundle whose model takes arrays as they are."""
    from edgeship.api.bundle import metric_named, ports_of
    from edgeship.data.array_source import load_arrays
    from edgeship.validate.run import validate_examples

    if not options.data or not config.data.is_arrays:
        raise ConfigError(
            f"{options.bundle}: its model takes arrays, and a bundle does not have them; name the configuration with "
            "data.factory or data.name = \"arrays\": --data CONFIG"
        )
    sys.path.insert(0, str(options.data.resolve().parent))
    test = load_arrays(config.data, ports_of(bundle)).test
    metric = metric_named(chosen.metric or bundle.manifest.metric)
    return validate_examples(bundle, test, chosen, metric=metric, layers=options.layers), test


def _show(report: Report, folder: Path, *, everything: bool) -> int:
    from edgeship.validate.report.account import account_lines
    from edgeship.validate.report.html.write import HTML_FILE
    from edgeship.validate.report.report import MARKDOWN_FILE
    from edgeship.validate.report.terminal import report_to_terminal

    console = wide_console()
    console.print(report_to_terminal(report, width=console.width, everything=everything))
    for line in account_lines(report):
        print_line(line)
    page = folder / HTML_FILE
    print_line(f"verdict: {report.verdict}   report: {page if page.exists() else folder / MARKDOWN_FILE}")
    return VERDICT_CODES[report.verdict]


def _setup(options: argparse.Namespace) -> int:
    from edgeship.validate.targets.setup import SETUPS

    folder = SETUPS[options.part]()
    print_line(f"{options.part}: ready in {folder}")
    return PASS


def _doctor(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.console import Console

    from edgeship.app.doctor.examine import examine, render

    findings = examine()
    if options.json:
        print_json([asdict(finding) for finding in findings])
    else:
        Console().print(render(findings))
    return PASS


def _complain(text: str) -> None:
    sys.stderr.write(text + os.linesep)
