"""The commands `compare` and `baseline`: arguments -> one call -> print -> exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.app.cli.commands import Add
from edgeship.app.cli.console import print_line, wide_console
from edgeship.core.errors import FAILED, INCONCLUSIVE, INTERRUPTED, PASS, REFUSED, ConfigError

if TYPE_CHECKING:
    from edgeship.core.comparison import Comparison
    from edgeship.core.config import ValidateConfig
    from edgeship.validate.compare.settings import Settings

VERDICT_CODES = {
    "pass": PASS, "improved": PASS, "regression": FAILED, "inconclusive": INCONCLUSIVE, "refused": REFUSED,
}
DEFAULT_OUT, DEFAULT_BASELINES = Path("comparison"), Path("baselines")


def add_compare(add: Add, device_options: dict[str, str]) -> None:
    """`edgeship compare`."""
    compare = add("compare", _compare, "the latency regression check: two artifacts, or two bundles by artifact name")
    compare.add_argument("baseline", type=Path, metavar="BASELINE")
    compare.add_argument("candidate", type=Path, metavar="CANDIDATE", nargs="?")
    compare.add_argument(
        "--self-test", action="store_true",
        help="compare BASELINE with itself: can this machine be gated on, and what slowdown could be seen?",
    )
    add_check_options(compare, device_options)


def add_baseline(add: Add, device_options: dict[str, str]) -> None:
    """`edgeship baseline save|list|check`."""
    baseline = add("baseline", _list, "artifacts to compare with later, with their times, in a folder of a repository")
    actions = baseline.add_subparsers(dest="action", required=True, metavar="save|list|check")

    def action(name: str, call: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        command = actions.add_parser(name, help=summary, description=summary)
        command.set_defaults(call=call)
        command.add_argument(
            "--folder", type=Path, metavar="DIR", default=DEFAULT_BASELINES,
            help=f"the folder of baselines (default: {DEFAULT_BASELINES})",
        )
        return command

    save = action("save", _save, "keep an artifact, or those of a bundle, and time them; again: another session")
    save.add_argument("artifact_or_bundle", type=Path, metavar="ARTIFACT_OR_BUNDLE")
    save.add_argument("--name", metavar="NAME", help="the baseline's (default: as the file or folder is called)")
    save.add_argument("--replace", action="store_true", help="other artifacts under this name make way")
    add_check_options(save, device_options)
    action("list", _list, "what is kept, and how often it was timed where")
    check = action("check", _check, "the latency regression check against a baseline")
    check.add_argument("name", metavar="NAME")
    check.add_argument("candidate", type=Path, metavar="CANDIDATE")
    check.add_argument(
        "--stored-first", action="store_true",
        help="pass by the stored times alone where they allow it; suspicion, or another environment: run both",
    )
    check.add_argument(
        "--dedicated", action="store_true",
        help="nothing else ever runs on this machine, so stored times need not prove how much they spread",
    )
    add_check_options(check, device_options)


def add_check_options(command: argparse.ArgumentParser, device_options: dict[str, str]) -> None:
    """What every command that times two arms takes."""
    command.add_argument(
        "--on", action="append", metavar="TARGET",
        help="where to run, repeatable: cpu (default), ssh://user@host[:port], adb[:SERIAL], "
        "arm64[:CPU] and x86[:CPU] (instructions only)",
    )
    command.add_argument("--runtime", action="append", metavar="RUNTIME", help="only these runtimes")
    command.add_argument("--artifact", action="append", metavar="NAME", help="of two bundles: only these artifacts")
    command.add_argument(
        "--tolerance", type=share, metavar="2%", help="a slowdown up to this is no regression (default 2%%; 3%% for "
        "the makers' tools on phones)",
    )
    command.add_argument(
        "--limit", type=share, metavar="5%", help="a slowdown of this must not pass (default 5%%; 8%% for those tools)"
    )
    command.add_argument(
        "--max-seconds", type=float, metavar="300", default=300.0, help="at most this long for each timed check"
    )
    command.add_argument("--threads", type=int, metavar="N", default=1)
    command.add_argument(
        "--cpus", type=cpus, metavar="0,1", default=(), help="the cores to choose from (default: all that are usable)"
    )
    command.add_argument("--no-pin", action="store_true", help="do not bind both arms to one core")
    command.add_argument("--no-exact", action="store_true", help="only the timing, without the exact gates before it")
    command.add_argument("--no-timing", action="store_true", help="only the exact gates")
    command.add_argument("--seed", type=int, metavar="N", default=0, help="of the random order of the arms")
    command.add_argument(
        "--out", type=Path, metavar="DIR", default=DEFAULT_OUT, help=f"where results go (default: {DEFAULT_OUT})"
    )
    command.add_argument("--history", type=Path, metavar="FILE", help="append one line per check to this CSV file")
    for key, text in device_options.items():
        command.add_argument(f"--{key.replace('_', '-')}", metavar="X", help=text)
    command.set_defaults(device_options=tuple(device_options))


def share(text: str) -> float:
    """ "2%" or "0.02" -> 0.02."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a share like 2% or 0.02, found {text!r}") from error


def cpus(text: str) -> tuple[int, ...]:
    """ "0,2-3" -> (0, 2, 3)."""
    try:
        found: list[int] = []
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found += range(int(first), int(last if dash else first) + 1)
        return tuple(found)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected cores like 0,2-3, found {text!r}") from error


def settings_of(options: argparse.Namespace, *, self_test: bool = False) -> Settings:
    """What the options ask for. Raises ConfigError."""
    from edgeship.validate.compare.settings import Settings

    return Settings(
        tolerance=options.tolerance, limit=options.limit, max_seconds=options.max_seconds, threads=options.threads,
        pin=not options.no_pin, cpus=options.cpus, exact=not options.no_exact, timing=not options.no_timing,
        self_test=self_test, seed=options.seed,
    )


def _compare(options: argparse.Namespace) -> int:
    from edgeship.validate.compare.arms import pair_arms
    from edgeship.validate.compare.run import compare

    if options.self_test == (options.candidate is not None):
        raise ConfigError(
            "compare: expected BASELINE and CANDIDATE, or BASELINE with --self-test, which has no CANDIDATE"
        )
    check_history(options)
    candidate = options.candidate or options.baseline
    comparison = compare(
        pair_arms(options.baseline, candidate, names=tuple(options.artifact or ())),
        settings_of(options, self_test=options.self_test), target_config(options), baseline=str(options.baseline),
        candidate=str(candidate), runtimes=tuple(options.runtime or ()),
    )
    return show(comparison, options)


def _save(options: argparse.Namespace) -> int:
    from edgeship.validate.compare.arms import pair_arms
    from edgeship.validate.compare.baseline_folder import load_baseline, save_baseline
    from edgeship.validate.compare.sessions import make_baseline

    source = options.artifact_or_bundle
    folder = options.folder / (options.name or source.resolve().name)
    old = load_baseline(folder) if folder.exists() and not options.replace else None
    baseline, sources = make_baseline(
        pair_arms(source, source, names=tuple(options.artifact or ())), settings_of(options), target_config(options),
        runtimes=tuple(options.runtime or ()), old=old,
    )
    saved = save_baseline(folder, baseline, sources, replace=options.replace)
    sessions = sum(len(recording.sessions) for recording in saved.recordings)
    print_line(f"{folder}: {len(saved.artifacts)} artifacts, {sessions} sessions of launches")
    return PASS


def _list(options: argparse.Namespace) -> int:
    from edgeship.validate.compare.baseline_folder import list_baselines

    listed = list_baselines(options.folder)
    for item in listed:
        if item.baseline is None:
            print_line(f"{item.name}: cannot be used: {item.problem}")
            continue
        print_line(f"{item.name}: saved {item.baseline.created_at}, commit {item.baseline.commit or 'not known'}")
        for artifact in item.baseline.artifacts:
            print_line(f"    {artifact.name}: {artifact.size_bytes:,} bytes, SHA-256 {artifact.sha256[:12]}")
            for recording in item.baseline.recordings:
                if recording.artifact_sha256 == artifact.sha256:
                    print_line(
                        f"        {recording.runtime} on {recording.target}: {len(recording.sessions)} sessions, "
                        f"{recording.protocol.metric}, {recording.fingerprint.get('cpu_model') or 'processor not told'}"
                    )
    if not listed:
        print_line(f"{options.folder}: no baselines; `edgeship baseline save` makes one")
    return PASS


def _check(options: argparse.Namespace) -> int:
    from edgeship.validate.compare.arms import pair_with_baseline
    from edgeship.validate.compare.baseline_folder import load_baseline
    from edgeship.validate.compare.run import compare
    from edgeship.validate.compare.sessions import stored_first

    check_history(options)
    folder = options.folder / options.name
    baseline, settings = load_baseline(folder), settings_of(options)
    comparison = compare(
        pair_with_baseline(baseline, folder, options.candidate), settings, target_config(options),
        baseline=str(folder), candidate=str(options.candidate), runtimes=tuple(options.runtime or ()),
        first=stored_first(baseline, settings, dedicated=options.dedicated) if options.stored_first else None,
    )
    return show(comparison, options)


def target_config(options: argparse.Namespace) -> ValidateConfig:
    """Where to run, as `[validate]` has it. Raises ConfigError."""
    from edgeship.core.config import ValidateConfig

    given = {key: value for key in options.device_options if (value := getattr(options, key)) is not None}
    return ValidateConfig(targets=tuple(options.on or ("cpu",)), **given)


def check_history(options: argparse.Namespace) -> None:
    """Refuse a file that is no history before minutes are spent. Raises InputError."""
    from edgeship.validate.compare.forms.history import read_history

    if options.history is not None:
        read_history(options.history)


def show(comparison: Comparison, options: argparse.Namespace) -> int:
    """Write every form, print the one for people, and say how it ends."""
    from edgeship.validate.compare.forms.annotations import comparison_to_annotations
    from edgeship.validate.compare.forms.terminal import comparison_to_terminal
    from edgeship.validate.compare.report import write_comparison

    write_comparison(comparison, options.out, history=options.history)
    console = wide_console()
    console.print(comparison_to_terminal(comparison, width=console.width))
    for line in comparison_to_annotations(comparison):
        print_line(line)
    print_line(f"verdict: {comparison.verdict}   results: {options.out}")
    return INTERRUPTED if comparison.interrupted else VERDICT_CODES[comparison.verdict]
