"""A session: the loaded model, and what each request of the protocol does with it."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import statistics
import time
from typing import Any, Callable  # noqa: UP035  (Python 3.9 on boards)

from .examples import join, read_examples, select, write_examples
from .process import involuntary_switches, peak_memory_bytes
from .protocol import Send, check_arrival
from .state import device_state
from .table import DEVICE_RUNTIMES, RUNTIMES

PROGRESS_EVERY_SECONDS = 1.0
# A system call that no program makes, seen by the instruction counter of the emulator: see targets/arm64.
MARK_DESCRIPTOR = 0x5EED
FINE_CPU_CLOCK = time.get_clock_info("process_time").resolution < 1e-5  # not on Windows: 16 ms
CANARY_RUNS, CANARY_NUMBERS = 20, 50_000  # half a millisecond each; the least of 5 scattered by 3 % between launches

Opener = Callable[..., Any]


class Session:
    """The loaded model and the requests it answers; each `do_*` returns a JSON object."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._runtime: Any = None
        self._first_ms: float | None = None

    def find_opener(self, runtime: str) -> Opener:
        """The function that opens a file, its library imported: the clock of `load_ms` starts after that."""
        row = RUNTIMES.get(runtime)
        if row is None or row.opener is None:
            raise ValueError(f"expected a runtime of {', '.join(DEVICE_RUNTIMES)}; found {runtime!r}")
        return import_opener(row.opener)

    def do_import(self, *, runtime: str) -> dict[str, Any]:
        """Import the runtime's package, which `load` would do otherwise."""
        self.find_opener(runtime)
        return {}

    def do_load(
        self, *, runtime: str, path: str, options: dict[str, Any], sha256: str | None = None
    ) -> dict[str, Any]:
        """Open the file, after checking that it is the one that was sent."""
        check_arrival(path, sha256)
        open_file = self.find_opener(runtime)
        start_ns = time.perf_counter_ns()
        self._runtime = open_file(path, **options)
        load_ms = (time.perf_counter_ns() - start_ns) / 1e6
        return {"load_ms": load_ms, "inputs": self._runtime.inputs, "outputs": self._runtime.outputs}

    def do_run(
        self, *, inputs: list[str], outputs: list[str], sha256: list[str] | None = None
    ) -> dict[str, Any]:
        """Run all examples of the .npy files, one file per input; write one file per output and answer their hashes."""
        runtime = self._runtime
        arrays = read_examples(inputs, runtime.inputs, sha256)
        answers: list[tuple[int, list[Any]]] = []
        told_s = time.monotonic()
        for start in range(0, len(arrays[0]), runtime.batch):
            count = min(runtime.batch, len(arrays[0]) - start)
            answers.append((count, runtime.infer(select(arrays, runtime.inputs, start=start, count=count))))
            if time.monotonic() - told_s >= PROGRESS_EVERY_SECONDS:
                told_s = time.monotonic()
                self._send({"progress": start + count})
        return {"sha256": write_examples(outputs, join(answers, runtime.outputs))}

    def do_time(self, *, inputs: list[str], runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """Time up to `runs` inferences of the files' first example, after `discarded` untimed ones."""
        example = self._first_example(inputs)
        infer = self._runtime.infer
        if self._first_ms is None:
            start_ns = time.perf_counter_ns()
            infer(example)
            self._first_ms = (time.perf_counter_ns() - start_ns) / 1e6
            discarded -= 1
        for _ in range(discarded):
            infer(example)
        gc.disable()  # a collection of Python's is none of the runtime's time
        samples_ns: list[int] = []
        switches, cpu_ns = involuntary_switches(), time.process_time_ns()
        end_ns = time.perf_counter_ns() + int(seconds * 1e9)
        while len(samples_ns) < runs:
            start_ns = time.perf_counter_ns()
            infer(example)
            stop_ns = time.perf_counter_ns()
            samples_ns.append(stop_ns - start_ns)
            if stop_ns >= end_ns:
                break
        used_ns = time.process_time_ns() - cpu_ns  # of all threads of this process
        if switches is not None:
            switches = (involuntary_switches() or 0) - switches
        gc.enable()
        return {"samples_ns": samples_ns, "first_ms": self._first_ms, "switches": switches,
                "cpu_ns": used_ns if FINE_CPU_CLOCK else None}

    def do_sustain(self, *, inputs: list[str], seconds: float, discarded: int) -> dict[str, Any]:
        """Infer the files' first example for `seconds` without a pause: how often, and the device at the end.

        At least one inference is made; `discarded` ones before it do not count.
        """
        example = self._first_example(inputs)
        infer = self._runtime.infer
        for _ in range(discarded):
            infer(example)
        samples_ns: list[int] = []
        begin_ns = now_ns = time.perf_counter_ns()
        end_ns = begin_ns + int(seconds * 1e9)
        while now_ns < end_ns or not samples_ns:
            start_ns = now_ns
            infer(example)
            now_ns = time.perf_counter_ns()
            samples_ns.append(now_ns - start_ns)
        state = device_state()
        return {"inferences": len(samples_ns), "seconds": (now_ns - begin_ns) / 1e9,
                "median_ms": statistics.median(samples_ns) / 1e6,
                "clock_mhz": state["clock_mhz"], "temperature_c": state["temperature_c"]}

    def do_profile(self, *, inputs: list[str], runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """The mean time of each operation over up to `runs` inferences, after `discarded` ones that do not count.

        {"operations": [(name, kind, microseconds per inference), ...], "inferences", "inference_us"}, or
        {"not_measured": why}. It slows everything down, so the process is of no use for times afterwards.
        """
        if not hasattr(self._runtime, "profile"):
            return {"not_measured": "the runtime's Python interface has no profiler"}
        example = self._first_example(inputs)
        answer: dict[str, Any] = self._runtime.profile(example, runs=runs, seconds=seconds, discarded=discarded)
        return answer

    def do_canary(self) -> dict[str, Any]:
        """The CPU time of a fixed piece of work: it grows where the clock falls. The least of a few is told."""
        times_ns = []
        for _ in range(CANARY_RUNS):
            start_ns = time.process_time_ns()
            sum(range(CANARY_NUMBERS))
            times_ns.append(time.process_time_ns() - start_ns)
        return {"canary_ns": min(times_ns)}

    def do_pin(self, *, cpus: list[int]) -> dict[str, Any]:
        """Bind this process, and the threads it starts from now on, to these processors; before `load`."""
        if not hasattr(os, "sched_setaffinity"):
            raise OSError("cpus: this system cannot bind a process to processors")
        try:
            os.sched_setaffinity(0, cpus)
        except OSError as error:
            raise OSError(
                f"cpus: expected processors of {sorted(os.sched_getaffinity(0))}, found {cpus} ({error.strerror})"
            ) from error
        return {"cpus": sorted(os.sched_getaffinity(0))}

    def do_mark(self, *, inputs: list[str], runs: int) -> dict[str, Any]:
        """Run the files' first example `runs` times, each between two marks that an emulator can see."""
        example = self._first_example(inputs)
        for _ in range(runs):
            _mark()
            self._runtime.infer(example)
        _mark()
        return {}

    def do_plan(self) -> dict[str, Any]:
        """What the runtime planned or ran, as raw facts: {"litert": ...}, {"onnxruntime": ...} or None."""
        return {"plan": self._runtime.plan(), "notes": []}

    def do_memory(self) -> dict[str, Any]:
        """The most memory this process has held."""
        return {"peak_memory_bytes": peak_memory_bytes()}

    def do_state(self) -> dict[str, Any]:
        """Temperature, clock, throttling, battery and load at this moment; None for what is not told."""
        return device_state()

    def _first_example(self, inputs: list[str]) -> list[Any]:
        return select(read_examples(inputs, self._runtime.inputs), self._runtime.inputs)


def import_opener(address: str) -> Opener:
    """Return the function "module:function"; a module that begins with a dot is one of this package."""
    module, function = address.split(":")
    opener: Opener = getattr(importlib.import_module(module, __package__), function)
    return opener


def _mark() -> None:
    with contextlib.suppress(OSError):  # as intended: there is no such descriptor
        os.close(MARK_DESCRIPTOR)
