"""What test_adb.py does with a real device, in the device's network namespace: `python adb_session.py PLAN.json`.

PLAN.json: {"root", "folder", "tflite", "onnx", "images": {"tflite", "onnx"}, "specs": {...}, "result", "scenarios",
"python"?, "arm64"?}. Each scenario gives values, or the error it ended with; all go to the file "result" for the
tests to look at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.errors import EdgeshipError
from edgeship.core.files import sha256_of_file
from edgeship.validate.compare.arms import pair_arms
from edgeship.validate.compare.check import run_check
from edgeship.validate.compare.place import Place
from edgeship.validate.compare.settings import Settings
from edgeship.validate.process.client import Worker
from edgeship.validate.process.pool import Pool
from edgeship.validate.targets.adb import AdbTarget
from tests.support.adb_device import OTHER_SERIAL, SERIAL, Device, adb, kill, processes

HERE = Path(__file__).resolve().parent
TIMEOUT_SECONDS = 120.0


class Session:
    """The scenarios, in order. The device's folder is `there`; nothing of ours may be left in it."""

    def __init__(self, plan: dict[str, Any], device: Device) -> None:
        self.plan, self.device = plan, device
        self.folder = Path(plan["folder"])
        self.there = self.folder / "device folder"  # a name that needs quoting
        self.there.mkdir()

    def target(self, name: str = f"adb:{SERIAL}", **options: Any) -> AdbTarget:
        defaults = {"device_python": self.plan.get("python", sys.executable), "device_folder": str(self.there)}
        return AdbTarget(name, **{**defaults, **options})

    def stub(self, name: str, *extra: str) -> str:
        """A shell script that starts a stub with our Python, to be pushed like a binary."""
        path = self.folder / f"{name}{''.join(extra)}.sh"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE}/stub_{name}.py" {" ".join(extra)} "$@"\n')
        return str(path)

    def left(self) -> list[str]:
        """What lies in the device's folder, once it is empty or after a while."""
        end_s = time.monotonic() + 15
        while names(self.there) and time.monotonic() < end_s:
            time.sleep(0.05)
        return names(self.there)

    def runtime(self, target: AdbTarget, runtime: str) -> dict[str, Any]:
        """Load, run, time; what a report would have, and the outputs' file."""
        kind = "onnx" if "onnx" in runtime else "tflite"
        model, images = Path(self.plan[kind]), Path(self.plan["images"][kind])
        local = self.folder / f"outputs-{runtime}.npy"
        with Worker(runtime, timeout_seconds=TIMEOUT_SECONDS, target=target, runtime=runtime) as worker:
            loaded = worker.ask(
                "load", runtime=runtime, path=target.put(model), sha256=sha256_of_file(model),
                options=self.options(target, runtime, kind),
            )
            inputs, outputs = target.put(images), target.new_path("outputs.npy")
            ran = worker.ask("run", inputs=[inputs], outputs=[outputs], sha256=[sha256_of_file(images)])
            if "not_measured" not in ran:
                target.get(outputs, local)
                assert [sha256_of_file(local)] == ran["sha256"]
                target.remove(outputs)
            timed = worker.ask("time", inputs=[inputs], runs=10, seconds=2, discarded=3)
            plan = worker.ask("plan")["notes"]
            return {
                "loaded": loaded, "ran": ran, "outputs": str(local), "timed": timed, "notes": plan,
                "memory": worker.ask("memory"),
            }

    def options(self, target: AdbTarget, runtime: str, kind: str) -> dict[str, Any]:
        specs = {} if runtime in ("litert", "onnxruntime") else self.plan["specs"][kind]
        return {"threads": 1, **specs}

    def python_on_the_device(self) -> dict[str, Any]:
        with self.target() as target:
            return {
                "runtimes": target.runtimes, "kind": target.kind, "about": target.describe(), "state": target.state(),
                "litert": self.runtime(target, "litert"), "onnxruntime": self.runtime(target, "onnxruntime"),
            }

    def nothing_is_left(self) -> dict[str, Any]:
        return {"left": self.left(), "processes": processes("runner.pyz", str(self.there))}

    def stub_tools_beside_python(self) -> dict[str, Any]:
        tools = {"benchmark_model": self.stub("benchmark_model"), "perf_test": self.stub("perf_test")}
        with self.target(**tools) as target:
            about = target.describe()
            answers = {name: self.runtime(target, name) for name in ("benchmark-model", "onnxruntime-perf-test")}
            folder = Path(target.new_path("x")).parent
            inside = names(folder)
        return {"runtimes": target.runtimes, "about": about, "inside": inside, **answers, "left": self.left()}

    def stub_tool_with_two_inputs(self) -> dict[str, Any]:
        """The bridge alone: two inputs and two outputs, more examples than one batch."""
        two = self.plan["two_ends"]
        inputs = tuple(map(Path, two["inputs"]))
        with self.target(benchmark_model=self.stub("benchmark_model")) as target, Pool(
            "x", runtime="benchmark-model", path=Path(two["file"]), options={"threads": 1, **two["specs"]}, size=1,
            timeout_seconds=TIMEOUT_SECONDS, folder=self.folder, target=target,
        ) as pool:
            (_, outputs), = pool.run([inputs])
            there = list(map(target.put, inputs))
            timed = pool.ask("time", inputs=there, runs=3, seconds=2, discarded=1)
        paths = [self.folder / f"two-ends-{number}.npy" for number in range(len(outputs))]
        for path, values in zip(paths, outputs, strict=True):
            np.save(path, values)
        return {"outputs": list(map(str, paths)), "timed": timed, "left": self.left()}

    def stub_tool_without_python(self) -> dict[str, Any]:
        there = self.folder / "tool on the device.sh"
        there.write_bytes(Path(self.stub("benchmark_model", "--stub=litert")).read_bytes())
        there.chmod(0o755)
        with self.target(device_python="no-such-python", benchmark_model=f"device:{there}") as target:
            answer = self.runtime(target, "benchmark-model")
            about, state = target.describe(), target.state()
            refused = error_of(lambda: target.command("litert"))
        return {
            "runtimes": target.runtimes, "answer": answer, "refused": refused, "left": self.left(),
            "tool": there.exists(), "about": about, "state": state,
        }

    def compared_by_a_stub_tool(self) -> Any:
        """Two files of one model: adjacent launches, and then the link is cut in the middle of them."""
        baseline, candidate = Path(self.plan["tflite"]), self.folder / "candidate.tflite"
        candidate.write_bytes(baseline.read_bytes() + b"\0" * 16)
        (pair,) = pair_arms(baseline, candidate).pairs
        settings = Settings(max_seconds=40, seed=1)
        with self.target(benchmark_model=self.stub("benchmark_model")) as target:
            place = Place(target=target, runtime="benchmark-model", cpus=())
            whole = run_check(pair, place, settings, checks=1, folder=self.folder).check
            assert whole.timing is not None
            launch_s = whole.timing.seconds / (whole.timing.launches + 1)  # the pilot is one, too
            timer = threading.Timer(4 * launch_s, self.device.stop)
            timer.start()
            cut = run_check(pair, place, replace(settings, exact=False), checks=1, folder=self.folder).check
            timer.join()
        self.device.start()
        return {"whole": asdict(whole), "cut": asdict(cut), "left": self.left()}

    def stub_tool_that_fails(self) -> Any:
        with self.target(benchmark_model=self.stub("benchmark_model", "--stub=broken")) as target:
            return error_of(lambda: self.runtime(target, "benchmark-model"))

    def tool_that_is_not_there(self) -> Any:
        return {
            "here": error_of(lambda: enter(self.target(benchmark_model="/no/such/tool"))),
            "there": error_of(lambda: enter(self.target(perf_test="device:/no/such/tool"))),
            "left": self.left(),
        }

    def neither_python_nor_tools(self) -> Any:
        return [error_of(lambda: enter(self.target(device_python="no-such-python"))), self.left()]

    def python_without_numpy(self) -> Any:
        return [error_of(lambda: enter(self.target(device_python=f"{sys.executable} -S"))), self.left()]

    def folder_that_is_not_there(self) -> Any:
        return error_of(lambda: enter(self.target(device_folder="/no/such/folder")))

    def wrong_serial(self) -> Any:
        return error_of(lambda: enter(self.target("adb:39071FDJH00123")))

    def several_devices(self) -> Any:
        """One daemon, by two names."""
        adb("connect", OTHER_SERIAL)
        error = error_of(lambda: enter(self.target("adb")))
        adb("disconnect", OTHER_SERIAL)
        return error

    def files(self) -> dict[str, Any]:
        local, back = self.folder / "-it's a $model\".tflite", self.folder / "back"
        content = np.random.default_rng(0).bytes(3_000_000)
        local.write_bytes(content)
        with self.target() as target:
            there, again = target.put(local), target.put(local)
            target.get(there, back)
            target.remove(there)
            gone = not Path(there).exists()
            anew = target.put(local)
            local.write_bytes(content[:-1])
            changed = target.put(local)
        return {
            "name": Path(there).name, "once": there == again, "same": back.read_bytes() == content, "gone": gone,
            "anew": anew != there, "changed": changed != anew, "left": self.left(),
            "missing": error_of(lambda: target.get("/no/such/file", back)),
        }

    def full_storage(self) -> Any:
        small = self.folder / "small"
        small.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(small)], check=False).returncode:
            return {"skipped": "no file system can be mounted here"}
        large = self.folder / "large.tflite"
        large.write_bytes(bytes(1 << 20))
        with self.target(device_folder=str(small)) as target:
            folder = Path(target.new_path("x")).parent
            error = error_of(lambda: target.put(large))
            inside = names(folder)
        return {"error": error, "inside": inside, "left": names(small)}

    def altered_model(self) -> Any:
        with self.target() as target, Worker(
            "x", timeout_seconds=TIMEOUT_SECONDS, target=target, runtime="litert"
        ) as worker:
            there = target.put(Path(self.plan["tflite"]))
            Path(there).write_bytes(b"altered")
            return error_of(lambda: worker.ask(
                "load", runtime="litert", path=there, sha256=sha256_of_file(Path(self.plan["tflite"])),
                options={"threads": 1},
            ))

    def crash_of_the_runtime(self) -> Any:
        """The runner's child dies, its supervisor and the link live: the artifact's or the runtime's fault."""
        with self.target() as target:
            def strike() -> None:
                for process in processes("runner.pyz", str(self.there)):
                    command = Path(f"/proc/{process}/cmdline").read_bytes()
                    if b"supervise" not in command and b"keep" not in command:
                        os.kill(process, 9)
            return self.interrupted(target, strike)

    def devices_that_misbehave(self) -> Any:
        """LiteRT is missing there, hangs there, or the runner answers nonsense: each with a module of that kind."""
        cases = {
            "missing": ("ai_edge_litert", "raise ModuleNotFoundError(\"No module named 'ai_edge_litert'\", "
                        "name='ai_edge_litert')", TIMEOUT_SECONDS),
            "hangs": ("ai_edge_litert", "import time; time.sleep(600)", 5),
            "garbage": ("numpy", "import sys\nif 'supervise' in sys.argv:\n    sys.stdin.readline()\n"
                        "    print('hello', flush=True)\n    sys.exit(0)", TIMEOUT_SECONDS),
        }
        return {case: self.with_module(case, *what) for case, what in cases.items()} | {"left": self.left()}

    def with_module(self, case: str, module: str, code: str, timeout_seconds: float) -> dict[str, str]:
        folder = self.folder / case
        folder.mkdir()
        (folder / f"{module}.py").write_text(code)
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        with self.target(device_python=str(python)) as target, Worker(
            "x", timeout_seconds=timeout_seconds, target=target, runtime="litert"
        ) as worker:
            there = target.put(Path(self.plan["tflite"]))
            return error_of(lambda: worker.ask("load", runtime="litert", path=there, options={"threads": 1}))

    def keeper_ends(self) -> Any:
        """Nothing holds the folder any more, so the target is not fit."""
        with self.target() as target:
            kill("runner.pyz", "keep", str(self.there), number=15)
            left = self.left()
            state, run = error_of(target.state), error_of(lambda: self.runtime(target, "litert"))
        return [state, run, left, self.left()]

    def link_is_cut(self) -> Any:
        with self.target() as target:
            error = self.interrupted(target, self.device.stop)
            state = error_of(target.state)
            put = error_of(lambda: target.put(Path(self.plan["onnx"])))
        result = {"error": error, "state": state, "put": put, "left": self.left()}
        self.device.start()
        return result

    def link_is_cut_under_a_stub_tool(self) -> Any:
        with self.target(benchmark_model=self.stub("benchmark_model")) as target:
            error = self.interrupted(target, self.device.stop, "benchmark-model")
        result = {"error": error, "left": self.left(), "tools": self.tools()}
        self.device.start()
        return result

    def bridge_is_killed(self) -> Any:
        """As a hung one is: what it started on the device must not disturb the next measurement."""
        with self.target(benchmark_model=self.stub("benchmark_model")) as target:
            running: list[int] = []

            def strike() -> None:
                running.extend(self.tools(wait_s=0))
                kill("edgeship.validate.bridges.benchmark_model", str(self.there))

            error = self.interrupted(target, strike, "benchmark-model", ready=lambda: bool(self.tools(wait_s=0)))
            return {"error": error, "running": running, "tools": self.tools()}

    def tools(self, wait_s: float = 15) -> list[int]:
        """The stubs that still run on the device, once there are none or after a while."""
        end_s = time.monotonic() + wait_s
        while (found := processes("stub_benchmark_model.py", str(self.there))) and time.monotonic() < end_s:
            time.sleep(0.05)
        return found

    def no_device(self) -> Any:
        self.device.stop()
        adb("disconnect", SERIAL)
        adb("kill-server")  # which forgets the emulator it thought to see
        return error_of(lambda: enter(self.target("adb")))

    def interrupted(
        self, target: AdbTarget, strike: Callable[[], Any], runtime: str = "litert",
        ready: Callable[[], bool] = lambda: True,
    ) -> dict[str, str]:
        """A measurement that does not end by itself, and what happens in the middle of it, once that is `ready`."""
        kind = "tflite"
        with Worker("x", timeout_seconds=TIMEOUT_SECONDS, target=target, runtime=runtime) as worker:
            worker.ask(
                "load", runtime=runtime, path=target.put(Path(self.plan[kind])),
                options=self.options(target, runtime, kind),
            )
            inputs = target.put(Path(self.plan["images"][kind]))
            worker.send("time", inputs=[inputs], runs=10**9, seconds=3600, discarded=1)

            def strike_when_ready() -> None:
                while not ready():
                    time.sleep(0.05)
                strike()

            striker = threading.Thread(target=strike_when_ready, daemon=True)
            striker.start()
            error = error_of(worker.answer)
            striker.join()
        return error


def names(folder: Path) -> list[str]:
    """The names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def enter(target: AdbTarget) -> None:
    """Enter and leave."""
    with target:
        pass


def error_of(call: Callable[[], Any]) -> dict[str, str]:
    """The error a call ends with."""
    try:
        call()
    except EdgeshipError as error:
        return {"type": type(error).__name__, "message": str(error)}
    return {"type": "none", "message": "no error"}


def main() -> None:
    """Run every scenario, in the order of their definitions."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    results: dict[str, Any] = {}
    folder = Path(plan["folder"])
    with Device(Path(plan["root"]), folder / "adb", shared=folder if plan.get("arm64") else None) as device:
        session = Session(plan, device)
        for name in plan["scenarios"]:
            start_s = time.monotonic()
            try:
                results[name] = getattr(session, name)()
            except Exception as error:  # noqa: BLE001  (the test that looks for the result fails with it)
                results[name] = {"failed": f"{type(error).__name__}: {error}"}
            sys.stderr.write(f"{name}: {time.monotonic() - start_s:.1f} s\n")
    Path(plan["result"]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
