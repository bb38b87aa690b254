"""The runner: one self-contained file that loads an artifact and answers requests, here or on a device.

It needs Python 3.9, numpy and the runtime's own package, and nothing of edgeship: this very file is copied to
boards and phones. On this machine `worker.py` adds the runtimes that only a development machine has.

A request is one line of JSON on standard input, `{"do": "load" | "run" | "time" | ..., ...}`. Each answer is
one line on standard output: `{"ok": {...}}`, `{"progress": images_done}`, or `{"error": {"type", "message"}}`,
after which the process ends: a runtime that failed once is not asked again. Arrays travel as .npy files, whose
hashes travel in the lines.

    python runner.py             answer requests
    python runner.py supervise   the same in a child process, and say `{"ended": exit code}` when that ends, so
                                 that over a network a crash and a broken link can be told apart
    python runner.py keep DIR    make a folder in DIR, say what this machine is, and remove the folder when
                                 standard input closes, however the other side came to its end
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, TextIO  # noqa: UP035  (Python 3.9 on boards)

import numpy as np

PROGRESS_EVERY_SECONDS = 1.0
PACKAGES = ("ai-edge-litert", "tflite-runtime", "onnxruntime", "numpy")
# A system call that no program makes, seen by the instruction counter of the emulator: see targets/arm64.
MARK_DESCRIPTOR = 0x5EED
ORT_DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16",
    "tensor(int8)": "int8", "tensor(uint8)": "uint8",
}
FINE_CPU_CLOCK = time.get_clock_info("process_time").resolution < 1e-5  # not on Windows: 16 ms
CANARY_RUNS, CANARY_NUMBERS = 20, 50_000  # half a millisecond each; the least of 5 scattered by 3 % between launches
# Errors only: warnings would fill the lines of standard error that explain a failure.
ORT_LOG_ERRORS = 3
ORT_KERNEL = "_kernel_time"  # how the name of a kernel's event in a profile ends; before it is the node's
POWER_SUPPLIES = Path("/sys/class/power_supply")
STEAL = 7  # the place of steal in /proc/stat's first line, after "cpu"
NATIVE_ENDS = (".so,", ".so.", ".pyd,", ".dll,", ".dylib,")  # in a line of RECORD: path,hash,size


class LiteRt:
    """A .tflite file in an interpreter, batch 1."""

    batch = 1

    def __init__(self, path: str, *, threads: int, resolver: str | None = None, **options: Any) -> None:
        """`resolver` names an OpResolverType; None is what an application gets (XNNPACK)."""
        interpreter_class, resolvers = _litert()
        if resolver is not None:
            options["experimental_op_resolver_type"] = getattr(resolvers, resolver)
        self.interpreter = interpreter_class(model_path=path, num_threads=threads, **options)
        self.interpreter.allocate_tensors()
        self.inputs = [_litert_specification(item) for item in self.interpreter.get_input_details()]
        self.outputs = [_litert_specification(item) for item in self.interpreter.get_output_details()]
        self._input = self.interpreter.get_input_details()[0]["index"]
        self._output = self.interpreter.get_output_details()[0]["index"]

    def infer(self, images: np.ndarray) -> np.ndarray:
        """One image in, one row of outputs out."""
        self.interpreter.set_tensor(self._input, images)
        self.interpreter.invoke()
        output: np.ndarray = self.interpreter.get_tensor(self._output)
        return output

    def plan(self) -> dict[str, Any]:
        """The interpreter's plan, which holds the delegates next to the operations they replaced."""
        # There is no public way to list the operations; the version is pinned for this among others.
        operations = [
            {
                "kind": item["op_name"],
                "inputs": [int(index) for index in item["inputs"]],
                "outputs": [int(index) for index in item["outputs"]],
            }
            for item in self.interpreter._get_ops_details()
        ]
        tensors = [
            {
                "index": int(item["index"]), "name": item["name"], "dtype": np.dtype(item["dtype"]).name,
                "scales": len(item["quantization_parameters"]["scales"]), "channels": _channels(item),
            }
            for item in self.interpreter.get_tensor_details()
        ]
        ends = [
            int(item["index"])
            for item in (*self.interpreter.get_input_details(), *self.interpreter.get_output_details())
        ]
        return {"litert": {"operations": operations, "tensors": tensors, "ends": ends}}


class OnnxRuntime:
    """An .onnx or .ort file in a session on the CPU, batch 1."""

    batch = 1

    def __init__(self, path: str, *, threads: int, optimized: bool = True) -> None:
        self._path, self._threads, self._optimized = path, threads, optimized
        self.session = self._open(self._options())
        self.inputs = [_ort_specification(item) for item in self.session.get_inputs()]
        self.outputs = [_ort_specification(item) for item in self.session.get_outputs()]
        self._input, self._outputs = self.session.get_inputs()[0].name, [self.session.get_outputs()[0].name]

    def infer(self, images: np.ndarray) -> np.ndarray:
        """One image in, one row of outputs out."""
        output: np.ndarray = self.session.run(self._outputs, {self._input: images})[0]
        return output

    def plan(self) -> dict[str, Any]:
        """The profile of one inference in a session of its own: what ran, not what the file says."""
        with tempfile.TemporaryDirectory() as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = self._open(options)
            item = session.get_inputs()[0]
            shape = [size if isinstance(size, int) and size > 0 else self.batch for size in item.shape]  # may be open
            session.run(None, {item.name: np.zeros(shape, ORT_DTYPES[item.type])})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return {"onnxruntime": {"events": [event for event in events if event.get("cat") == "Node"]}}

    def profile(self, image: np.ndarray, *, runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """The mean time of each kernel over up to `runs` inferences of `image`, in a session of its own."""
        with tempfile.TemporaryDirectory() as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = self._open(options)
            inferences, end_ns = 0, time.perf_counter_ns() + int(seconds * 1e9)
            while inferences < discarded + 1 or (
                inferences < discarded + runs and time.perf_counter_ns() < end_ns
            ):
                session.run(None, {self._input: image})
                inferences += 1
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        counted = sorted(
            (event for event in events if event["name"] == "model_run"), key=lambda event: int(event["ts"])
        )[discarded:]
        kernels: dict[tuple[str, str], int] = {}
        for event in events:
            if event["name"].endswith(ORT_KERNEL) and event["ts"] >= counted[0]["ts"]:
                key = event["name"][: -len(ORT_KERNEL)], event["args"]["op_name"]
                kernels[key] = kernels.get(key, 0) + event["dur"]
        return {
            "operations": [(*key, duration_us / len(counted)) for key, duration_us in kernels.items()],
            "inferences": len(counted),
            "inference_us": sum(event["dur"] for event in counted) / len(counted),
        }

    def _options(self) -> Any:
        """The defaults a user has, but for the threads: how many, and that idle ones do not spin."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = ORT_LOG_ERRORS
        if not self._optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return options

    def _open(self, options: Any) -> Any:
        import onnxruntime

        return onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])


def open_litert(path: str, *, threads: int) -> LiteRt:
    """What an application gets: XNNPACK takes every operation it knows."""
    return LiteRt(path, threads=threads)


def open_reference_kernels(path: str, *, threads: int) -> LiteRt:
    """The plain C++ kernels that define each operation; slow, and rounded twice where XNNPACK rounds once."""
    return LiteRt(path, threads=threads, resolver="BUILTIN_REF")


def open_onnxruntime(path: str, *, threads: int) -> OnnxRuntime:
    """A default session: quantize-dequantize pairs become integer kernels."""
    return OnnxRuntime(path, threads=threads)


def open_unoptimized(path: str, *, threads: int) -> OnnxRuntime:
    """The graph as it is written: floats between the quantizations, so no integer kernel can saturate."""
    return OnnxRuntime(path, threads=threads, optimized=False)


Opener = Callable[..., Any]
# Name -> the package whose import takes the time that is not the model's, and the opener.
OPENERS: dict[str, Opener] = {
    "litert": open_litert,
    "litert-reference": open_reference_kernels,
    "onnxruntime": open_onnxruntime,
    "onnxruntime-unoptimized": open_unoptimized,
}
IMPORTS: dict[str, Callable[[], Any]] = {
    "litert": lambda: _litert(),
    "litert-reference": lambda: _litert(),
    "onnxruntime": lambda: importlib.import_module("onnxruntime"),
    "onnxruntime-unoptimized": lambda: importlib.import_module("onnxruntime"),
}


class Session:
    """The loaded model and the requests it answers; each `do_*` returns a JSON object."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._runtime: Any = None
        self._first_ms: float | None = None

    def find_opener(self, runtime: str) -> Opener:
        """The function that opens a file, its library imported: the clock of `load_ms` starts after that."""
        if runtime not in OPENERS:
            raise ValueError(f"expected a runtime of {', '.join(OPENERS)}; found {runtime!r}")
        IMPORTS[runtime]()
        return OPENERS[runtime]

    def do_import(self, *, runtime: str) -> dict[str, Any]:
        """Import the runtime's package, which `load` would do otherwise."""
        self.find_opener(runtime)
        return {}

    def do_load(
        self, *, runtime: str, path: str, options: dict[str, Any], sha256: str | None = None
    ) -> dict[str, Any]:
        """Open the file, after checking that it is the one that was sent."""
        _check_arrival(path, sha256)
        open_file = self.find_opener(runtime)
        start_ns = time.perf_counter_ns()
        self._runtime = open_file(path, **options)
        load_ms = (time.perf_counter_ns() - start_ns) / 1e6
        return {"load_ms": load_ms, "inputs": self._runtime.inputs, "outputs": self._runtime.outputs}

    def do_run(self, *, inputs: str, outputs: str, sha256: str | None = None) -> dict[str, Any]:
        """Run all images of an .npy file, write all outputs to another; answer that one's hash."""
        _check_arrival(inputs, sha256)
        images = np.load(inputs, allow_pickle=False, mmap_mode="r")
        batch, answers = self._runtime.batch, []
        told_s = time.monotonic()
        for start in range(0, len(images), batch):
            answers.append(self._runtime.infer(np.ascontiguousarray(images[start : start + batch])))
            if time.monotonic() - told_s >= PROGRESS_EVERY_SECONDS:
                told_s = time.monotonic()
                self._send({"progress": start + batch})
        np.save(outputs, np.concatenate(answers), allow_pickle=False)
        return {"sha256": sha256_of(outputs)}

    def do_time(self, *, inputs: str, runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """Time up to `runs` inferences of the file's first image, after `discarded` untimed ones."""
        image = np.load(inputs, allow_pickle=False)[:1]
        infer = self._runtime.infer
        if self._first_ms is None:
            start_ns = time.perf_counter_ns()
            infer(image)
            self._first_ms = (time.perf_counter_ns() - start_ns) / 1e6
            discarded -= 1
        for _ in range(discarded):
            infer(image)
        gc.disable()  # a collection of Python's is none of the runtime's time
        samples_ns: list[int] = []
        switches, cpu_ns = involuntary_switches(), time.process_time_ns()
        end_ns = time.perf_counter_ns() + int(seconds * 1e9)
        while len(samples_ns) < runs:
            start_ns = time.perf_counter_ns()
            infer(image)
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

    def do_profile(self, *, inputs: str, runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """The mean time of each operation over up to `runs` inferences, after `discarded` ones that do not count.

        {"operations": [(name, kind, microseconds per inference), ...], "inferences", "inference_us"}, or
        {"not_measured": why}. It slows everything down, so the process is of no use for times afterwards.
        """
        if not hasattr(self._runtime, "profile"):
            return {"not_measured": "the runtime's Python interface has no profiler"}
        image = np.load(inputs, allow_pickle=False)[:1]
        answer: dict[str, Any] = self._runtime.profile(image, runs=runs, seconds=seconds, discarded=discarded)
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

    def do_mark(self, *, inputs: str, runs: int) -> dict[str, Any]:
        """Run the file's first image `runs` times, each between two marks that an emulator can see."""
        image = np.load(inputs, allow_pickle=False)[:1]
        for _ in range(runs):
            _mark()
            self._runtime.infer(image)
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


def peak_memory_bytes() -> int | None:
    """The peak resident memory of this process in bytes; None where the system does not tell.

    On Linux VmHWM, since `getrusage` still counts the parent that the process was forked from.
    """
    lines = _text("/proc/self/status").splitlines()
    kibibytes = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    if kibibytes is not None:
        return int(kibibytes) * 1024
    try:
        import psutil  # not on Linux, where every worker would pay for it
    except ImportError:
        return None
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    return None if peak is None else int(peak)


def involuntary_switches() -> int | None:
    """How often this process was put off its processor so far; None where the system does not tell."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw)


def device_state() -> dict[str, Any]:
    """What may have slowed this machine down at this moment; None for what it does not tell.

    `throttled` is the Raspberry Pi's own word (vcgencmd get_throttled: bits 0-3 now, 16-19 since the start).
    `cpu_pressure_percent` is the share of the last 10 s in which some process waited for a processor. `counters` only
    count up (`steal_ticks` were taken by the hypervisor, in `throttled_periods` a control group had used up its
    quota): two looks tell what happened between them.
    """
    temperatures = [
        int(text) / 1000 for text in _texts("/sys/class/thermal", "thermal_zone*/temp") if text.lstrip("-").isdigit()
    ]
    clocks = [int(text) / 1000 for text in _texts("/sys/devices/system/cpu", "cpu*/cpufreq/scaling_cur_freq")]
    limits = [int(text) / 1000 for text in _texts("/sys/devices/system/cpu", "cpu*/cpufreq/cpuinfo_max_freq")]
    governors = _texts("/sys/devices/system/cpu", "cpu*/cpufreq/scaling_governor")
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


def describe() -> dict[str, Any]:
    """What this machine is: processor, memory, system, and the packages that are installed.

    `identity` is what must be equal, besides, for times of another day to be comparable; reports for people leave it
    out.
    """
    pairs = [line.split(":", 1) for line in _text("/proc/cpuinfo").split("\n\n")[0].splitlines() if ":" in line]
    known = {key.strip(): value.strip() for key, value in pairs}
    flags = known.get("flags") or known.get("Features")
    memory = [line.split() for line in _text("/proc/meminfo").splitlines() if line.startswith("MemTotal:")]
    return {
        "model": _text("/proc/device-tree/model").strip("\0\n ") or None,
        "cpu_model": known.get("model name") or _arm_part(known) or platform.processor() or None,
        "cpu_flags": None if flags is None else flags.split(),
        "architecture": platform.machine(),
        "logical_cores": os.cpu_count(),
        "usable_cpus": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": int(memory[0][1]) * 1024 if memory else None,
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "identity": {
            "cpu_stepping": known.get("stepping") or known.get("CPU revision"),
            "microcode": known.get("microcode"),
            "hypervisor": _hypervisor(known.get("flags")),
            "physical_cores": len(set(_texts("/sys/devices/system/cpu", "cpu*/topology/thread_siblings_list"))) or None,
            "cgroup_cpu_max": _cgroup_cpu_max(),
            "kernel": platform.release(),
            "board_serial": _text("/proc/device-tree/serial-number").strip("\0\n ") or None,
            "firmware": _vcgencmd("version"),
            "hostname": platform.node() or None,
            "libraries_sha256": {name: _libraries_sha256(name) for name in PACKAGES},
        },
    }


def serve(requests: TextIO, answers: TextIO, session_class: type[Session] = Session) -> None:
    """Answer requests until there are none."""

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    session = session_class(send)
    for line in requests:
        request = json.loads(line)
        try:
            answer = getattr(session, f"do_{request.pop('do')}")(**request)
        except BaseException as error:
            in_one_line = str(error).strip().split("\n", 1)[0]
            send({"error": {"type": type(error).__name__, "message": in_one_line}})
            raise  # the whole traceback goes to standard error, and the process ends
        send({"ok": answer})


def serve_pipes(session_class: type[Session] = Session) -> None:
    """Keep the two pipes for the protocol: native runtimes print wherever they like."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    serve(requests, answers, session_class)


def supervise() -> None:
    """Run `serve_pipes` in a child; say how it ended; end it when standard input closes."""
    child = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdin is not None and child.stdout is not None
    child_input = child.stdin

    def forward() -> None:
        try:
            for line in sys.stdin.buffer:
                child_input.write(line)
                child_input.flush()
            child_input.close()
            child.wait(5)  # a child that is idle ends by itself
        except (OSError, subprocess.TimeoutExpired):
            child.kill()

    threading.Thread(target=forward, daemon=True).start()
    for line in child.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    print(json.dumps({"ended": child.wait()}), flush=True)  # noqa: T201
    os._exit(0)  # the thread may still be reading; an ordinary exit would wait for it, or abort on its lock


def keep(parent: str) -> None:
    """Make a folder, tell of it and of this machine, and remove it when standard input closes."""
    folder = tempfile.mkdtemp(prefix="edgeship-", dir=parent or None)

    def end(*_: object) -> None:
        # The removal is in the handler, not in what an exception unwinds: a cut link often brings a signal just after
        # the closed input, and an exception in the middle of a removal would end that.
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, end)
    try:
        print(json.dumps({"ok": {"folder": folder, **describe(), "state": device_state()}}), flush=True)  # noqa: T201
        for line in sys.stdin:  # one more look at the machine for each line
            if line.strip():
                print(json.dumps({"ok": device_state()}), flush=True)  # noqa: T201
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sha256_of(path: str) -> str:
    """The hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


class AlteredInTransit(Exception):
    """A file is not the one that was sent."""


def require_hash(path: str, *, found: str, expected: str) -> None:
    """That a file is the one that was sent. Raises AlteredInTransit."""
    if found != expected:
        raise AlteredInTransit(f"{Path(path).name}: expected SHA-256 {expected}, found {found}")


def _check_arrival(path: str, expected: str | None) -> None:
    if expected is not None:
        require_hash(path, found=sha256_of(path), expected=expected)


def _litert() -> tuple[Any, Any]:
    """Interpreter and OpResolverType, of the package that is there."""
    try:
        from ai_edge_litert import interpreter
    except ModuleNotFoundError as error:
        if error.name != "ai_edge_litert":
            raise
        if _version("tflite-runtime") is None:
            raise
        from tflite_runtime import interpreter
    return interpreter.Interpreter, interpreter.OpResolverType


def _litert_specification(item: dict[str, Any]) -> dict[str, Any]:
    scales, zero_points = (item["quantization_parameters"][key] for key in ("scales", "zero_points"))
    quantized = len(scales) == 1
    return {
        "name": item["name"],
        "shape": [int(size) for size in item["shape"]],
        "dtype": np.dtype(item["dtype"]).name,
        "scale": float(scales[0]) if quantized else None,
        "zero_point": int(zero_points[0]) if quantized else None,
    }


def _channels(item: dict[str, Any]) -> int | None:
    """The length of the axis that per-channel scales run along; None for a scalar."""
    axis = item["quantization_parameters"]["quantized_dimension"]
    return int(item["shape"][axis]) if axis < len(item["shape"]) else None


def _ort_specification(item: Any) -> dict[str, Any]:
    return {
        "name": item.name,
        "shape": list(item.shape),
        "dtype": ORT_DTYPES.get(item.type, item.type),
        # An ONNX file has no quantization on its inputs and outputs; the manifest says it.
        "scale": None,
        "zero_point": None,
    }


def _mark() -> None:
    with contextlib.suppress(OSError):  # as intended: there is no such descriptor
        os.close(MARK_DESCRIPTOR)


def _arm_part(known: dict[str, str]) -> str | None:
    """Arm systems name the core by numbers."""
    part = known.get("CPU part")
    return None if part is None else f"CPU implementer {known.get('CPU implementer')} part {part}"


def _hypervisor(x86_flags: str | None) -> bool | None:
    """Whether this is a virtual machine; None where the system does not tell, as most Arm ones."""
    if x86_flags is not None:
        return "hypervisor" in x86_flags.split()
    signs = ("/sys/hypervisor/type", "/proc/device-tree/hypervisor/compatible")
    return True if any(map(_text, signs)) else None


def _turbo() -> bool | None:
    """Whether the clock may rise above the nominal one; of Intel's driver, or of the others."""
    off, on = _text("/sys/devices/system/cpu/intel_pstate/no_turbo"), _text("/sys/devices/system/cpu/cpufreq/boost")
    if off:
        return off.strip() == "0"
    return on.strip() == "1" if on else None


def _battery_percent() -> int | None:
    """The charge of the machine's own battery: mice and pens have some of the scope "Device"."""
    own = [path for path in sorted(POWER_SUPPLIES.glob("*/capacity"))
           if _text(str(path.parent / "scope")).strip() != "Device"]
    percent = _text(str(own[0])).strip() if own else ""
    return int(percent) if percent.isdigit() else None


def _plugged() -> list[str] | None:
    """The supplies that give power, by name; empty: it runs on the battery. None: it has no supply that tells."""
    online = {path.parent.name: _text(str(path)).strip() for path in POWER_SUPPLIES.glob("*/online")}
    return [name for name, word in sorted(online.items()) if word != "0"] if online else None


def _pressure_percent() -> float | None:
    """The first average of a line like `some avg10=0.72 avg60=3.14 avg300=5.55 total=1664433953`."""
    words = _text("/proc/pressure/cpu").split()
    return float(words[1].partition("=")[2]) if words[:1] == ["some"] else None


def _cpu_ticks() -> list[int] | None:
    """What all processors did so far: user, nice, system, idle, iowait, irq, softirq, steal (proc(5), /proc/stat)."""
    words = _text("/proc/stat").split("\n", 1)[0].split()
    return [int(word) for word in words[1 : STEAL + 2]] if len(words) > STEAL + 1 else None


def _cgroups() -> list[str]:
    """Where the control groups that limit this process's processor time may lie: its own first, then the parents.

    A container that shows its own group as the root has only the last of them.
    """
    folders: list[str] = []
    for line in _text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        else:
            roots = ["/sys/fs/cgroup/cpu"] if "cpu" in controllers.split(",") else []
        parts = [part for part in path.split("/") if part]
        folders += ["/".join([root, *parts[:length]]) for root in roots for length in range(len(parts), -1, -1)]
    return folders


def _cgroup_cpu_max() -> str | None:
    """The tightest limit as "quota period" in microseconds, "max" where there is none; None: no control groups."""
    folders = _cgroups()
    pairs = [_text(f"{folder}/cpu.max").split() for folder in folders]
    pairs += [_text(f"{folder}/cpu.cfs_quota_us").split() + _text(f"{folder}/cpu.cfs_period_us").split()
              for folder in folders]
    limits = [(int(pair[0]), int(pair[1])) for pair in pairs if len(pair) == 2 and pair[0].isdigit()]  # not "max", "-1"
    if not limits:
        return "max" if folders else None
    quota, period = min(limits, key=lambda limit: limit[0] / limit[1])
    return f"{quota} {period}"


def _throttled_periods() -> int | None:
    """How often the control groups of this process were stopped for having used up their quota, in all."""
    lines = [line.split() for folder in _cgroups() for line in _text(f"{folder}/cpu.stat").splitlines()]
    counts = [int(words[1]) for words in lines if words[0] == "nr_throttled"]
    return sum(counts) if counts else None


def _raspberry_throttled() -> str | None:
    said = _vcgencmd("get_throttled")
    return None if said is None else said.partition("=")[2] or None


def _vcgencmd(word: str) -> str | None:
    """What a Raspberry Pi's firmware answers; None on everything else."""
    tool = shutil.which("vcgencmd")
    if tool is None:
        return None
    try:
        done = subprocess.run([tool, word], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _libraries_sha256(distribution: str) -> str | None:
    """One hash over the native libraries' lines of the package's RECORD, which has a hash of each file.

    Not over all lines: those of Python files that the installer compiled or wrote itself differ between installers.
    """
    try:
        record = importlib.metadata.distribution(distribution).read_text("RECORD") or ""
    except importlib.metadata.PackageNotFoundError:
        return None
    lines = sorted(line for line in record.splitlines() if any(end in line for end in NATIVE_ENDS))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _texts(folder: str, pattern: str) -> list[str]:
    return [text for path in sorted(Path(folder).glob(pattern)) if (text := _text(str(path)).strip())]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve_pipes()
    elif sys.argv[1] == "supervise":
        supervise()
    elif sys.argv[1] == "keep":
        keep(sys.argv[2])
    else:
        sys.exit(f"runner.py: expected nothing, `supervise` or `keep DIR`; found {sys.argv[1]!r}")
