"""What slows this machine down right now: heat, clock, throttling, battery, load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import system

POWER_SUPPLIES = Path("/sys/class/power_supply")
STEAL = 7  # the place of steal in /proc/stat's first line, after "cpu"


def device_state() -> dict[str, Any]:
    """What may have slowed this machine down at this moment; None for what it does not tell.

    `throttled` is the Raspberry Pi's own word (vcgencmd get_throttled: bits 0-3 now, 16-19 since the start).
    `cpu_pressure_percent` is the share of the last 10 s in which some process waited for a processor. `counters` only
    count up (`steal_ticks` were taken by the hypervisor, in `throttled_periods` a control group had used up its
    quota): two looks tell what happened between them.
    """
    zones = system.texts("/sys/class/thermal", "thermal_zone*/temp")
    temperatures = [int(text) / 1000 for text in zones if text.lstrip("-").isdigit()]
    clocks = [int(text) / 1000 for text in system.texts("/sys/devices/system/cpu", "cpu*/cpufreq/scaling_cur_freq")]
    limits = [int(text) / 1000 for text in system.texts("/sys/devices/system/cpu", "cpu*/cpufreq/cpuinfo_max_freq")]
    governors = system.texts("/sys/devices/system/cpu", "cpu*/cpufreq/scaling_governor")
    ticks = _cpu_ticks()
    return {
        "temperature_c": max(temperatures, default=None),
        "clock_mhz": max(clocks, default=None),
        "max_clock_mhz": max(limits, default=None),
        "governor": governors[0] if governors else None,
        "turbo": _turbo(),
        "throttled": _raspberry_throttled(),
        "battery_percent": _battery_percent(),
        "plugged": _plugged(),
        "load_average_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cpu_pressure_percent": _pressure_percent(),
        "counters": {
            "cpu_ticks": None if ticks is None else sum(ticks),
            "steal_ticks": None if ticks is None else ticks[STEAL],
            "throttled_periods": _throttled_periods(),
        },
    }


def _turbo() -> bool | None:
    """Whether the clock may rise above the nominal one; of Intel's driver, or of the others."""
    off = system.text("/sys/devices/system/cpu/intel_pstate/no_turbo")
    on = system.text("/sys/devices/system/cpu/cpufreq/boost")
    if off:
        return off.strip() == "0"
    return on.strip() == "1" if on else None


def _battery_percent() -> int | None:
    """The charge of the machine's own battery: mice and pens have some of the scope "Device"."""
    own = [path for path in sorted(POWER_SUPPLIES.glob("*/capacity"))
           if system.text(str(path.parent / "scope")).strip() != "Device"]
    percent = system.text(str(own[0])).strip() if own else ""
    return int(percent) if percent.isdigit() else None


def _plugged() -> list[str] | None:
    """The supplies that give power, by name; empty: it runs on the battery. None: it has no supply that tells."""
    online = {path.parent.name: system.text(str(path)).strip() for path in POWER_SUPPLIES.glob("*/online")}
    return [name for name, word in sorted(online.items()) if word != "0"] if online else None


def _pressure_percent() -> float | None:
    """The first average of a line like `some avg10=0.72 avg60=3.14 avg300=5.55 total=1664433953`."""
    words = system.text("/proc/pressure/cpu").split()
    return float(words[1].partition("=")[2]) if words[:1] == ["some"] else None


def _cpu_ticks() -> list[int] | None:
    """What all processors did so far: user, nice, system, idle, iowait, irq, softirq, steal (proc(5), /proc/stat)."""
    words = system.text("/proc/stat").split("\n", 1)[0].split()
    return [int(word) for word in words[1 : STEAL + 2]] if len(words) > STEAL + 1 else None


def _throttled_periods() -> int | None:
    """How often the control groups of this process were stopped for having used up their quota, in all."""
    lines = [line.split() for folder in system.cgroups() for line in system.text(f"{folder}/cpu.stat").splitlines()]
    counts = [int(words[1]) for words in lines if words[0] == "nr_throttled"]
    return sum(counts) if counts else None


def _raspberry_throttled() -> str | None:
    said = system.vcgencmd("get_throttled")
    return None if said is None else said.partition("=")[2] or None
