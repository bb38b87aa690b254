"""The rows of a target, timed on one example of all inputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgeship.core.config import ValidateConfig
from edgeship.validate.subject.bundle import load_bundle
from edgeship.validate.subject.rows import candidates
from edgeship.validate.targets.target import Target
from edgeship.validate.timing.times import measure_times


def test_every_runtime_is_timed_on_all_inputs(two_ends_bundle: Path, fast: ValidateConfig, tmp_path: Path) -> None:
    bundle = load_bundle(two_ends_bundle)
    config = dataclasses.replace(fast, runtimes=("keras", "litert", "onnxruntime"))
    rows = candidates(bundle, config, [Target()])
    found = measure_times(rows, bundle.golden.inputs, config, folder=tmp_path)
    assert set(found) == {row.label for row in rows} and len(rows) == 5  # float Keras, and two files of each format
    for row in rows:
        timed = found[row.label]
        assert timed.error is None and timed.latency is not None and timed.latency.mean_ms > 0
        assert (timed.profile is not None) == (row.runtime != "keras") and timed.note is None
    assert sorted(path.name for path in tmp_path.glob("latency-0-*")) == ["latency-0-0.npy", "latency-0-1.npy"]
