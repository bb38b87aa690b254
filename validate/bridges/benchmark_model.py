"""The bridge to TensorFlow Lite's `benchmark_model` on an adb device: what a phone app's runtime does, without an app.

    python -P -m edgeship.validate.bridges.benchmark_model \
        --adb ADB --serial SERIAL --name adb --binary THERE --folder THERE

Each launch loads the model anew, so a launch is one observation of the time, and it keeps its samples to itself.
Outputs come from a build that knows `--output_filepath` (TensorFlow Lite's, since 2022; LiteRT's own build of the
tool has no input files, so it tells times only).
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.validate.bridges.benchmark_output import delegate_notes, parse_benchmark_output
from edgeship.validate.bridges.tool_bridge import ToolBridge, ToolFailed, main
from edgeship.validate.runner.examples import join, read_examples, write_examples
from edgeship.validate.runner.session import PROGRESS_EVERY_SECONDS

BATCH = 16  # examples for which one push, one script and one pull are made: each costs tens of milliseconds over USB
LAYER = "input"  # and its number: names in the flags need not be the tensors', and these need no escaping
# --min_secs would raise the number of runs, and its default is a second.
RUN_ONCE = ("--num_runs=1", "--min_secs=0", "--warmup_runs=0", "--warmup_min_secs=0")
OUTPUT_FLAG, INPUT_FLAG = "--output_filepath", "--input_layer_value_files"
MEMORY_SECONDS, MEMORY_INTERVAL_MS = 1, 5  # the tool looks at its memory every 50 ms if not told otherwise


class BenchmarkModel(ToolBridge):
    """A .tflite file, batch 1, on the kernels that an application gets by default."""

    def do_load(
        self, *, runtime: str, path: str, options: dict[str, Any], sha256: str | None = None
    ) -> dict[str, Any]:
        """Run it once on the tool's own random input; `options` has the inputs and outputs, which it cannot tell."""
        self.check(path, sha256)
        self.path, self.threads = path, int(options["threads"])
        self._inputs, self._outputs = options["inputs"], options["outputs"]
        there = self.there("probe.out")
        text = self.run(self.call(*self._flags(), *RUN_ONCE, f"{OUTPUT_FLAG}={there}"))
        self.remove(there)
        output = parse_benchmark_output(text)
        self._notes = delegate_notes(text)
        self._not_measured = (
            f"this build of benchmark_model gives no outputs (it ignored {OUTPUT_FLAG}); use the one of TensorFlow Lite"
            if OUTPUT_FLAG in output.ignored_flags else None
        )
        # What the tool's own random input took first is no better and no worse than what ours would.
        self._first_ms = output.first_ms
        return {"load_ms": output.init_ms, "inputs": [], "outputs": []}

    def do_run(
        self, *, inputs: list[str], outputs: list[str], sha256: list[str] | None = None
    ) -> dict[str, Any]:
        """Run all examples of the .npy files on the device, in launches of their own; answer the outputs' hashes."""
        if self._not_measured is not None:
            return {"not_measured": self._not_measured}
        arrays = self._examples(inputs, sha256)
        answers: list[list[np.ndarray]] = []
        told_s = time.monotonic()
        for start in range(0, len(arrays[0]), BATCH):
            answers += self._run_batch([array[start : start + BATCH] for array in arrays])
            if time.monotonic() - told_s >= PROGRESS_EVERY_SECONDS:
                told_s = time.monotonic()
                self._send({"progress": len(answers)})
        joined = join([(1, answer) for answer in answers], self._outputs)
        with tempfile.TemporaryDirectory() as folder:
            local = [Path(folder) / f"outputs-{number}.npy" for number in range(len(joined))]
            hashes = write_examples([str(path) for path in local], joined)
            for path, there in zip(local, outputs, strict=True):
                self.adb.push([path], there)
        return {"sha256": hashes}

    def do_time(self, *, inputs: list[str], runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """One launch on the files' first example: up to `runs` inferences, of `seconds` at most."""
        there = [self.there(f"time-{number}.in") for number in range(len(self._inputs))]
        self._push([array[0] for array in self._examples(inputs)], there)
        output = parse_benchmark_output(self.run(self.call(
            *self._flags(), *self._feed(there), f"--num_runs={runs}", "--min_secs=0", f"--max_secs={seconds:g}",
            f"--warmup_runs={discarded}", "--warmup_min_secs=0",
        )))
        self.remove(*there)
        summary = dataclasses.asdict(output.timed)
        del summary["first_ms"]  # of the timed runs, not of the process
        return {"samples_ns": [], "first_ms": self._first_ms, "summary": summary}

    def do_plan(self) -> dict[str, Any]:
        """No plan, but what the tool said of delegates."""
        ignored = (self._not_measured,) if self._not_measured else ()
        return {"plan": None, "notes": [*self._notes, *ignored]}

    def do_memory(self) -> dict[str, Any]:
        """The process's peak, in a launch of its own: watching it disturbs the times."""
        output = parse_benchmark_output(self.run(self.call(
            *self._flags(), "--num_runs=1", f"--min_secs={MEMORY_SECONDS}", "--warmup_runs=0", "--warmup_min_secs=0",
            "--report_peak_memory_footprint=true", f"--memory_footprint_check_interval_ms={MEMORY_INTERVAL_MS}",
        )))
        return {"peak_memory_bytes": output.peak_memory_bytes}

    def _flags(self) -> tuple[str, ...]:
        return f"--graph={self.path}", f"--num_threads={self.threads}"

    def _feed(self, there: Sequence[str]) -> tuple[str, ...]:
        """The flags for one example, a file of raw bytes per input, in the model's order."""
        names = [f"{LAYER}{number}" for number in range(len(there))]
        shapes = [",".join(str(size) for size in item["shape"]) for item in self._inputs]
        files = [f"{name}:{path}" for name, path in zip(names, there, strict=True)]
        return (
            f"--input_layer={','.join(names)}", f"--input_layer_shape={':'.join(shapes)}",
            f"{INPUT_FLAG}={','.join(files)}",
        )

    def _examples(self, inputs: list[str], sha256: list[str] | None = None) -> list[np.ndarray]:
        """Return the arrays of the .npy files on the device, of shape (examples, ...). Raises ValueError."""
        with tempfile.TemporaryDirectory() as folder:
            local = [str(Path(folder) / f"{number}.npy") for number in range(len(inputs))]
            for there, path in zip(inputs, local, strict=True):
                self.adb.pull([there], Path(path))
            arrays = [np.array(array) for array in read_examples(local, self._inputs, sha256)]
        for array, item in zip(arrays, self._inputs, strict=True):
            expected, found = (*_one_example(item["shape"]), item["dtype"]), (*array.shape[1:], array.dtype.name)
            if found != expected:
                raise ValueError(f"{item['name']}: expected examples of shape and type {expected}, found {found}")
        return arrays

    def _run_batch(self, arrays: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Return the outputs of each example."""
        examples = range(len(arrays[0]))
        sources = [[self.there(f"{index}-{number}.in") for number in range(len(arrays))] for index in examples]
        results = [self.there(f"{index}.out") for index in examples]
        pushed = [path for paths in sources for path in paths]
        self._push([array[index] for index in examples for array in arrays], pushed)
        self.run("\n".join(
            self.call(*self._flags(), *self._feed(source), *RUN_ONCE, f"{OUTPUT_FLAG}={result}") + " || exit $?"
            for source, result in zip(sources, results, strict=True)
        ))
        with tempfile.TemporaryDirectory() as folder:
            self.adb.pull(results, Path(folder))
            answers = [self._answer(Path(folder) / Path(result).name) for result in results]
        self.remove(*pushed, *results)
        return answers

    def _push(self, examples: Sequence[np.ndarray], there: Sequence[str]) -> None:
        """Raw bytes, without a header, to files of these names in our folder."""
        with tempfile.TemporaryDirectory() as folder:
            local = [Path(folder) / Path(path).name for path in there]
            for example, path in zip(examples, local, strict=True):
                path.write_bytes(example.tobytes())
            self.adb.push(local, str(Path(there[0]).parent) + "/")

    def _answer(self, local: Path) -> list[np.ndarray]:
        """Return the outputs of one example, which the tool writes one behind the other. Raises ToolFailed."""
        dtypes = [np.dtype(item["dtype"]) for item in self._outputs]
        sizes = [
            math.prod(item["shape"]) * dtype.itemsize for item, dtype in zip(self._outputs, dtypes, strict=True)
        ]
        content = local.read_bytes()
        if len(content) != sum(sizes):
            shapes = ", ".join(f"{item['dtype']}, shape {tuple(item['shape'])}" for item in self._outputs)
            raise ToolFailed(f"expected outputs of {sum(sizes)} bytes ({shapes}), found {len(content)} bytes")
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        return [
            np.frombuffer(content[start : start + size], dtype).reshape(item["shape"])
            for start, size, dtype, item in zip(starts, sizes, dtypes, self._outputs, strict=True)
        ]


def _one_example(shape: Sequence[int]) -> tuple[int, ...]:
    """Return an input's shape without its batch axis of 1, if it has one."""
    return tuple(shape[1:] if shape[:1] == [1] else shape)


if __name__ == "__main__":
    main(BenchmarkModel)
