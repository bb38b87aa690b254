"""Where it is measured: what must be equal for stored times to be comparable, and what slows it down right now.

Two artifacts that take turns within the same seconds meet the same environment, so there it only warns or refuses.
Times of another day say something only where the fingerprints are equal (see stored.py).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeship.core.files import sha256_of_bytes
from edgeship.validate.runner.machine import describe
from edgeship.validate.runner.state import device_state
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.targets.adb_state import THERMAL_STATUS
from edgeship.validate.targets.target import DEVICE, EMULATED, NATIVE, Target

LOOK_SECONDS = 0.5  # between two looks: a hundred ticks on two cores, so steal is told to 1 %

# Judgement, not measured: from these on a time tells more of the machine than of the artifact.
MAX_PRESSURE_PERCENT = 20.0
MAX_STEAL_SHARE = 0.05
MIN_BATTERY_PERCENT = 20  # most phones save power below it
SEVERE = THERMAL_STATUS.index("severe")  # "throttled, performance is affected" (android.os.PowerManager)
# vcgencmd get_throttled: bit n now, bit n + 16 since the start (Raspberry Pi documentation, "get_throttled").
THROTTLED = ("the supply's voltage is too low", "the clock is capped", "the clock is throttled",
             "it is at the soft temperature limit")
SINCE_START = 16


def fingerprint(
    target: Target, *, runtime: str, threads: int, pinned: bool, cpus: Sequence[int] = ()
) -> dict[str, Any]:
    """What times on this target depend on besides the artifact, as plain JSON values; None is what it does not tell.

    `must_match` are the fields of which each decides how fast kernels are; `recorded` are those that only help to
    understand a difference. `cpus` are the processors of which one is drawn for each launch, where `pinned`.

    Raises:
        TargetFailure: the target is gone.
    """
    about = _about(target)
    now = {} if target.kind == EMULATED else _look(target)
    identity = about.get("identity") or {}
    flags = about.get("cpu_flags")
    return {
        "must_match": {
            "kind": target.kind,
            "architecture": about.get("architecture"),
            "board": about.get("model"),
            "cpu_model": about.get("cpu_model"),
            "cpu_stepping": identity.get("cpu_stepping"),
            "microcode": identity.get("microcode"),
            "cpu_flags_sha256": None if flags is None else sha256_of_bytes(" ".join(sorted(flags)).encode()),
            "physical_cores": identity.get("physical_cores"),
            "logical_cores": about.get("logical_cores"),
            "hypervisor": identity.get("hypervisor"),
            "emulator": about.get("emulator"),
            "kernel": _major_minor(identity.get("kernel")),
            "cgroup_cpu_max": identity.get("cgroup_cpu_max"),
            "governor": now.get("governor"),
            "turbo": now.get("turbo"),
            "serial": about.get("serial") or identity.get("board_serial"),
            "android_build": (about.get("android") or {}).get("build"),
            "firmware": identity.get("firmware"),
            **_runtime(runtime, about),
            "threads": threads,
            "pinning": _pinning(cpus) if pinned else "none",
        },
        "recorded": {
            "target": target.name,
            "hostname": identity.get("hostname"),
            "os": about.get("os"),
            "kernel": identity.get("kernel"),
            "python": about.get("python"),
            "versions": about.get("versions"),
            "usable_cores": about.get("usable_cores"),
            "memory_bytes": about.get("memory_bytes"),
        },
        "cpu_model": about.get("cpu_model"),
        "cpu_flags": None if flags is None else sorted(flags),
    }


def differences(baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each field that must match and does not; empty: times of the two are comparable.

    A field that one of them lacks, being of another version of edgeship, is a difference too.
    """
    one, other = baseline["must_match"], candidate["must_match"]
    found = []
    for key in dict.fromkeys([*one, *other]):
        if key in one and key in other and one[key] == other[key]:
            continue
        if key == "cpu_flags_sha256" and baseline.get("cpu_flags") and candidate.get("cpu_flags"):
            found.append(_different_flags(set(baseline["cpu_flags"]), set(candidate["cpu_flags"])))
        else:
            found.append(
                f"{key.replace('_', ' ')}: {_told(one, key)} in the baseline, {_told(other, key)} now"
            )
    return tuple(found)


def state(target: Target, *, since: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What may slow the target down at this moment; None for what it does not tell.

    `steal_share` and `throttled_periods` are of the time since the state `since`, or without one of the half second
    that this call then takes.

    Raises:
        TargetFailure: the target is gone.
    """
    now = _look(target)
    counters = now.get("counters") or {}
    if since is None and any(value is not None for value in counters.values()):
        since = now
        time.sleep(LOOK_SECONDS)
        now = _look(target)
    steal, ticks, periods = (
        _growth(since or {}, now, key) for key in ("steal_ticks", "cpu_ticks", "throttled_periods")
    )
    return {
        **now,
        "logical_cores": _about(target).get("logical_cores"),
        "steal_share": steal / ticks if steal is not None and ticks else None,
        "throttled_periods": periods,
    }


def refusals(now: Mapping[str, Any], *, since: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Why no time that is measured in this state means anything, as sentences; empty: go on.

    With the state before the measurement as `since`, also what happened in between and has passed.
    """
    return (*_heat(now, since), *_battery(now))


def warnings(now: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes times vary more than they need, as sentences."""
    return tuple(_warnings(now))


def _about(target: Target) -> dict[str, Any]:
    """This machine tells of itself as boards do; an emulator tells of the processor that it emulates."""
    return {**(describe() if target.kind == NATIVE else {}), **(target.describe() or {})}


def _look(target: Target) -> dict[str, Any]:
    """The emulator runs here, so this machine's state is its state."""
    return (target.state() or {}) if target.kind == DEVICE else device_state()


def _runtime(runtime: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """A package has a version and the hashes of its libraries, a maker's tool the hash of its file."""
    versions = about.get("versions") or {}
    hashes = (about.get("identity") or {}).get("libraries_sha256") or {}
    package = next((name for name in RUNTIMES[runtime].packages if versions.get(name)), None)
    return {
        "runtime": runtime,
        "runtime_version": None if package is None else f"{package} {versions[package]}",
        "runtime_sha256": about.get(f"{runtime} sha256") if package is None else hashes.get(package),
        "delegate": RUNTIMES[runtime].kernels,
    }


def _pinning(cpus: Sequence[int]) -> str:
    return "one core" + (f" of {', '.join(map(str, sorted(cpus)))}" if cpus else "")


def _major_minor(release: str | None) -> str | None:
    """"6.18.44-fc-v669" -> "6.18"."""
    match = re.match(r"\d+\.\d+", release or "")
    return match.group() if match else release


def _different_flags(baseline: set[str], candidate: set[str]) -> str:
    sides = {"the baseline's": baseline - candidate, "this": candidate - baseline}
    only = [f"only {side} processor has {', '.join(sorted(flags))}" for side, flags in sides.items() if flags]
    return f"cpu flags: {'; '.join(only) or 'not those that their hash says'}"


def _told(fields: Mapping[str, Any], key: str) -> str:
    if key not in fields:
        return "not recorded"
    return "not told" if fields[key] is None else str(fields[key])


def _growth(before: Mapping[str, Any], now: Mapping[str, Any], key: str) -> int | None:
    """How far a counter went; None where one of the two looks lacks it, or it started anew."""
    one, other = ((look.get("counters") or {}).get(key) for look in (before, now))
    return None if one is None or other is None or other < one else int(other - one)


def _heat(now: Mapping[str, Any], since: Mapping[str, Any] | None) -> Iterator[str]:
    bits = _bits(now)
    for bit, meaning in enumerate(THROTTLED):
        if bits >> bit & 1:
            yield (
                f"it is throttled now: {meaning} (get_throttled {now['throttled']}); let it cool down, or give it a "
                "stronger supply"
            )
        elif since is not None and (bits & ~_bits(since)) >> (SINCE_START + bit) & 1:
            yield f"it was throttled in the meantime: {meaning} (get_throttled {now['throttled']}); measure again"
    status = now.get("thermal_status")
    if status in THERMAL_STATUS[SEVERE:]:
        yield f"Android's thermal status is {status}: it is throttled now; let it cool down"


def _battery(now: Mapping[str, Any]) -> Iterator[str]:
    percent = now.get("battery_percent")
    if percent is not None and percent < MIN_BATTERY_PERCENT and now.get("plugged") == []:
        yield f"its battery is at {percent} % and not being charged; plug it in (at least {MIN_BATTERY_PERCENT} %)"


def _warnings(now: Mapping[str, Any]) -> Iterator[str]:
    pressure, load, cores = (now.get(key) for key in ("cpu_pressure_percent", "load_average_1min", "logical_cores"))
    if pressure is not None and pressure > MAX_PRESSURE_PERCENT:
        yield f"others compete for its processors: in {pressure:.0f} % of the last 10 s a process waited for one"
    elif load is not None and cores is not None and load > cores:
        yield f"its load average is {load:.1f} on {cores} cores: others run too"
    if now.get("governor") == "powersave":
        yield "its governor is powersave, so the clock follows the load; `performance` is steadier"
    if (steal := now.get("steal_share")) is not None and steal > MAX_STEAL_SHARE:
        yield f"its hypervisor took {steal:.0%} of the processors' time away"
    if periods := now.get("throttled_periods"):
        yield f"its control group was stopped {periods} times for having used up its processor quota"
    percent = now.get("battery_percent")
    if percent is not None and percent < MIN_BATTERY_PERCENT and now.get("plugged") is None:
        yield f"its battery is at {percent} %, and it does not tell whether it is being charged"


def _bits(now: Mapping[str, Any]) -> int:
    """The Raspberry Pi's word, "0x50005"; 0 where there is none."""
    word = now.get("throttled")
    return int(word, 16) if word is not None and re.fullmatch(r"0x[0-9a-fA-F]{1,16}", str(word)) else 0
