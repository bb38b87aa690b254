"""`edgeship doctor`: which runtimes, targets and tools work on this machine, and what to install for others.

What is on this machine is tried, in child processes: the runtimes by an inference of a tiny model each. TensorFlow is
looked up, not loaded: loading takes seconds, and the Keras reference is optional.

    devices.py    ssh, adb, the runtimes whose programs are for phones
    arm64.py      the emulated Arm processors
    x86.py        the emulated x86 processors
    browser.py    the browser and the web runtimes
    trials.py     the tiny model, and how trials run at the same time without hanging
    findings.py   one finding, and the table of them
"""

from __future__ import annotations

import functools
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

from edgeship.app.doctor.arm64 import examine_arm64
from edgeship.app.doctor.browser import examine_browser
from edgeship.app.doctor.devices import examine_adb, examine_ssh, tools_for_phones
from edgeship.app.doctor.findings import Finding, render
from edgeship.app.doctor.trials import BUSY, DEADLINE_SECONDS, TRIAL_SECONDS, at_once, infer
from edgeship.app.doctor.x86 import examine_x86
from edgeship.core.cpu import cpu_flags
from edgeship.core.errors import RuntimeFailure
from edgeship.core.progress import say
from edgeship.core.signals import signal_name
from edgeship.core.variants import ARM64, FIXED_KERNELS, PORTABLE, PROCESSORS, X86, has_fixed_kernels, processor_of
from edgeship.validate.runner.machine import version_of
from edgeship.validate.runner.table import DEVICE_RUNTIMES, RUNTIMES
from edgeship.validate.targets.target import Target

__all__ = ["Finding", "examine", "render", "this_machine"]

# Instructions that decide whether int8 arithmetic is exact and fast, as /proc/cpuinfo spells them.
X86_FLAGS = ("avx2", *PROCESSORS["x86-vnni"].flags, "amx_int8")
ARM_FLAGS = PROCESSORS["arm64-dot"].flags
KINDS = ("runtime", "target", "tool")  # in the order in which they are shown

# Loads the native library; `detail` is what to say beside the version.
ONNX_TRIAL = "import onnx, onnx.checker; onnx.checker.check_model; detail = ''"
USED_EXTRAS = ("", "train")  # parts that run here; "test" and "benchmarks" are for developers


def examine() -> list[Finding]:
    """Examine this machine; takes less than a minute, changes nothing, loads no native library in this process."""
    say("doctor: trying the runtimes and targets; half a minute where an emulated processor and a browser are set up")
    jobs = _jobs()
    results = at_once([job for _, _, job in jobs], seconds=DEADLINE_SECONDS)
    findings = []
    for (kind, name, _), result in zip(jobs, results, strict=True):
        if isinstance(result, TimeoutError):
            result = [Finding(name=name, kind=kind, works=False, detail=str(result))]
        elif isinstance(result, Exception):
            detail = f"could not be examined ({type(result).__name__}: {result})"
            result = [Finding(name=name, kind=kind, works=False, detail=detail)]
        findings += result
    return sorted(findings, key=lambda finding: KINDS.index(finding.kind))


def _jobs() -> list[tuple[str, str, Callable[[], list[Finding]]]]:
    """What is examined at the same time: the kind and name that a failure is told under, and the examination."""
    return [
        *(("runtime", name, functools.partial(_local_runtime, name)) for name in DEVICE_RUNTIMES),
        ("runtime", "keras", lambda: [_installed("keras", "runtime", ("tensorflow", "tf-keras"))]),
        ("target", "cpu", lambda: [this_machine(cpu_flags(), machine=platform.machine())]),
        ("target", "browser", examine_browser),
        ("runtime", "benchmark-model", tools_for_phones),
        ("target", "arm64", examine_arm64),
        ("target", "x86", examine_x86),
        ("target", "ssh", examine_ssh),
        ("target", "adb", examine_adb),
        ("tool", "quantization", lambda: [_installed("quantization", "tool", ("tensorflow-model-optimization",))]),
        ("tool", "tf2onnx", lambda: [_installed("tf2onnx", "tool", ("tf2onnx",))]),
        ("tool", "onnx", _onnx),
        ("tool", "pinned versions", _pins),
    ]


def _local_runtime(name: str) -> list[Finding]:
    """A runtime on this machine, by an inference."""
    runtime = RUNTIMES[name]

    def trial() -> str:
        infer(Target(), name)
        return runtime.remark

    return [_tried(name, "runtime", runtime.packages[0], trial)]


def _onnx() -> list[Finding]:
    return [_tried("onnx", "tool", "onnx", functools.partial(_run_trial, ONNX_TRIAL))]


def _tried(name: str, kind: str, distribution: str, trial: Callable[[], str]) -> Finding:
    """A distribution that is installed and passes its trial, which says what to say beside the version."""
    version, install = version_of(distribution), _install((distribution,))
    if version is None:
        detail = f"{distribution} is not installed"
        return Finding(name=name, kind=kind, works=False, detail=detail, how_to_install=install)
    try:
        return Finding(name=name, kind=kind, works=True, detail=f"{distribution} {version}{trial()}")
    except RuntimeFailure as error:
        reinstall = install.replace("pip install", "pip install --force-reinstall")
        return Finding(
            name=name, kind=kind, works=False,
            detail=f"{distribution} {version} is installed, but does not work: {error}",
            how_to_install=None if str(error).endswith(BUSY) else reinstall,
        )


def _run_trial(code: str) -> str:
    """Run `code` in a Python of its own; the `detail` it sets. Raises RuntimeFailure."""
    # -P: the current folder must not shadow the package. The marker separates our line from the library's.
    script = f"{code}\nimport json; print('\\nTRIAL' + json.dumps(detail))"
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", script],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=TRIAL_SECONDS, check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeFailure(f"no answer after {TRIAL_SECONDS:g} s; {BUSY}") from error
    except OSError as error:
        raise RuntimeFailure(f"no child process could be started ({error.strerror or error})") from error
    if child.returncode < 0:
        raise RuntimeFailure(f"it crashed ({signal_name(-child.returncode)})")
    answers = [line.removeprefix("TRIAL") for line in child.stdout.splitlines() if line.startswith("TRIAL")]
    if child.returncode or not answers:
        said = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        raise RuntimeFailure(said[-1])
    return str(json.loads(answers[-1]))


def _installed(name: str, kind: str, distributions: tuple[str, ...]) -> Finding:
    """What the installed packages' metadata say; nothing is imported."""
    versions = {distribution: version_of(distribution) for distribution in distributions}
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
    return Finding(name="cpu", kind="target", works=True, detail=f"{found}: {advice}")


def _advice(flags: frozenset[str], machine: str) -> str:
    """What the table of variants says of this class of processor, and of this ONNX Runtime."""
    name = processor_of(machine, flags)
    if name is None:
        return _careful_advice(machine)
    found = PROCESSORS[name]
    exact = " and ".join(variant.upper() for variant in found.variants)
    said = f"{found.words}: of the int8 ONNX files {exact} are right here" if len(found.variants) > 1 else (
        f"{found.words}: of the int8 ONNX files only {exact} is right here"
    )
    said += f", {found.variants[0].upper()} is the fastest ({found.reason})"
    version = version_of("onnxruntime")
    if name == "x86-vnni" and not has_fixed_kernels({"onnxruntime": version}):
        fixed = ".".join(map(str, FIXED_KERNELS))
        said += f"; ONNX Runtime {version} has wrong int8 kernels for AMX and VNNI: use {fixed} or newer"
    return said + ("; no AVX2: expect int8 to be slow" if _is_x86(machine) and "avx2" not in flags else "")


def _careful_advice(machine: str) -> str:
    careful = "without VNNI, U8S8 ONNX saturates; " if _is_x86(machine) else ""
    return f"{careful}{PORTABLE.upper()} ONNX is right everywhere"


def _is_x86(machine: str) -> bool:
    return machine.lower() in X86


def _is_arm64(machine: str) -> bool:
    return machine.lower() in ARM64


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
            applies = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in USED_EXTRAS
            )
        except (InvalidRequirement, UndefinedEnvironmentName):
            wrong.append(f"{text!r} cannot be read")
            continue
        version = version_of(requirement.name)
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
