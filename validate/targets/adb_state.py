"""What adb and Android's own tools print, read into plain values: pure functions of text.

Formats: `adb devices -l`, `getprop`, `dumpsys battery` (BatteryService), `dumpsys thermalservice`
(ThermalManagerService). All of them are for people and differ between versions, so what is not found is None.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# android.os.Temperature: what `Thermal Status` and `mType` mean.
THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
CPU_TEMPERATURE = 0
CURRENT_TEMPERATURES = "Current temperatures from HAL:"  # those above it are remembered, of any age
PLUGS = ("AC", "USB", "Wireless", "Dock")
# What `adb devices` says of a device that is not ready -> what to do.
ADVICE = {
    "unauthorized": "unlock it and accept this computer's key (\"Allow USB debugging?\"); if nothing is asked, "
                    "take the cable out and in again",
    "authorizing": "unlock it and accept this computer's key (\"Allow USB debugging?\")",
    "offline": "take the cable out and in again, or `adb disconnect` and `adb connect` it",
    "no permissions": "this user may not open the USB device: install your system's udev rules for Android devices "
                      "(package android-sdk-platform-tools-common on Debian and Ubuntu), then `adb kill-server`",
}
PROPERTIES = {
    "manufacturer": "ro.product.manufacturer",
    "model": "ro.product.model",
    "abi": "ro.product.cpu.abi",
    "soc": "ro.soc.model",
    "android": "ro.build.version.release",
    "build": "ro.build.fingerprint",
}


@dataclass(frozen=True)
class Attached:
    """One line of `adb devices -l`."""

    serial: str
    state: str  # "device", "offline", "unauthorized", "no permissions", "recovery" ...
    details: str

    def __str__(self) -> str:
        return f"{self.serial} ({self.state})"


@dataclass(frozen=True, kw_only=True)
class Battery:
    """`dumpsys battery`."""

    level_percent: int | None
    temperature_c: float | None
    plugged: tuple[str, ...] | None  # empty: it runs on the battery


@dataclass(frozen=True, kw_only=True)
class Thermal:
    """`dumpsys thermalservice`, Android 10 and newer."""

    status: str | None  # one of THERMAL_STATUS
    cpu_temperature_c: float | None


def parse_devices(text: str) -> tuple[Attached, ...]:
    """The devices of `adb devices -l`, whatever their state.

    Raises:
        ValueError: this is not such a list.
    """
    head, found, rest = text.partition("List of devices attached")
    if not found:
        raise ValueError(f"expected a list of devices, found {_first_line(head)!r}")
    devices = []
    for line in rest.splitlines():
        match = re.match(r"(\S+)\s+(no permissions|\S+)\s*(.*)", line.strip())
        if match and not line.startswith("*"):  # "* daemon started successfully"
            devices.append(Attached(*match.groups()))
    return tuple(devices)


def choose(devices: Sequence[Attached], serial: str | None) -> Attached:
    """The device of this serial, or the only one.

    Raises:
        ValueError: there is none, or more than one, or it is not ready; the message says what to do.
    """
    listed = ", ".join(map(str, devices)) or "none"
    wanted = [device for device in devices if serial in (None, device.serial)]
    if not devices:
        raise ValueError(
            "expected a device, found none; connect one and switch on USB debugging there (developer options), or "
            "`adb connect HOST:PORT`"
        )
    if not wanted:
        raise ValueError(f"expected the device {serial}, found {listed}; `adb devices` has the serials")
    if len(wanted) > 1:
        # The adb server lists a daemon on port 5555 of this machine a second time, as emulator-5554.
        raise ValueError(f"expected one device, found {listed}; choose one with adb:SERIAL")
    if wanted[0].state != "device":
        advice = ADVICE.get(wanted[0].state, "start Android on it, and wait until `adb devices` says `device`")
        raise ValueError(f"{wanted[0].serial} is {wanted[0].state}; {advice}")
    return wanted[0]


def parse_properties(text: str) -> dict[str, str]:
    """`getprop` without arguments, lines like `[ro.product.model]: [Pixel 8]`: those of PROPERTIES, by our names."""
    known = dict(re.findall(r"^\[([^\]]+)\]: \[(.*)\]\s*$", text, flags=re.MULTILINE))
    return {name: known[key] for name, key in PROPERTIES.items() if known.get(key)}


def parse_battery(text: str) -> Battery:
    """`dumpsys battery`; the temperature is in tenths of a degree there."""
    level, scale, temperature = (_number(key, text) for key in ("level", "scale", "temperature"))
    plugs = {plug: _word(f"{plug} powered", text) for plug in PLUGS}
    return Battery(
        level_percent=None if level is None or not scale else round(100 * level / scale),
        temperature_c=None if temperature is None else temperature / 10,
        plugged=None if not any(plugs.values()) else tuple(plug for plug, word in plugs.items() if word == "true"),
    )


def parse_thermal(text: str) -> Thermal:
    """`dumpsys thermalservice`: the status, and the hottest processor sensor of those read now."""
    status = _number("Thermal Status", text)
    now = text.partition(CURRENT_TEMPERATURES)[2].partition("HAL:")[0]  # up to "Current cooling devices from HAL:"
    temperatures = [
        float(value)
        for value, kind in re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=(-?\d+),", now)
        if int(kind) == CPU_TEMPERATURE
    ]
    return Thermal(
        status=None if status is None or not 0 <= status < len(THERMAL_STATUS) else THERMAL_STATUS[int(status)],
        cpu_temperature_c=max(temperatures, default=None),
    )


def _number(key: str, text: str) -> float | None:
    word = _word(key, text)
    return None if word is None or not re.fullmatch(r"-?\d+(\.\d+)?", word) else float(word)


def _word(key: str, text: str) -> str | None:
    match = re.search(rf"^\s*{re.escape(key)}:\s*(\S+)\s*$", text, flags=re.MULTILINE)
    return None if match is None else match.group(1)


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")[:80]
