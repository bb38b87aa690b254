"""What a reader of the report should know and no gate judges, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import RuntimeFailure
from edgeship.core.measurement import Row
from edgeship.core.variants import PROCESSORS
from edgeship.validate.process.visits import Visit
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.subject.bundle import Bundle
from edgeship.validate.subject.rows import Candidate, row_label
from edgeship.validate.timing.speedup import FEWEST_LAUNCHES

CROWDED = 1.10  # wall time over CPU time of one thread; alone it is 0.97 to 1.03


def limited_images(bundle: Bundle, images: int) -> Iterator[str]:
    """Not the whole test split was used."""
    split = bundle.manifest.splits.get("test")
    whole = images if split is None else split["images"]
    if images < whole:
        yield f"validate.images: only the first {images:,} of {whole:,} test examples were used"


def artifacts_not_run(bundle: Bundle, rows: Sequence[Candidate], visits: Sequence[Visit]) -> Iterator[str]:
    """An artifact that a target has no runtime for."""
    for visit in visits:
        run = {row.name for row in rows if row.target is visit.target}
        for artifact in bundle.manifest.artifacts:
            if artifact.name in run:
                continue
            floats = [name for name in visit.target.runtimes if RUNTIMES[name].float_tensors_only]
            if floats and artifact.format in RUNTIMES[floats[0]].takes:
                dtype = artifact.inputs[0].dtype
                why = f"{floats[0]} takes no {dtype} inputs; export.tflite_io makes a file with float32 ones"
            else:
                why = f"validate.runtimes has none there for {artifact.format} files"
            yield f"{artifact.name}: not run on {visit.target.name}, since {why}"


def made_for_others(rows: Sequence[Row], processors: Mapping[str, str | None]) -> Iterator[str]:
    """A file on a processor that it is not made for."""
    for row in rows:
        processor = processors.get(row.target)
        if row.for_others is not None and processor is not None:
            found = PROCESSORS[processor]
            yield (
                f"{row_label(row.artifact, row.runtime, row.target)}: made for {row.for_others}; on "
                f"{row.target}, {found.words}, the verdict does not depend on it: {found.reason}"
            )


def pinning(config: ValidateConfig, rows: Sequence[Row]) -> Iterator[str]:
    """Where latency was measured, and whose latency was not."""
    if config.cpus:
        yield f"validate.cpus: latency was measured on processors {', '.join(map(str, config.cpus))}"
        for runtime in dict.fromkeys(row.runtime for row in rows if not RUNTIMES[row.runtime].by_runner):
            yield f"validate.cpus: no effect on {runtime}, whose processes are not ours to bind"


def few_launches(config: ValidateConfig, rows: Sequence[Row]) -> Iterator[str]:
    """Speed-ups without an interval."""
    if config.latency_launches < FEWEST_LAUNCHES and any(
        row.latency is not None and row.latency.speedup is not None for row in rows
    ):
        yield (
            f"validate.latency_launches: a speed-up's 95 % interval needs {FEWEST_LAUNCHES} launches, found "
            f"{config.latency_launches}"
        )


def not_sustained(config: ValidateConfig, rows: Sequence[Candidate]) -> Iterator[str]:
    """Rows that users run and whose sustained speed was asked for, but cannot be measured."""
    if config.sustained_seconds is None:
        return
    for row in rows:
        if row.reported and row.kind.production and not row.target.measures_time:
            yield f"{row.label}: sustained speed not measured: the processor is emulated"
        elif row.reported and row.kind.production and not row.kind.by_runner:
            yield f"{row.label}: sustained speed not measured: its process is not ours to keep running"


def crowded(rows: Sequence[Row]) -> Iterator[str]:
    """Targets whose wall times are too long."""
    for target in dict.fromkeys(row.target for row in rows):
        ratios = [
            row.latency.wall_per_cpu for row in rows
            if row.target == target and row.threads == 1 and row.latency is not None
            and row.latency.wall_per_cpu is not None
        ]
        if ratios and median(ratios) > CROWDED:
            yield (
                f"{target}: others had the processors too while latency was measured (wall time was "
                f"{median(ratios):.1f} times CPU time), so the milliseconds are too long; speed-ups compare CPU time; "
                "measure again when nothing else runs"
            )


def missing_baselines(rows: Sequence[Candidate], errors: Mapping[str, RuntimeFailure]) -> Iterator[str]:
    """A row of another target that could not be compared with this machine's."""
    for row in rows:
        if not row.reported and row.label in errors:
            yield f"not compared with this machine: {errors[row.label]}"


def parts_missing(rows: Sequence[Candidate]) -> Iterator[str]:
    """Rows that need a part of edgeship which is not installed."""
    for row in rows:
        if row.part_missing is not None:
            yield f"{row.label}: not measured: {row.part_missing}; the verdict is that of the other rows"
