"""Real checks, end to end: `edgeship compare` of identical networks and of a slower one; verdicts and seconds.

    python -m benchmarks.latency_gate.checks digits onnx --out DIR --checks 12 [--load] [--slower onnx+5]

Appends to DIR/SIZE/checks.jsonl. The exact gates are off (--no-exact): they would find the slower file before any
timing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.latency_gate.record import nothing, second_process


def main() -> None:
    """Check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size")
    parser.add_argument("format", choices=("tflite", "onnx"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checks", type=int, required=True, help="of each of the two pairs")
    parser.add_argument("--slower", default="+5", help="the arm that is slower")
    parser.add_argument("--load", action="store_true")
    options = parser.parse_args()
    folder = options.out / options.size
    base, slower = (folder / f"{name}.{options.format}" for name in ("base", options.slower))
    with second_process() if options.load else nothing():
        for number in range(options.checks):
            for arm, candidate in (("same", same_network(base)), (options.slower, slower)):
                found = check(base, candidate, seed=number)
                line = {"format": options.format, "load": options.load, "arm": arm, **found}
                print(line)
                with (folder / "checks.jsonl").open("a") as stream:
                    stream.write(json.dumps(line) + "\n")


def check(base: Path, candidate: Path, *, seed: int) -> dict[str, object]:
    """One `edgeship compare`."""
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [sys.executable, "-c", "from edgeship.app.cli.main import entry_point; entry_point()", "compare", str(base),
             str(candidate), "--no-exact", "--seed", str(seed), "--out", out],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
        )
        found = json.loads((Path(out) / "comparison.json").read_text())
    timing = found["checks"][0]["timing"]
    return {
        "verdict": found["verdict"], "seconds": found["seconds"], "launches": timing["launches"],
        "ratio": timing["ratio"], "metric": timing["metric"], "smallest_detectable": timing["smallest_detectable"],
    }


def same_network(base: Path) -> Path:
    """The same network in other bytes, so that it is run and not passed as identical."""
    copy = base.with_name(f"same{base.suffix}")
    if base.suffix == ".tflite":
        copy.write_bytes(base.read_bytes() + b"\0" * 16)
    else:
        import onnx

        model = onnx.load(base)
        model.doc_string = "the same network"
        onnx.save(model, copy)
    return copy


if __name__ == "__main__":
    main()
