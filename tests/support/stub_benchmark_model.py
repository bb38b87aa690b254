"""A STUB of `benchmark_model`: our own Python, no binary of Google's, so its times say nothing of any device.

It takes the same flags, runs the model with the LiteRT of this Python, writes the outputs and prints what the real
tool prints (format after upstream's sources). `--stub=litert` behaves as LiteRT's own build, which knows no input
and output files; `--stub=broken` fails as on a file that is no model.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

FILE_FLAGS = ("input_layer", "input_layer_shape", "input_layer_value_files", "output_filepath")


def main(arguments: list[str]) -> int:
    flags = dict(word.removeprefix("--").split("=", 1) for word in arguments)
    kind = flags.pop("stub", "tflite")
    say("STARTING! (a stub of benchmark_model)")
    if kind == "broken":
        sys.stderr.write(f"ERROR: Failed to load model {flags['graph']}\n")
        return 1
    if kind == "litert":
        ignored = [word for word in arguments if word[2:].split("=")[0] in FILE_FLAGS]
        if ignored:
            sys.stdout.write(f"WARN: Unconsumed cmdline flags: {' '.join(ignored)}\n")
        flags = {key: value for key, value in flags.items() if key not in FILE_FLAGS}
    start = time.perf_counter()
    interpreter = Interpreter(flags["graph"], num_threads=int(flags["num_threads"]))
    interpreter.allocate_tensors()
    init_us = (time.perf_counter() - start) * 1e6
    details = interpreter.get_input_details()
    for item, values in zip(details, feed(flags, details), strict=True):
        interpreter.set_tensor(item["index"], values)
    say("Created TensorFlow Lite XNNPACK delegate for CPU.")
    sys.stdout.write("VERBOSE: Replacing 7 out of 7 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1.\n")
    say(f"Initialized session in {init_us / 1e3:g}ms.")
    seconds = float(flags.get("max_secs", 150))
    warmup = run(interpreter, int(flags["warmup_runs"]), float(flags["warmup_min_secs"]), seconds)
    timed = run(interpreter, int(flags["num_runs"]), float(flags["min_secs"]), seconds)
    say(f"Inference timings in us: Init: {init_us:.0f}, First inference: {(warmup or [0])[0]}, "
        f"Warmup (avg): {np.mean(warmup or [0]):g}, Inference (avg): {np.mean(timed):g}")
    if flags.get("report_peak_memory_footprint") == "true":
        say("Overall peak memory footprint (MB) via periodic monitoring: 21.5")
    if "output_filepath" in flags:
        outputs = [interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()]
        Path(flags["output_filepath"]).write_bytes(b"".join(output.tobytes() for output in outputs))
    return 0


def feed(flags: dict[str, str], inputs: list[dict]) -> list[np.ndarray]:
    """The input files, which must have the tensors' sizes; random numbers without them."""
    if "input_layer_value_files" not in flags:
        generator = np.random.default_rng(0)
        return [generator.integers(0, 2, item["shape"]).astype(item["dtype"]) for item in inputs]
    files = dict(item.split(":") for item in flags["input_layer_value_files"].split(","))
    layers, shapes = flags["input_layer"].split(","), flags["input_layer_shape"].split(":")
    assert list(files) == layers
    assert shapes == [",".join(map(str, item["shape"])) for item in inputs]
    return [
        np.frombuffer(Path(files[layer]).read_bytes(), item["dtype"]).reshape(item["shape"])
        for layer, item in zip(layers, inputs, strict=True)
    ]


def run(interpreter: Interpreter, runs: int, min_s: float, max_s: float) -> list[int]:
    """As upstream's loop: at least `runs` and `min_s` seconds, unless `max_s` seconds are over."""
    start, times = time.perf_counter(), []
    while len(times) < runs or time.perf_counter() - start < min_s:
        if time.perf_counter() - start > max_s:
            break
        before = time.perf_counter()
        interpreter.invoke()
        times.append(round((time.perf_counter() - before) * 1e6))
    say(statistics(times))
    return times


def statistics(times: list[int]) -> str:
    tail = " p5={} median={} p95={}"
    if not times:
        return "count=0" + tail.format(0, 0, 0)
    ordered = sorted(times)
    percentiles = tail.format(*(ordered[len(times) * percent // 100] for percent in (5, 50, 95)))
    if min(times) == max(times):
        return f"count={len(times)} curr={times[-1]}{'(all same)' if len(times) > 1 else ''}{percentiles}"
    return (f"count={len(times)} first={times[0]} curr={times[-1]} min={min(times)} max={max(times)} "
            f"avg={np.mean(times):g} std={int(np.std(times))}{percentiles}")


def say(line: str) -> None:
    sys.stdout.write(f"INFO: {line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
