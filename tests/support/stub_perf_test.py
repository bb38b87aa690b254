"""A STUB of `onnxruntime_perf_test`: our own Python, so its times say nothing of any device.

It takes the same options, runs the model with the ONNX Runtime of this Python, and prints and writes what the real
tool does (format after upstream's sources).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime


def main() -> int:
    parser = argparse.ArgumentParser()
    for option in "emrxyo":
        parser.add_argument(f"-{option}", required=True)
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-I", action="store_true")
    parser.add_argument("model")
    parser.add_argument("result")
    given = parser.parse_args()
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(given.model, providers=["CPUExecutionProvider"])
    created = time.perf_counter()
    item = session.get_inputs()[0]
    feeds = {item.name: np.zeros(item.shape, {"tensor(uint8)": "uint8", "tensor(float)": "float32"}[item.type])}
    times = []
    for _ in range(1 + int(given.r)):
        before = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - before)
    first, times = times[0], times[1:]
    sys.stdout.write(
        f"Setting intra_op_num_threads to {given.x}\n"
        f"Session creation time cost: {created - start:g} s\nFirst inference time cost: {int(1000 * first)} ms\n"
        f"Total inference time cost: {sum(times):g} s\nTotal inference requests: {len(times)}\n"
        f"Average inference time cost total: {1000 * sum(times) / len(times):.6f} ms\n"
        f"Avg CPU usage: 50 %\nPeak working set size: 91336704 bytes\n"
        f"Min Latency: {min(times):g} s\nMax Latency: {max(times):g} s\n"
        f"P50 Latency: {sorted(times)[len(times) // 2]:g} s\n"
    )
    folder = Path(given.model).parent.name
    with Path(given.result).open("a") as stream:
        for run, seconds in enumerate(times):
            stream.write(f"{folder},{seconds:g},91336704,50,{run}\n")
        stream.write(f"\nMin Latency: {min(times):g} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
