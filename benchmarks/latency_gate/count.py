"""Instructions per inference of every arm on an emulated cortex-a76, and the ratio to "base".

    python benchmarks/latency_gate/count.py digits --out DIR    after `edgeship setup arm64`

It writes DIR/SIZE/counts.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from edgeship.core.files import write_json
from edgeship.validate.compare.arms import pair_arms, save_example
from edgeship.validate.targets.arm64 import Arm64Target
from edgeship.validate.timing.times import instructions_of

RUNTIMES = {"tflite": "litert", "onnx": "onnxruntime"}


def main() -> None:
    """Count what is not counted yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    folder = options.out / options.size
    record = folder / "counts.json"
    counts = json.loads(record.read_text()) if record.exists() else {}
    for path in sorted(path for suffix in RUNTIMES for path in folder.glob(f"*.{suffix}")):
        if path.name not in counts:
            counts[path.name] = count(path)
            write_json(record, counts)
        base = counts.get(f"base{path.suffix}", counts[path.name])
        print(f"{path.name}: {counts[path.name]:,} instructions ({counts[path.name] / base - 1:+.2%})")


def count(path: Path) -> int:
    """Guest instructions of one inference."""
    runtime = RUNTIMES[path.suffix[1:]]
    pair = pair_arms(path, path).pairs[0]
    assert pair.inputs is not None
    with tempfile.TemporaryDirectory() as temporary, Arm64Target("arm64:cortex-a76") as target:
        inputs = save_example(Path(temporary), "input", pair.example(pair.inputs))
        return instructions_of(
            label=path.name, path=path, runtime=runtime, target=target, inputs=inputs, timeout_seconds=600,
            folder=Path(temporary),
        )


if __name__ == "__main__":
    main()
