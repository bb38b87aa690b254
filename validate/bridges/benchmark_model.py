"""The bridge to TensorFlow Lite's `benchmark_model` on an adb device: what a phone app's runtime does, without an app.

    python -P -m edgeship.validate.bridges.benchmark_model \
        --adb ADB --serial SERIAL --name adb --binary THERE --folder THERE

Each launch loads the model anew, so a launch is one observation of the time, and it keeps its samples to itself.
Outputs come from a build that knows `--output_filepath` (TensorFlow Lite's, since 2022; LiteRT's own build of the
tool has no input files, so it tells times only).
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.files import sha256_of_file
from edgeship.validate.bridges.benchmark_output import delegate_notes, parse_benchmark_output
from edgeship.validate.bridges.tool_bridge import ToolBridge, ToolFailed, main
from edgeship.validate.runner.session import PROGRESS_EVERY_SECONDS

BATCH = 16  # images for which one push, one script and one pull are made: each costs tens of milliseconds over USB
LAYER = "image"  # the name in the flags need not be the tensor's, and this one needs no escaping
# --min_secs would raise the number of runs, and its default is a second.
RUN_ONCE = ("--num_runs=1", "--min_secs=0", "--warmup_runs=0", "--warmup_min_secs=0")
OUTPUT_FLAG, INPUT_FLAG = "--output_filepath", "--input_layer_value_files"
MEMORY_SECONDS, MEMORY_INTERVAL_MS = 1, 5  # the tool looks at its memory every 50 ms if not told otherwise


class BenchmarkModel(ToolBridge):
    """A .tflite file, batch 1, on the kernels that an application gets by default."""

    def do_load(
        self, *, runtime: str, path: str, options: dict[str, Any], sha256: str | None = None
    ) -> dict[str, Any]:
        """Run it once on the tool's own random input; `options` has the input and output, which it cannot tell."""
        self.check(path, sha256)
        self.path, self.threads = path, int(options["threads"])
        self._input, self._output = options["input"], options["output"]
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

    def do_run(self, *, inputs: str, outputs: str, sha256: str | None = None) -> dict[str, Any]:
        """Run all images of an .npy file on the device, in launches of their own; answer the outputs' hash."""
        if self._not_measured is not None:
            return {"not_measured": self._not_measured}
        images = self._images(inputs, sha256)
        rows: list[np.ndarray] = []
        told_s = time.monotonic()
        for start in range(0, len(images), BATCH):
            rows += self._run_batch(images[start : start + BATCH])
            if time.monotonic() - told_s >= PROGRESS_EVERY_SECONDS:
                told_s = time.monotonic()
                self._send({"progress": len(rows)})
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "outputs.npy"
            np.save(local, np.concatenate(rows), allow_pickle=False)
            self.adb.push([local], outputs)
            return {"sha256": sha256_of_file(local)}

    def do_time(self, *, inputs: str, runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """One launch on the file's first image: up to `runs` inferences, of `seconds` at most."""
        there = self.there("time.in")
        self._push([self._images(inputs, None)[0]], [there])
        output = parse_benchmark_output(self.run(self.call(
            *self._flags(), *self._feed(there), f"--num_runs={runs}", "--min_secs=0", f"--max_secs={seconds:g}",
            f"--warmup_runs={discarded}", "--warmup_min_secs=0",
        )))
        self.remove(there)
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

    def _feed(self, there: str) -> tuple[str, ...]:
        shape = ",".join(str(size) for size in self._input["shape"])
        return f"--input_layer={LAYER}", f"--input_layer_shape={shape}", f"{INPUT_FLAG}={LAYER}:{there}"

    def _images(self, inputs: str, sha256: str | None) -> np.ndarray:
        """The images of an .npy file on the device, shape (images, S, S, C)."""
        images = self.read_array(inputs, sha256)
        expected = (*self._input["shape"][1:], self._input["dtype"])
        found = (*images.shape[1:], images.dtype.name)
        if found != expected:
            raise ValueError(f"expected images of shape and type {expected}, found {found}")
        return images

    def _run_batch(self, images: np.ndarray) -> list[np.ndarray]:
        """Outputs of shape (1, classes), one for each image."""
        sources = [self.there(f"{index}.in") for index in range(len(images))]
        results = [self.there(f"{index}.out") for index in range(len(images))]
        self._push(list(images), sources)
        self.run("\n".join(
            self.call(*self._flags(), *self._feed(source), *RUN_ONCE, f"{OUTPUT_FLAG}={result}") + " || exit $?"
            for source, result in zip(sources, results, strict=True)
        ))
        with tempfile.TemporaryDirectory() as folder:
            self.adb.pull(results, Path(folder))
            rows = [self._row(Path(folder) / Path(result).name) for result in results]
        self.remove(*sources, *results)
        return rows

    def _push(self, images: Sequence[np.ndarray], there: Sequence[str]) -> None:
        """Raw bytes, without a header, to files of these names in our folder."""
        with tempfile.TemporaryDirectory() as folder:
            local = [Path(folder) / Path(path).name for path in there]
            for image, path in zip(images, local, strict=True):
                path.write_bytes(image.tobytes())
            self.adb.push(local, str(Path(there[0]).parent) + "/")

    def _row(self, local: Path) -> np.ndarray:
        shape, dtype = self._output["shape"], np.dtype(self._output["dtype"])
        content, expected = local.read_bytes(), int(np.prod(shape)) * dtype.itemsize
        if len(content) != expected:
            raise ToolFailed(
                f"expected an output of {expected} bytes ({self._output['dtype']}, shape {tuple(shape)}), found "
                f"{len(content)} bytes"
            )
        return np.frombuffer(content, dtype).reshape(shape)


if __name__ == "__main__":
    main(BenchmarkModel)
