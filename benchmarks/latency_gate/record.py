"""Record launches: every arm in a fresh process, all taking turns in the same seconds, as `edgeship compare` does.

    python benchmarks/latency_gate/record.py digits onnx --out DIR --launches 120 [--load] [--arms base,+5]

DIR is what build.py wrote. One line of JSON per launch is appended to DIR/SIZE/FORMAT[-load].jsonl, so it can be
stopped and continued. The baseline takes part twice ("base", "base2"), for comparisons of identical files. --load keeps
a second process busy with matrix products meanwhile, wherever the system puts it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgeship.core.progress import say, track
from edgeship.validate.compare.arms import pair_arms, save_example
from edgeship.validate.compare.pilot import make_plan
from edgeship.validate.targets.target import Target
from edgeship.validate.timing.launches import Bench, Contender, launch

RUNTIMES = {"tflite": "litert", "onnx": "onnxruntime"}


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size")
    parser.add_argument("format", choices=RUNTIMES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--launches", type=int, required=True, help="in all, with those recorded before")
    parser.add_argument("--arms", help="only these, with commas (default: all that were built)")
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--name", help="of the recording (default: FORMAT or FORMAT-load)")
    options = parser.parse_args()
    folder = options.out / options.size
    files = {path.stem: path for path in sorted(folder.glob(f"*.{options.format}"))}
    if options.arms:
        files = {name: files[name] for name in options.arms.split(",")}
    files = {**files, "base2": files["base"]}
    record = folder / f"{options.name or options.format + ('-load' if options.load else '')}.jsonl"
    with second_process() if options.load else nothing():
        record_launches(files, options.format, record, launches=options.launches)


def record_launches(files: dict[str, Path], format_: str, record: Path, *, launches: int) -> None:
    """Append launches to `record` until there are so many."""
    done = len(record.read_text().splitlines()) if record.exists() else 0
    pair = pair_arms(files["base"], files["base"]).pairs[0]
    assert pair.inputs is not None
    inputs = tuple(map(str, save_example(record.parent, record.stem, pair.example(pair.inputs))))
    contenders = {name: Contender(label=name, path=str(path), inputs=inputs) for name, path in files.items()}
    bench = Bench(
        target=Target(), runtime=RUNTIMES[format_], threads=1, cpus=tuple(sorted(os.sched_getaffinity(0))),
        timeout_seconds=600,
    )
    plan = make_plan(
        {name: contenders[name] for name in ("base", "base2")}, bench, order=random.Random(done)
    )
    say(f"{record.name}: {plan}")
    order = random.Random(1000 + done)
    for _ in track(range(done, launches), label=record.name, total=launches - done):
        started_s = time.time()
        observed = launch(contenders, bench, rounds=plan.rounds, inferences=plan.inferences, order=order)
        line = {
            "started_at": started_s, "seconds": time.time() - started_s, "core": observed.core,
            "canary_ns": observed.canary_ns, "plan": dataclasses.asdict(plan), "load_average": os.getloadavg()[0],
            "sides": {name: dataclasses.asdict(side) for name, side in observed.sides.items()},
        }
        with record.open("a") as stream:
            stream.write(json.dumps(line) + "\n")


@contextmanager
def second_process() -> Iterator[None]:
    """A process that multiplies matrices all the time, on one thread, bound to no core."""
    process = multiprocessing.get_context("spawn").Process(target=_multiply, args=(os.getpid(),), daemon=True)
    process.start()
    time.sleep(3)  # until it is at work
    try:
        yield
    finally:
        process.kill()
        process.join()


@contextmanager
def nothing() -> Iterator[None]:
    """No second process."""
    yield


def _multiply(parent: int) -> None:
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    from threadpoolctl import threadpool_limits

    matrix = np.random.default_rng(0).random((512, 512))
    with threadpool_limits(1):
        while os.getppid() == parent:  # it must not outlive a recording that was killed
            matrix = matrix @ matrix
            matrix /= np.abs(matrix).max()


if __name__ == "__main__":
    main()
