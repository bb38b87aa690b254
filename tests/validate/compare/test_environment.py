"""What must be equal, what is told of the state, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from edgeship.core.cpu import processor_identity
from edgeship.validate.compare.environment import differences, fingerprint, refusals, state, warnings
from edgeship.validate.targets.adb_state import parse_battery, parse_properties, parse_thermal
from edgeship.validate.targets.arm64 import Arm64Target
from edgeship.validate.targets.ssh import SshTarget
from edgeship.validate.targets.target import DEVICE, Target
from tests.support.ssh_board import missing_part, running_board

RECORDED = Path(__file__).parent.parent / "recorded"


class Scripted(Target):
    """A device that tells one state after the other, the last one for ever."""

    kind = DEVICE

    def __init__(self, states: Sequence[Mapping[str, Any]], about: Mapping[str, Any] | None = None) -> None:
        super().__init__("scripted")
        self.states, self.about = list(states), dict(about or {})

    def describe(self) -> dict[str, Any]:
        return self.about

    def state(self) -> dict[str, Any]:
        return dict(self.states.pop(0) if len(self.states) > 1 else self.states[0])


def here(**changes: Any) -> dict[str, Any]:
    return fingerprint(Target(), **{"runtime": "litert", "threads": 1, "pinned": True, "cpus": (0,), **changes})


def phone(*, battery: str | None = None, thermal: str | None = None) -> dict[str, Any]:
    """The state that adb.py makes of what Android prints."""
    charge = parse_battery(battery or (RECORDED / "dumpsys_battery.txt").read_text())
    heat = parse_thermal(thermal or (RECORDED / "dumpsys_thermalservice.txt").read_text())
    return {
        "battery_percent": charge.level_percent, "thermal_status": heat.status,
        "plugged": None if charge.plugged is None else list(charge.plugged),
    }


def test_the_fingerprint_of_this_machine_matches_itself_and_survives_json() -> None:
    one = here()
    assert differences(json.loads(json.dumps(one)), here()) == ()
    fields = one["must_match"]
    assert fields["runtime_version"] == f"ai-edge-litert {metadata.version('ai-edge-litert')}"
    assert fields["cpu_flags_sha256"] == processor_identity()["cpu_flags_sha256"]
    assert fields["pinning"] == "one core of 0" and len(fields["runtime_sha256"]) == 64
    assert one["recorded"]["kernel"].startswith(fields["kernel"] + ".") and one["recorded"]["hostname"]


@pytest.mark.parametrize(("changes", "fields"), [
    ({"threads": 2}, ["threads: 1 in the baseline, 2 now"]),
    ({"pinned": False}, ["pinning: one core of 0 in the baseline, none now"]),
    ({"cpus": (1, 0)}, ["pinning: one core of 0 in the baseline, one core of 0, 1 now"]),
    ({"runtime": "litert-reference"}, [
        "runtime: litert in the baseline, litert-reference now",
        "delegate: default (XNNPACK) in the baseline, none, reference kernels now",
    ]),
])
def test_what_the_run_changes_is_named(changes: dict[str, Any], fields: list[str]) -> None:
    assert list(differences(here(), here(**changes))) == fields


def test_another_version_of_the_runtime_is_a_difference_in_its_hash_too() -> None:
    found = differences(here(runtime="onnxruntime"), here())
    version = metadata.version("onnxruntime")
    assert any(f"runtime version: onnxruntime {version} in the baseline, ai-edge-litert " in item for item in found)
    assert any(item.startswith("runtime sha256: ") for item in found)


def test_processors_are_told_apart_by_the_names_of_their_flags() -> None:
    one, other = (
        fingerprint(Scripted([{}], {"cpu_flags": flags.split()}), runtime="litert", threads=1, pinned=False)
        for flags in ("asimd fp", "fp asimd asimddp")
    )
    assert differences(one, other) == ("cpu flags: only this processor has asimddp",)
    assert differences(other, one) == ("cpu flags: only the baseline's processor has asimddp",)


def test_a_field_of_another_version_of_edgeship_is_a_difference_and_none_equals_none() -> None:
    one = {"must_match": {"turbo": None, "old": None}}
    other = {"must_match": {"turbo": None, "governor": "ondemand"}}
    assert differences(one, other) == (
        "old: not told in the baseline, not recorded now", "governor: not recorded in the baseline, ondemand now",
    )


@pytest.mark.skipif(missing_part() is not None, reason=missing_part() or "")
def test_a_board_behind_ssh_tells_what_it_tells_itself(tmp_path: Path) -> None:
    with running_board(tmp_path / "sshd") as board, SshTarget(
        board.url, ssh=board.ssh_command.split(), python=sys.executable, folder=str(tmp_path)
    ) as target:
        there = fingerprint(target, runtime="litert", threads=1, pinned=True, cpus=(0,))
        now = state(target)
    assert differences(here(), there) == ("kind: native in the baseline, device now",)
    local = state(Target())
    assert set(now) == set(local)
    assert (now["cpu_pressure_percent"] is None) == (local["cpu_pressure_percent"] is None)
    assert now["logical_cores"] == local["logical_cores"]


def test_an_emulated_processor_is_not_this_machine() -> None:
    one, other = (
        fingerprint(Arm64Target(name), runtime="litert", threads=1, pinned=False)
        for name in ("arm64:cortex-a76", "arm64:cortex-a53")
    )
    assert one["must_match"]["architecture"] == "aarch64" and one["must_match"]["kernel"] is None
    found = " | ".join(differences(one, other))
    assert "only the baseline's processor has asimddp" in found
    assert "emulator: qemu-aarch64 -cpu cortex-a76 in the baseline, qemu-aarch64 -cpu cortex-a53 now" in found


def test_a_phone_is_known_by_its_serial_its_build_and_its_tool() -> None:
    about = {
        "serial": "28291FDH2000AB", "architecture": "aarch64", "python": None,
        "android": parse_properties((RECORDED / "getprop.txt").read_text()), "benchmark-model sha256": "ab" * 32,
    }
    fields = fingerprint(
        Scripted([phone()], about), runtime="benchmark-model", threads=4, pinned=False
    )["must_match"]
    assert fields["serial"] == "28291FDH2000AB" and fields["runtime_sha256"] == "ab" * 32
    assert fields["android_build"] == about["android"]["build"] and fields["cpu_model"] is None


@pytest.mark.parametrize(("word", "reasons"), [
    ("0x0", []), ("0x50000", []), (None, []), ("error=1", []),
    ("0x1", ["the supply's voltage is too low"]),
    ("0x50005", ["the supply's voltage is too low", "the clock is throttled"]),
    ("0x8", ["soft temperature limit"]),
])
def test_a_raspberry_pi_that_is_throttled_now_is_refused(word: str | None, reasons: list[str]) -> None:
    found = refusals({"throttled": word})
    assert len(found) == len(reasons)
    assert all(reason in sentence and str(word) in sentence for reason, sentence in zip(reasons, found, strict=True))


def test_throttling_that_came_and_went_is_seen_afterwards() -> None:
    before = {"throttled": "0x10000"}
    assert refusals({"throttled": "0x10000"}, since=before) == ()
    (sentence,) = refusals({"throttled": "0x50000"}, since=before)
    assert "was throttled in the meantime: the clock is throttled" in sentence
    assert len(refusals({"throttled": "0x40004"}, since=before)) == 1  # now, which says enough


@pytest.mark.parametrize(("status", "refused"), [(0, False), (2, False), (3, True), (6, True)])
def test_a_phone_is_refused_from_severe_heat_on(status: int, refused: bool) -> None:
    recorded = (RECORDED / "dumpsys_thermalservice.txt").read_text()
    text = "\n".join(
        f"Thermal Status: {status}" if line.startswith("Thermal Status") else line for line in recorded.splitlines()
    )
    assert bool(refusals(phone(thermal=text))) == refused


@pytest.mark.parametrize(("level", "plugged", "refused"), [(71, True, False), (19, True, False), (19, False, True),
                                                           (20, False, False)])
def test_a_phone_is_refused_on_an_empty_battery(level: int, plugged: bool, refused: bool) -> None:
    text = (RECORDED / "dumpsys_battery.txt").read_text().replace("level: 71", f"level: {level}")
    text = text.replace("USB powered: true", f"USB powered: {str(plugged).lower()}")
    found = refusals(phone(battery=text))
    assert bool(found) == refused and all("19 %" in sentence for sentence in found)


@pytest.mark.parametrize(("told", "words"), [
    ({"cpu_pressure_percent": 20.0, "load_average_1min": 2.0, "logical_cores": 2, "steal_share": 0.05,
      "governor": "performance", "throttled_periods": 0, "battery_percent": 19, "plugged": ["AC"]}, []),
    ({"cpu_pressure_percent": 43.0, "load_average_1min": 9.0, "logical_cores": 2}, ["in 43 % of the last 10 s"]),
    ({"load_average_1min": 2.5, "logical_cores": 2}, ["load average is 2.5 on 2 cores"]),
    ({"governor": "powersave"}, ["powersave"]),
    ({"steal_share": 0.12}, ["took 12%"]),
    ({"throttled_periods": 7}, ["stopped 7 times"]),
    ({"battery_percent": 5, "plugged": None}, ["does not tell whether"]),
    ({}, []),
])
def test_warnings(told: dict[str, Any], words: list[str]) -> None:
    found = warnings(told)
    assert len(found) == len(words) and all(word in text for word, text in zip(words, found, strict=True))


def test_counters_become_shares_between_two_looks() -> None:
    def look(ticks: int, steal: int, periods: int) -> dict[str, Any]:
        return {"counters": {"cpu_ticks": ticks, "steal_ticks": steal, "throttled_periods": periods}}

    now = state(Scripted([look(1000, 50, 3), look(1200, 60, 3)]))
    assert now["steal_share"] == 10 / 200 and now["throttled_periods"] == 0
    later = state(Scripted([look(2200, 70, 9)]), since=now)
    assert later["steal_share"] == 10 / 1000 and later["throttled_periods"] == 6
    anew = state(Scripted([look(10, 0, 0)]), since=later)  # it was started again
    assert anew["steal_share"] is None and anew["throttled_periods"] is None


def test_this_machine_tells_its_state_since_an_earlier_one() -> None:
    first = state(Target())
    second = state(Target(), since=first)
    assert second["counters"]["cpu_ticks"] >= first["counters"]["cpu_ticks"] and second["logical_cores"] >= 1
    assert second["steal_share"] is None or 0 <= second["steal_share"] <= 1
    assert json.loads(json.dumps(second)) == second
