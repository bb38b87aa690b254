"""A phone or a board behind the user's own `adb`, always named by its serial.

With a Python there (a board, an emulator image, a rooted phone) the runner runs on it, held by a keeper. A stock
phone has none that `adb shell` can start; there the tools of the runtimes' own makers run instead, for which the
user gives the binaries. Either way everything of ours lies in one folder, which is gone afterwards.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeship.core.errors import ConfigError, TargetFailure
from edgeship.core.files import sha256_of_file
from edgeship.validate.runner.pack import FILE, packed_runner
from edgeship.validate.runner.table import DEVICE_RUNTIMES, RUNTIMES
from edgeship.validate.targets.adb_link import Adb
from edgeship.validate.targets.adb_state import choose, parse_battery, parse_devices, parse_properties, parse_thermal
from edgeship.validate.targets.keeper import Keeper, KeeperEnded
from edgeship.validate.targets.target import DEVICE, NO_SPACE, Target, quoted

ANSWER_SECONDS = 60.0  # for a device's slow start of Python with numpy
CLOSE_SECONDS = 15.0
BENCHMARK_MODEL, PERF_TEST = "benchmark-model", "onnxruntime-perf-test"
ON_DEVICE = "device:"  # how a binary that is on the device already is named
COMMAND_NOT_FOUND = 127


class AdbTarget(Target):
    """`adb` (the only device there is) or `adb:SERIAL`.

    Args:
        name: the target's name.
        adb: the user's adb command.
        device_python: the Python there that has numpy and the runtimes' packages; may have arguments.
        device_folder: where our folder is made there.
        benchmark_model: TensorFlow Lite's benchmark_model for the device's processor: a file here, or
            "device:/path" for one that is there.
        perf_test: onnxruntime_perf_test, in the same way.
    """

    kind = DEVICE

    def __init__(
        self,
        name: str = "adb",
        *,
        adb: str = "adb",
        device_python: str = "python3",
        device_folder: str = "/data/local/tmp",
        benchmark_model: str | None = None,
        perf_test: str | None = None,
    ) -> None:
        super().__init__(name)
        self._serial = parse_name(name)
        self._adb = Adb(adb, self._serial or "", name)
        self._python, self._parent = shlex.join(shlex.split(device_python)), device_folder
        given = {BENCHMARK_MODEL: benchmark_model, PERF_TEST: perf_test}
        self._tools = {runtime: path for runtime, path in given.items() if path is not None}
        self._binaries: dict[str, str] = {}  # runtime -> its tool's path there
        self._sent: dict[tuple[Path, int, int], str] = {}
        self._files = 0
        self._keeper: Keeper | None = None
        self._folder = ""
        self._about: dict[str, Any] = {}
        self._no_python: TargetFailure | None = None
        self.runtimes = (*DEVICE_RUNTIMES, *self._tools)  # until we know better: their rows get the error

    @property
    def processes(self) -> int:
        """One: the device's cores are the runtime's."""
        return 1

    def __enter__(self) -> AdbTarget:
        self._connect()
        try:
            self._make_folder()
            try:
                self._start_keeper()
            except TargetFailure as error:
                if not self._tools or not self._adb.is_there():
                    raise
                self._no_python = error
                self.runtimes = tuple(self._tools)
            for runtime, path in self._tools.items():
                self._binaries[runtime] = self._install(path)
            self._about |= self._describe_android()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """The folder there goes."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.close()
        if self._folder:
            # Also after a keeper, since a push makes the folder anew that a keeper took with it when it died.
            with contextlib.suppress(TargetFailure):  # a cut link may be the reason why we are closing
                self._adb.shell(f"rm -rf {shlex.quote(self._folder)}", timeout_seconds=CLOSE_SECONDS)
        self._folder = ""

    def command(self, runtime: str) -> Sequence[str]:
        """The runner under its supervisor, or here the bridge to a tool there."""
        bridge = RUNTIMES[runtime].bridge
        if runtime in self._binaries and bridge is not None:
            return (
                sys.executable, "-P", "-m", bridge, "--adb", self._adb.binary, "--serial", self._adb.serial,
                "--name", self.name, "--binary", self._binaries[runtime], "--folder", self._folder,
            )
        if self._no_python is not None:
            raise self._no_python
        return self._adb.shell_command(f"exec {self._python} {shlex.quote(f'{self._folder}/{FILE}')} supervise")

    def put(self, local: Path) -> str:
        """Copy a file into our folder there and check it; once, as long as it is unchanged here."""
        status = local.stat()
        key = local, status.st_size, status.st_mtime_ns
        if key not in self._sent:
            self._sent[key] = self._send(local, self.new_path(local.name))
        return self._sent[key]

    def new_path(self, name: str) -> str:
        """A path in our folder there that nothing has."""
        self._files += 1
        # Only what every tool's flags and every shell leave alone; the end of the name says the format.
        return f"{self._folder}/{self._files}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"

    def get(self, there: str, local: Path) -> None:
        """Copy a file from there."""
        self._adb.pull([there], local)

    def remove(self, there: str) -> None:
        """Remove a file there."""
        self._adb.checked(f"rm -f {shlex.quote(there)}")
        self._sent = {key: path for key, path in self._sent.items() if path != there}

    def explain(self, *, exit_code: int | None, last_words: Sequence[str]) -> TargetFailure | None:
        """Whether the link was cut, which adb's exit code does not tell (see adb_link.py): so both ends are asked."""
        text = " | ".join(last_words)
        if any(sign in text for sign in NO_SPACE):
            return TargetFailure(f"{self.name}: no space left there{quoted(last_words)}; free some there")
        if self._keeper is not None and (ended := self._keeper.ended()) is not None:
            return self._adb.cut((*last_words, *ended.last_words))
        return None if self._adb.is_there() else self._adb.cut(last_words)

    def missing(self, package: str) -> TargetFailure:
        """What to install on the device."""
        return TargetFailure(
            f"{self.name}: {package} is not installed there for {self._python}; on the device: "
            f"{self._python} -m pip install {package}"
        )

    def describe(self) -> dict[str, Any]:
        """What the keeper and Android say of the device, and the hashes of the tools that run there."""
        return {key: value for key, value in self._about.items() if key != "state"}

    def state(self) -> dict[str, Any]:
        """Temperature, clock, battery and Android's word on throttling now; None for what is not told."""
        state: dict[str, Any] = {}
        if self._keeper is not None:
            try:
                state = self._keeper.state()
            except KeeperEnded as error:
                raise self._adb.cut(error.last_words) from error
        battery = parse_battery(self._adb.shell("dumpsys battery").text)
        thermal = parse_thermal(self._adb.shell("dumpsys thermalservice").text)
        return {
            **state,
            "temperature_c": state.get("temperature_c") if thermal.cpu_temperature_c is None
            else thermal.cpu_temperature_c,
            "battery_percent": state.get("battery_percent") if battery.level_percent is None
            else battery.level_percent,
            "battery_temperature_c": battery.temperature_c,
            "plugged": None if battery.plugged is None else list(battery.plugged),
            "thermal_status": thermal.status,
        }

    def _connect(self) -> None:
        """Find adb and the one device. Starts the user's adb server where none runs, as every adb command does."""
        binary = shutil.which(self._adb.binary)
        if binary is None:
            raise TargetFailure(
                f"{self.name}: expected the command {self._adb.binary!r}, found none; install Android's platform "
                "tools (package adb on Debian and Ubuntu)"
            )
        listing = Adb(binary, "", self.name).list_devices()
        try:
            device = choose(parse_devices(listing), self._serial)
        except ValueError as error:
            raise TargetFailure(f"{self.name}: {error}") from error
        self._adb = Adb(binary, device.serial, self.name)

    def _make_folder(self) -> None:
        """A folder for the runner, and for everything where there is no Python (then a cut link leaves it behind)."""
        done = self._adb.shell(f"mktemp -d {shlex.quote(self._parent + '/edgeship-XXXXXX')}")
        if done.exit_code != 0:
            raise TargetFailure(
                f"{self.name}: expected a folder there in which one of ours can be made, found that {self._parent} is "
                f"not fit{done.last_lines}; choose another with validate.device_folder"
            )
        self._folder = done.text.strip().splitlines()[-1]

    def _start_keeper(self) -> None:
        """Start the runner's keeper, and put the runner into the keeper's folder: it goes with that."""
        first = self._folder
        self._send(packed_runner(), f"{first}/{FILE}")
        keeper = Keeper(
            self._adb.shell_command(
                f"exec {self._python} {shlex.quote(f'{first}/{FILE}')} keep {shlex.quote(self._parent)}"
            ),
            timeout_seconds=ANSWER_SECONDS,
        )
        try:
            self._about = keeper.answer()
        except KeeperEnded as error:
            keeper.close()
            raise self._not_started(error) from error
        self._keeper, self._folder = keeper, self._about.pop("folder")
        self._adb.checked(
            f"mv {shlex.quote(first)}/{FILE} {shlex.quote(self._folder)}/ && rmdir {shlex.quote(first)}"
        )

    def _not_started(self, error: KeeperEnded) -> TargetFailure:
        text = " ".join(error.last_words)
        if not self._adb.is_there():
            return self._adb.cut(error.last_words)
        if "No module named" in text:
            return self.missing(text.rpartition("No module named")[2].strip(" '\""))
        if error.exit_code == COMMAND_NOT_FOUND or "not found" in text:
            return TargetFailure(
                f"{self.name}: expected {self._python!r} there, found no such command. A board: install Python 3.9 or "
                "newer with numpy and the runtime, or name it with validate.device_python. A phone: adb cannot reach "
                "an app's Python, so use Termux (python and sshd in it) through an ssh:// target, or give the "
                "runtime makers' own tools: validate.benchmark_model, which Google builds for android_arm64 (the one "
                "of TensorFlow Lite also gives outputs), and validate.perf_test, onnxruntime_perf_test of a build "
                "for Android"
            )
        return TargetFailure(
            f"{self.name}: the runner did not start there{quoted(error.last_words)}; try "
            f"adb -s {self._adb.serial} shell {self._python} -c 'import numpy'"
        )

    def _send(self, local: Path, there: str) -> str:
        quoted = shlex.quote(there)
        try:
            self._adb.push([local], there)
            found = self._adb.sha256(there)
            expected = sha256_of_file(local)
            if found is None:  # no tool there that hashes
                found = self._adb.checked(f"wc -c < {quoted}").strip()
                expected = str(local.stat().st_size)
        except TargetFailure:
            self._remove_quietly(there)
            raise
        if found != expected:
            self._remove_quietly(there)
            raise TargetFailure(
                f"{self.name}: {local.name}: altered on the way: expected SHA-256 or size {expected} to arrive, "
                f"found {found}; check the cable and the storage there"
            )
        return there

    def _remove_quietly(self, there: str) -> None:
        with contextlib.suppress(TargetFailure):  # the error that brought us here is the one to tell
            self._adb.shell(f"rm -f {shlex.quote(there)}")

    def _install(self, path: str) -> str:
        """A tool's path there, executable."""
        if path.startswith(ON_DEVICE):
            there = path.removeprefix(ON_DEVICE)
            if self._adb.shell(f"test -x {shlex.quote(there)}").exit_code != 0:
                raise TargetFailure(
                    f"{self.name}: {there}: expected an executable file there, found none; adb push it, then "
                    f"adb shell chmod 755 {there}"
                )
        else:
            if not Path(path).is_file():
                raise TargetFailure(
                    f"{self.name}: {path}: expected a file here, found none; a tool that is on the device already "
                    f"is named {ON_DEVICE}/path"
                )
            there = self.put(Path(path))
            self._adb.checked(f"chmod 755 {shlex.quote(there)}")
        return there

    def _describe_android(self) -> dict[str, Any]:
        about: dict[str, Any] = {"serial": self._adb.serial}
        if self._keeper is None:
            about |= {"architecture": self._adb.checked("uname -m").strip(), "python": None}
        properties = parse_properties(self._adb.shell("getprop").text)  # no such command on plain Linux: empty
        if properties:
            about["android"] = properties
        for runtime, there in self._binaries.items():
            about[f"{runtime} sha256"] = self._adb.sha256(there)
        return about


def parse_name(name: str) -> str | None:
    """"adb:SERIAL" -> the serial, "adb" -> None. Raises ConfigError."""
    scheme, colon, serial = name.partition(":")
    # A serial that starts with "-" would be an option of adb.
    if scheme != "adb" or (colon and not re.fullmatch(r"[^\s-]\S*", serial)):
        raise ConfigError(f"target {name!r}: expected adb or adb:SERIAL, where `adb devices` has the serial")
    return serial or None
