"""What `edgeship doctor` tries: inferences of a tiny model in child processes, programs that tell their version.

A native library that is broken crashes its process, which must not be this one; what hangs is ended.
"""

from __future__ import annotations

import base64
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgeship.core.errors import RuntimeFailure, TargetFailure
from edgeship.validate.process.client import Inbox, Worker, receive
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.targets.target import Target

TRIAL_SECONDS = 40.0  # an emulated processor needs 10 on an idle machine
GROUP_SECONDS = 45.0  # for trials at the same time: one that is late, and the end of its processes
DEADLINE_SECONDS = 50.0  # for everything
VERSION_SECONDS = 10.0
BUSY = "where this machine is only busy, try again"

Result = TypeVar("Result")

# y = relu(x), float32 (1, 2), as files in base64: ONNX of opset 13 (69 bytes, written with onnx.helper) and TFLite (284
# bytes, written with the schema's accessors). They are here so that a trial needs neither onnx nor a converter.
MODELS = {
    "onnx": "CAg6OwoMCgF4EgF5IgRSZWx1EgFnWhMKAXgSDgoMCAESCAoCCAEKAggCYhMKAXkSDgoMCAESCAoCCAEKAggCQgQKABAN",
    "tflite": (
        "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA2AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAMABQAEAAMAAgABAAM"
        "AAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEAAAABAAAAAAAAAAEAAAABAAAAAQAAAAAA"
        "AAACAAAANAAAAAQAAADg////CAAAAAwAAAABAAAAeQAAAAIAAAABAAAAAgAAAAwADAAIAAAAAAAEAAwAAAAIAAAADAAAAAEAAAB4AAAAAgAA"
        "AAEAAAACAAAAAQAAABAAAAAMAAwACwAAAAAABAAMAAAAEwAAAAAAABM="
    ),
}
INPUT = np.array([[-1, 2]], np.float32)
OUTPUT = np.array([[0, 2]], np.float32)


def at_once(functions: Sequence[Callable[[], Result]], *, seconds: float) -> list[Result | Exception]:
    """Call all of them at the same time: what each returns or raises; TimeoutError for those not ready in time."""
    results: dict[int, Result | Exception] = {}

    def call(index: int, function: Callable[[], Result]) -> None:
        try:
            results[index] = function()
        except Exception as error:  # noqa: BLE001  (told to the caller, for one failure must not hide the others)
            results[index] = error

    threads = [
        # Daemons: one that waits for ever must not keep the command from ending.
        threading.Thread(target=call, args=item, daemon=True) for item in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    late = TimeoutError(f"no answer after {seconds:g} s; {BUSY}")
    return [results.get(index, late) for index in range(len(functions))]


def infer(target: Target, *runtimes: str) -> dict[str, str]:
    """Run the tiny model on a target, with one runtime after the other in one process; the versions they tell.

    Raises:
        RuntimeFailure: what is missing or broken, or TRIAL_SECONDS were not enough.
    """
    deadline_s = time.monotonic() + TRIAL_SECONDS
    inbox: Inbox = queue.SimpleQueue()
    label = f"{' and '.join(runtimes)} on {target.name}"
    try:
        with tempfile.TemporaryDirectory(prefix="edgeship-doctor-") as name, target, Worker(
            label, timeout_seconds=TRIAL_SECONDS, target=target, runtime=runtimes[0], inbox=inbox
        ) as worker:

            def ask(do: str, **arguments: Any) -> dict[str, Any]:
                worker.send(do, **arguments)
                left_s = max(0.0, deadline_s - time.monotonic())
                return receive(inbox, timeout_seconds=left_s, waiting=[worker])[1]

            versions: dict[str, str] = {}
            for runtime in runtimes:
                versions |= _infer_with(runtime, Path(name), ask)
            return versions
    except RuntimeFailure as error:
        if time.monotonic() >= deadline_s:
            raise RuntimeFailure(f"no answer after {TRIAL_SECONDS:g} s; {BUSY}") from error
        raise RuntimeFailure(str(error).removeprefix(f"{label}: ").removeprefix(f"{target.name}: ")) from error


def _infer_with(runtime: str, folder: Path, ask: Callable[..., dict[str, Any]]) -> dict[str, str]:
    format_ = RUNTIMES[runtime].takes[0]
    model, inputs, outputs = folder / f"relu.{format_}", folder / "inputs.npy", folder / f"{runtime}.npy"
    model.write_bytes(base64.b64decode(MODELS[format_]))
    np.save(inputs, INPUT)
    told = ask("load", runtime=runtime, path=str(model), options={"threads": 1}).get("versions")
    ask("run", inputs=[str(inputs)], outputs=[str(outputs)])
    found = np.load(outputs, allow_pickle=False)
    if not np.array_equal(found, OUTPUT):
        raise RuntimeFailure(
            f"{runtime} computes wrongly: relu({INPUT.tolist()}) is {OUTPUT.tolist()}, found {found.tolist()}"
        )
    return {str(name): str(version) for name, version in (told or {}).items() if version is not None}


def output_of(command: Sequence[str], *, seconds: float = VERSION_SECONDS) -> list[str]:
    """The lines, not empty, that a program of this machine prints. Raises TargetFailure."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=seconds, check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TargetFailure(f"{command[0]}: no answer after {seconds:g} s; {BUSY}") from error
    except OSError as error:
        raise TargetFailure(f"{command[0]} cannot be started ({error.strerror or error})") from error
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not lines:
        raise TargetFailure(f"{' '.join(command)} failed with exit code {done.returncode}: {' | '.join(lines[-3:])}")
    return lines
