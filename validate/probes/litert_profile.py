"""LiteRT's own profiler, which its Python interpreter has no way to: the C library of the same package has.

The library (libLiteRt, beside the interpreter's) is called through ctypes, in a child process like every runtime. Types
and functions after LiteRT's headers: litert/c/litert_common.h, litert_compiled_model.h, litert_profiler.h,
litert_profiler_event.h and litert_tensor_buffer.h. The package's version is pinned, for this among others.
"""

from __future__ import annotations

import ctypes
import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgeship.validate.runner.litert import specification

Handle = ctypes.c_void_p
CPU_ACCELERATOR = 1
LOCK_FOR_WRITING = 1
SIGNATURE = 0  # the only one of the files that are made here
TENSOR_TYPE_BYTES = 512  # more than a LiteRtRankedTensorType has; it is only passed on
# Kinds of events: a kernel of the interpreter's own, an operation inside a delegate.
BUILT_IN, DELEGATED = 1 << 1, 1 << 3


class _Event(ctypes.Structure):
    """ProfiledEventData."""

    _fields_ = (
        ("tag", ctypes.c_char_p), ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64), ("elapsed_us", ctypes.c_uint64),
        ("memory_before", ctypes.c_size_t * 3), ("memory_after", ctypes.c_size_t * 3),
        ("place", ctypes.c_uint64), ("subgraph", ctypes.c_uint64), ("source", ctypes.c_int),
    )


class LiteRtProfile:
    """A .tflite file as a compiled model on the CPU, with the profiler on; batch 1."""

    batch = 1

    def __init__(self, path: str, *, threads: int) -> None:
        self._library = ctypes.CDLL(str(_library()))
        self._kept: list[Any] = []  # what the library only points to
        environment, model, options = Handle(), Handle(), Handle()
        self._call("LiteRtCreateEnvironment", 0, None, ctypes.byref(environment))
        self._call("LiteRtCreateModelFromFile", environment, path.encode(), ctypes.byref(model))
        self._call("LiteRtCreateOptions", ctypes.byref(options))
        self._call("LiteRtSetOptionsHardwareAccelerators", options, CPU_ACCELERATOR)
        self._set(options, "runtime_options_string", "enable_profiling = true\n")
        self._set(options, "xnnpack", f"num_threads = {threads}\n")
        self._compiled, self._profiler = Handle(), Handle()
        self._call("LiteRtCreateCompiledModel", environment, model, options, ctypes.byref(self._compiled))
        self._call("LiteRtCompiledModelGetProfiler", self._compiled, ctypes.byref(self._profiler))
        if not self._profiler:
            raise RuntimeError("LiteRT made no profiler")
        signature = Handle()
        self._call("LiteRtGetModelSignature", model, ctypes.c_size_t(SIGNATURE), ctypes.byref(signature))
        tensors, self._inputs = self._buffers("Input", environment, signature)
        _, self._outputs = self._buffers("Output", environment, signature)
        interpreter = Interpreter(model_path=path)
        self.inputs = [specification(item) for item in interpreter.get_input_details()]
        self.outputs = [specification(item) for item in interpreter.get_output_details()]
        # A signature has its inputs in an order of its own.
        order = [item["index"] for item in interpreter.get_input_details()]
        self._places = [order.index(tensor) for tensor in tensors]

    def profile(self, arrays: list[np.ndarray], *, runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """Return the mean time of each operation, as the runner's Session.do_profile answers it."""
        for buffer, place in zip(self._inputs, self._places, strict=True):
            self._write(buffer, arrays[place], self.inputs[place]["name"])
        for _ in range(discarded):
            self._run()
        times_us: dict[tuple[int, int, str], int] = {}
        inferences, inference_ns = 0, 0
        while inferences < runs and inference_ns < seconds * 1e9:
            self._call("LiteRtResetProfiler", self._profiler)
            self._call("LiteRtStartProfiler", self._profiler)
            start_ns = time.perf_counter_ns()
            self._run()
            inference_ns += time.perf_counter_ns() - start_ns
            self._call("LiteRtStopProfiler", self._profiler)
            inferences += 1
            for event in self._events():
                if event.kind in (BUILT_IN, DELEGATED):
                    key = event.kind, event.place, event.tag.decode(errors="replace")
                    times_us[key] = times_us.get(key, 0) + event.elapsed_us
        operations = [
            (f"{'XNNPACK operation' if kind == DELEGATED else 'operation'} {place}", tag, elapsed_us / inferences)
            for (kind, place, tag), elapsed_us in times_us.items()
        ]
        return {
            "operations": operations, "inferences": inferences, "inference_us": inference_ns / 1e3 / inferences,
        }

    def _run(self) -> None:
        self._call(
            "LiteRtRunCompiledModel", self._compiled, ctypes.c_size_t(SIGNATURE),
            ctypes.c_size_t(len(self._inputs)), self._inputs, ctypes.c_size_t(len(self._outputs)), self._outputs,
        )

    def _events(self) -> Any:
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        if count.value:
            self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        return events

    def _buffers(self, end: str, environment: Handle, signature: Handle) -> tuple[list[int], Any]:
        """Return the indices of the signature's tensors at `end`, "Input" or "Output", and a buffer for each."""
        count = ctypes.c_size_t()
        self._call(f"LiteRtGetNumSignature{end}s", signature, ctypes.byref(count))
        tensors, buffers = [], (Handle * count.value)()
        for number in range(count.value):
            place, tensor, needs, index = ctypes.c_size_t(number), Handle(), Handle(), ctypes.c_uint32()
            kind = ctypes.create_string_buffer(TENSOR_TYPE_BYTES)
            self._call(f"LiteRtGetSignature{end}TensorByIndex", signature, place, ctypes.byref(tensor))
            self._call("LiteRtGetTensorIndex", tensor, ctypes.byref(index))
            self._call("LiteRtGetRankedTensorType", tensor, kind)
            self._call(
                f"LiteRtGetCompiledModel{end}BufferRequirements", self._compiled, ctypes.c_size_t(SIGNATURE), place,
                ctypes.byref(needs),
            )
            buffer = Handle()
            self._call(
                "LiteRtCreateManagedTensorBufferFromRequirements", environment, kind, needs, ctypes.byref(buffer)
            )
            tensors.append(index.value)
            buffers[number] = buffer
        return tensors, buffers

    def _write(self, buffer: int, values: np.ndarray, name: str) -> None:
        """Fill the buffer of an input. Raises ValueError for an array of another size."""
        handle, size, place = Handle(buffer), ctypes.c_size_t(), Handle()
        self._call("LiteRtGetTensorBufferPackedSize", handle, ctypes.byref(size))
        if size.value != values.nbytes:
            raise ValueError(f"{name}: expected an input of {size.value} bytes, found {values.nbytes}")
        self._call("LiteRtLockTensorBuffer", handle, ctypes.byref(place), LOCK_FOR_WRITING)
        ctypes.memmove(place, np.ascontiguousarray(values).ctypes.data, values.nbytes)
        self._call("LiteRtUnlockTensorBuffer", handle)

    def _set(self, options: Handle, name: str, toml: str) -> None:
        """Add a group of options; the process is short, so nothing is freed."""
        content = ctypes.create_string_buffer(toml.encode())
        free = ctypes.CFUNCTYPE(None, Handle)(lambda _: None)
        self._kept += [content, free]
        group = Handle()
        self._call(
            "LiteRtCreateOpaqueOptions", name.encode(), ctypes.cast(content, Handle), free, ctypes.byref(group)
        )
        self._call("LiteRtAddOpaqueOptions", options, group)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} failed (status {status})")


def open_profile(path: str, *, threads: int) -> LiteRtProfile:
    """Open a file for `profile` alone."""
    return LiteRtProfile(path, threads=threads)


def _library() -> Path:
    """Raises ModuleNotFoundError without the package, FileNotFoundError where its build lacks the library."""
    package = importlib.util.find_spec("ai_edge_litert")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'ai_edge_litert'", name="ai_edge_litert")
    folder = Path(package.submodule_search_locations[0])
    for name in ("libLiteRt.so", "libLiteRt.dylib", "libLiteRt.dll"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder}: expected the library libLiteRt, found none")
