"""`edgeship doctor`: which runtimes, targets and tools work on this machine, and what to install for others.

Native libraries are tried in a child process: a broken one crashes its process, which must not be this one.
TensorFlow is looked up, not loaded: loading takes seconds, and the Keras reference is optional.
"""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata

from rich.table import Table
from rich.text import Text

from edgeship.cpu import cpu_flags

# Instructions that decide whether int8 arithmetic is exact and fast, as /proc/cpuinfo spells them.
X86_FLAGS = ("avx2", "avx512_vnni", "avx_vnni", "amx_int8")
ARM_FLAGS = ("asimddp", "i8mm")
VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})
TRIAL_TIMEOUT_S = 60.0

# Name -> kind, distribution, and code that loads its native library and sets `detail`, what to say of it.
TRIALS = {
    "litert": (
        "runtime",
        "ai-edge-litert",
        "import ai_edge_litert.interpreter as i; i.Interpreter; detail = ''",
    ),
    "onnxruntime": (
        "runtime",
        "onnxruntime",
        "import onnxruntime as o; o.InferenceSession; "
        "detail = ', providers: ' + ', '.join(o.get_available_providers())",
    ),
    "onnx": ("tool", "onnx", "import onnx, onnx.checker; onnx.checker.check_model; detail = ''"),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing examined. `works` is False for what is missing or broken; `detail` says what was found."""

    name: str
    kind: str  # "runtime", "target" or "tool"
    works: bool
    detail: str
    how_to_install: str | None = None  # a command, or None where nothing is to be installed


def examine() -> list[Finding]:
    """Examine this machine; takes a few seconds, changes nothing, loads no native library in this process."""
    with ThreadPoolExecutor(len(TRIALS)) as pool:
        litert, onnxruntime, onnx = pool.map(_try, TRIALS)
    return [
        litert,
        onnxruntime,
        _installed("keras", "runtime", ("tensorflow", "tf-keras")),
        this_machine(cpu_flags(), machine=platform.machine()),
        _installed("quantization", "tool", ("tensorflow-model-optimization",)),
        _installed("tf2onnx", "tool", ("tf2onnx",)),
        onnx,
        *_pins(),
    ]


def _try(name: str) -> Finding:
    """Load a runtime in a child process."""
    kind, distribution, code = TRIALS[name]
    version, install = _version(distribution), _install((distribution,))
    if version is None:
        detail = f"{distribution} is not installed"
        return Finding(name=name, kind=kind, works=False, detail=detail, how_to_install=install)
    works, detail = _run_trial(code)
    if works:
        return Finding(name=name, kind=kind, works=True, detail=f"{distribution} {version}{detail}")
    return Finding(
        name=name,
        kind=kind,
        works=False,
        detail=f"{distribution} {version} is installed, but cannot be loaded: {detail}",
        how_to_install=install.replace("pip install", "pip install --force-reinstall"),
    )


def _run_trial(code: str) -> tuple[bool, str]:
    """Whether `code` runs in a Python of its own, and the `detail` it sets or why it failed."""
    # -P: the current folder must not shadow the package. The marker separates our line from the library's.
    script = f"{code}\nimport json; print('\\nTRIAL' + json.dumps(detail))"
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", script],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=TRIAL_TIMEOUT_S, check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer after {TRIAL_TIMEOUT_S:.0f} s"
    except OSError as error:
        return False, f"no child process could be started ({error.strerror or error})"
    if child.returncode < 0:
        return False, f"it crashed ({_signal_name(-child.returncode)})"
    answers = [line.removeprefix("TRIAL") for line in child.stdout.splitlines() if line.startswith("TRIAL")]
    if child.returncode or not answers:
        said = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        return False, said[-1]
    return True, str(json.loads(answers[-1]))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _installed(name: str, kind: str, distributions: tuple[str, ...]) -> Finding:
    """What the installed packages' metadata say; nothing is imported."""
    versions = {distribution: _version(distribution) for distribution in distributions}
    missing = tuple(distribution for distribution, version in versions.items() if version is None)
    if missing:
        detail = f"{', '.join(missing)} not installed"
        return Finding(name=name, kind=kind, works=False, detail=detail, how_to_install=_install(missing))
    found = ", ".join(f"{distribution} {version}" for distribution, version in versions.items())
    return Finding(name=name, kind=kind, works=True, detail=f"{found} (installed; not loaded to check)")


def this_machine(flags: frozenset[str] | None, *, machine: str) -> Finding:
    """What this CPU means for int8; `flags` is None where the system does not tell them."""
    known = X86_FLAGS if _is_x86(machine) else ARM_FLAGS if _is_arm64(machine) else ()
    if flags is None:
        found, advice = "instructions unknown", _careful_advice(machine)
    else:
        found = " ".join(flag for flag in known if flag in flags) or f"none of {', '.join(known)}"
        advice = _advice(flags, machine) if known else _careful_advice(machine)
    found = f"{machine}, {found}" if known else machine
    return Finding(name="this machine", kind="target", works=True, detail=f"{found}: {advice}")


def _advice(flags: frozenset[str], machine: str) -> str:
    if _is_x86(machine):
        if flags & VNNI_FLAGS:
            return "VNNI: U8S8 and U8U8 ONNX are both right here"
        slow = "" if "avx2" in flags else "; no AVX2: expect int8 to be slow"
        return f"no VNNI: U8S8 ONNX saturates here; U8U8 is right{slow}"
    if flags & {*ARM_FLAGS}:
        return "dot products of 8-bit integers in hardware; every int8 ONNX variant is right here"
    return "no dot products in hardware; every int8 ONNX variant is right here, S8S8 needs the least work"


def _careful_advice(machine: str) -> str:
    careful = "without VNNI, U8S8 ONNX saturates; " if _is_x86(machine) else ""
    return f"{careful}U8U8 ONNX is right everywhere"


def _is_x86(machine: str) -> bool:
    return machine.lower() in ("x86_64", "amd64", "i386", "i686")


def _is_arm64(machine: str) -> bool:
    return machine.lower() in ("aarch64", "arm64")


def _pins() -> list[Finding]:
    """Installed versions against those edgeship asks for; nothing where edgeship itself is not installed."""
    requirements = _requirements()
    if not requirements:
        return []
    try:
        from packaging.markers import UndefinedEnvironmentName
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        detail = "cannot be compared: the package packaging is not installed"
        return [_pin_finding(works=False, detail=detail, install="pip install packaging")]
    wrong, commands = [], []
    for text in requirements:
        try:
            requirement = Requirement(text)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except (InvalidRequirement, UndefinedEnvironmentName):
            wrong.append(f"{text!r} cannot be read")
            continue
        version = _version(requirement.name)
        # A missing package has its own finding, or is only needed by the stages that a device does not run.
        if applies and version is not None and not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} instead of {requirement.specifier}")
            commands.append(f'"{requirement.name}{requirement.specifier}"')
    if wrong:
        install = f"pip install {' '.join(commands)}" if commands else None
        return [_pin_finding(works=False, detail="; ".join(wrong), install=install)]
    return [_pin_finding(works=True, detail="the installed versions are those edgeship was made for")]


def _pin_finding(*, works: bool, detail: str, install: str | None = None) -> Finding:
    return Finding(name="pinned versions", kind="tool", works=works, detail=detail, how_to_install=install)


def _requirements() -> list[str]:
    """What edgeship requires, as its installed metadata say; empty where it is not installed."""
    try:
        return metadata.requires("edgeship") or []
    except metadata.PackageNotFoundError:
        return []


def _install(distributions: tuple[str, ...]) -> str:
    """The command that installs packages in the versions edgeship asks for."""
    pinned = [
        next((text.split(";")[0].strip() for text in _requirements() if _name_of(text) == name), name)
        for name in distributions
    ]
    return "pip install " + " ".join(f'"{text}"' if set(text) & set("<>*!~[") else text for text in pinned)


def _name_of(requirement: str) -> str:
    """The distribution's name at the start of a requirement such as "tf-keras==2.21.*"."""
    end = next((i for i, letter in enumerate(requirement) if not (letter.isalnum() or letter in "-_.")), None)
    return requirement[:end].lower().replace("_", "-")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def render(findings: list[Finding]) -> Table:
    """The findings as a table for the terminal."""
    table = Table(title="edgeship on this machine", title_justify="left")
    for column in ("kind", "name", "works", "found", "to install"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        works = Text("yes", style="green") if finding.works else Text("no", style="bold red")
        # Text, not str: a message in square brackets is not markup.
        table.add_row(
            finding.kind, finding.name, works, Text(finding.detail), Text(finding.how_to_install or "")
        )
    return table
