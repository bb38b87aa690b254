"""edgeship's best int8 files beside everybody else's on the families of docs/families.md, a line for each.

    python -m benchmarks.peer_families [NAME ...] [--times LAUNCHES] [--weight-scales per-tensor]

The files are those of benchmarks/peer_files.py, which says what each is; the networks have random weights and a head
that tells ten kinds of patterns apart (benchmarks/networks/images.py). Per format: signal to noise against the float
model of edgeship's best and min-max files and of the best file of each other tool; whether edgeship's best is first or
within 0.2 dB of it. `--times` adds the int8 file that takes least time, edgeship's best aside, and its time over that
of edgeship's best.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator

from benchmarks import mlperf_tiny
from benchmarks.networks import families
from benchmarks.networks.images import inputs_of, largest_pixel
from benchmarks.peer_files import BEST, MIN_MAX, best_onnx, closeness, files_of, ratios_of
from benchmarks.ptq_best import CALIBRATION, Work
from edgeship.core.config import PER_CHANNEL, PER_TENSOR
from edgeship.core.errors import EdgeshipError
from edgeship.core.progress import say

TESTS, BATCH = 500, 20
WITHIN_DB = 0.2
PEERS = {"tflite": ("converter", "litert-quantizer"), "onnx": ("ort u8u8", "ort u8s8")}
HEAD = "| network | format | edgeship best | edgeship min-max | others | first, or within 0.2 dB |"
TIME_HEAD = " fastest other int8 file |"


def main() -> None:
    """Measure the families named, or all that take one image and give one answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {'; '.join(families.FAMILIES)}")
    parser.add_argument("--times", type=int, metavar="LAUNCHES", help="launches per runtime, 6 at the least")
    parser.add_argument("--weight-scales", choices=(PER_CHANNEL, PER_TENSOR), default=PER_CHANNEL)
    options = parser.parse_args()
    print(mlperf_tiny.opening(HEAD + (TIME_HEAD if options.times else "")), flush=True)
    for name in options.names or families.FAMILIES:
        model = families.build(name)
        if len(model.inputs) > 1 or len(model.outputs) > 1:
            say(f"{name}: not measured: several inputs or outputs")
            continue
        work = Work(
            name=name, model=model, calibration=inputs_of(model, CALIBRATION, seed=3),
            tests=inputs_of(model, TESTS, seed=4), input_range=(0.0, largest_pixel(model)),
            weight_scales=options.weight_scales,
        )
        try:
            print("\n".join(rows_of(work, launches=options.times)), flush=True)
        except EdgeshipError as error:
            print(f"| {name} | refused: {error} |", flush=True)


def rows_of(work: Work, *, launches: int | None) -> Iterator[str]:
    """Yield a network's lines, one per format."""
    wanted = work.model.predict(work.tests, batch_size=BATCH, verbose=0)
    files = [item for item in files_of(work, None) if item[0] != "float"]
    found = {(name, format): _db(closeness(work, wanted, format, content)[0]) for name, format, content in files}
    times = ratios_of(work, files, launches=launches) if launches else {}
    for format, own in (("tflite", BEST), ("onnx", best_onnx())):
        of_format = {name: db for (name, form), db in found.items() if form == format}
        others = {
            peer: max((db for name, db in of_format.items() if name.startswith(peer)), default=None)
            for peer in PEERS[format]
        }
        best = found[own, format]
        first = best >= max((db for db in others.values() if db is not None), default=-math.inf) - WITHIN_DB
        cells = [
            work.name, format, _text(best), _text(found[MIN_MAX, format]),
            ", ".join(f"{peer} {_text(db)}" for peer, db in others.items()), "yes" if first else "no",
        ]
        if times:
            rest = {key: ratio for key, ratio in times.items() if key[1] == format and not key[0].startswith(BEST)}
            fastest = min(rest, key=lambda key: rest[key].center)
            cells.append(f"{fastest[0]}: {rest[fastest]}")
        yield f"| {' | '.join(cells)} |"


def _db(value: float | None) -> float:
    return math.inf if value is None else value


def _text(value: float | None) -> str:
    return "no file" if value is None else "exact" if value == math.inf else f"{value:.1f}"


if __name__ == "__main__":
    main()
