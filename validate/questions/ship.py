"""Which file to ship where, and is it good enough there: one line per place.

The same network goes everywhere: the int8 scheme whose answers are the nearest to float Keras's, as measured. Of its
files each place gets the one that is exact there and usually the fastest (edgeship/core/variants.py), unless another
exact one was measured to be faster there, since that depends on the network too. Its accuracy is that of a row at the
place or, since exact kernels give the same integers, of a row elsewhere. Its speed is against the float32
file of the same runtime, and of rows at the place alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgeship.core.artifact import Artifact, Manifest
from edgeship.core.config import ValidateConfig
from edgeship.core.measurement import Row
from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES
from edgeship.core.ship import BY_TIME, ShipLine
from edgeship.core.variants import FIXED_KERNELS, has_fixed_kernels, is_for, variant_of, variants_on
from edgeship.validate.questions.difference import difference_of
from edgeship.validate.questions.findings import FAIL, INCONCLUSIVE, PASS, REFUSED, label_of, worst
from edgeship.validate.questions.gains import Gain, gain_of
from edgeship.validate.questions.gate import verdict_of
from edgeship.validate.questions.places import PLACES, Place
from edgeship.validate.questions.speed_gate import speed_verdict
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.subject.processors import cannot_saturate
from edgeship.validate.subject.rows import CPU
from edgeship.validate.targets.target import DEVICE, EMULATED, NATIVE

FLOAT, TFLITE, TOP1, ORT = "float32", "tflite", "top1", "onnxruntime"
KINDS = (DEVICE, NATIVE, EMULATED)  # a time says more than instructions do
ARM, VNNI, LITERT = "arm64", "x86-vnni", "litert"
# Instructions are no time: a file that executes up to 5 % more of them may take as long.
MORE_INSTRUCTIONS = 1.05


@dataclass(frozen=True, kw_only=True)
class Faster:
    """A file that was measured to be faster at a place than the one that usually is."""

    artifact: Artifact
    gain: Gain
    usual: str
    target: str

    def __str__(self) -> str:
        if self.gain.by == BY_TIME:
            return f"{self.gain.ratio:.2f} times as fast as {self.usual} on {self.target}"
        return f"{1 - 1 / self.gain.ratio:.0%} fewer instructions than {self.usual} on {self.target}"


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What was measured of a bundle, which the lines are made from."""

    manifest: Manifest
    rows: Sequence[Row]
    config: ValidateConfig
    processors: Mapping[str, str | None]  # the class of each target's processor
    versions: Mapping[str, Mapping[str, str | None]]  # of each target's packages
    wrong: Collection[str] = ()  # the files whose answers fail here
    scored: bool = True  # accuracy was to be measured
    float_guesses: bool = False  # then no file's accuracy is proven (chance.py)

    def rows_of(self, file: str) -> list[Row]:
        """Return a file's rows on runtimes that users have, on processors that it is made for."""
        return [
            row for row in self.rows
            if row.artifact == file and row.for_others is None and RUNTIMES[row.runtime].production
        ]

    def is_at(self, row: Row, place: Place) -> bool:
        """Whether a row was measured at a place."""
        return row.runtime in place.runtimes and place.processor in (None, self.processors.get(row.target))


def what_to_ship(found: Measurements) -> tuple[ShipLine, ...]:
    """Return a line for each place that the bundle has files for, in the order of the places."""
    scheme = best_scheme(found)
    formats = {item.format for item in found.manifest.artifacts if item.scheme == scheme}
    lines = []
    for name, place in PLACES.items():
        artifact, better = _file_for(place, scheme, found.manifest)
        if artifact is not None:
            faster = _measured_faster(place, artifact, found)
            file = artifact if faster is None else faster.artifact
            lines.append(_line(name, place, file, found, missing=better, faster=faster))
        elif place.format in formats and place.processor is not None:
            lines.append(_nothing(name, place, better))
    return tuple(lines)


def best_scheme(found: Measurements) -> str:
    """Return the scheme to ship: int8 where there is one; of several the one that fails nothing and is most accurate.

    Where nothing was scored, and between equals, the signal to noise against float Keras decides.
    """
    schemes = list(dict.fromkeys(item.scheme for item in found.manifest.artifacts))
    groups = (
        [name for name in schemes if SCHEMES[name].source == FAKE_QUANTIZED],
        [name for name in schemes if SCHEMES[name].quantizes_weights],
        [name for name in schemes if name != FLOAT],
    )
    return max(next((group for group in groups if group), schemes), key=lambda name: _merit(name, found))


def _merit(scheme: str, found: Measurements) -> tuple[bool, bool, float, float]:
    """What schemes are compared by: it ran, it does not fail, its least accuracy and least SQNR against float Keras."""
    every = [
        row for item in found.manifest.artifacts if item.scheme == scheme for row in found.rows_of(item.name)
    ]
    rows = [row for row in every if row.target == CPU] or every
    differences = [item.value for row in rows if (item := difference_of(row, found.config)) is not None]
    noise = [row.parity.sqnr_db for row in rows if row.parity is not None and row.parity.sqnr_db is not None]
    fails = verdict_of(rows, found.config, scored=found.scored) == FAIL
    fails = fails or bool({row.artifact for row in rows} & {*found.wrong})
    return bool(rows), not fails, min(differences, default=0.0), min(noise, default=0.0)


def _file_for(place: Place, scheme: str, manifest: Manifest) -> tuple[Artifact | None, str | None]:
    """Return the bundle's best file for a place, and the variant that would be better; None: there is no such."""
    files = [item for item in manifest.artifacts if item.scheme == scheme and item.format == place.format]
    if SCHEMES[scheme].source != FAKE_QUANTIZED or place.processor is None:
        fitting = [item for item in files if not place.float_inputs or item.inputs[0].dtype == FLOAT]
        return next(iter(fitting), None), None
    by_variant = {variant_of(item.name, scheme): item for item in reversed(files)}
    best = variants_on(place.processor)[0]
    for name in variants_on(place.processor, cannot_saturate=True):
        artifact = by_variant.get(name)
        small = artifact is not None and cannot_saturate(artifact, manifest)
        if artifact is not None and is_for(name, place.processor, cannot_saturate=small):
            fastest = name in (best, variants_on(place.processor, cannot_saturate=small)[0])
            return artifact, None if fastest else best
    return None, best


def _measured_faster(place: Place, usual: Artifact, found: Measurements) -> Faster | None:
    """Return the file of the same integers that is exact at a place and the fastest of those measured there."""
    if place.processor is None or SCHEMES[usual.scheme].source != FAKE_QUANTIZED:
        return None
    faster: list[Faster] = []
    for item in found.manifest.artifacts:
        if (item.scheme, item.format) != (usual.scheme, usual.format) or item.name == usual.name:
            continue
        exact = is_for(
            variant_of(item.name, item.scheme), place.processor, cannot_saturate=cannot_saturate(item, found.manifest)
        )
        rows = [row for row in found.rows_of(item.name) if found.is_at(row, place)] if exact else []
        row, gain = _gain(rows, usual, found)
        if row is not None and gain is not None and _is_faster(gain):
            faster.append(Faster(artifact=item, gain=gain, usual=usual.name, target=row.target))
    return max(faster, key=lambda item: item.gain.ratio, default=None)


def _is_faster(gain: Gain) -> bool:
    return gain.ratio > MORE_INSTRUCTIONS if gain.interval is None else gain.interval[0] > 1


def _nothing(name: str, place: Place, variant: str | None) -> ShipLine:
    return ShipLine(
        place=name, words=place.words, runtime=place.runtimes[0], file=None, scheme=None, size_bytes=None,
        float_file=None, size_share=None, metric=None, delta=None, delta_ci95=None, accuracy_of=None, speedup=None,
        speedup_ci95=None, speedup_by=None, speedup_of=None, speedup_missing=None, slower=False, verdict=REFUSED,
        why=f"no file of the bundle is exact there; add {variant} to export.onnx_variants",
    )


def _line(
    name: str, place: Place, artifact: Artifact, found: Measurements, *, missing: str | None, faster: Faster | None
) -> ShipLine:
    floats = [item for item in found.manifest.artifacts if (item.scheme, item.format) == (FLOAT, place.format)]
    sibling = next(iter(floats), None)
    here = [row for row in found.rows_of(artifact.name) if found.is_at(row, place)]
    proof = _proof(artifact, here, found)
    row, gain = _gain(here, sibling, found)
    metric, delta, interval = _accuracy(proof)
    judged = [*(here or found.rows_of(artifact.name)), *([] if proof is None else [proof])]
    verdict = worst(
        REFUSED if not judged else verdict_of(judged, found.config, scored=found.scored),
        FAIL if artifact.name in found.wrong else PASS,
        INCONCLUSIVE if found.float_guesses else PASS,
        PASS if gain is None or gain.by != BY_TIME else speed_verdict(gain.ratio, gain.interval, found.config),
    )
    return ShipLine(
        place=name, words=place.words, runtime=place.runtimes[0] if row is None else row.runtime, file=artifact.name,
        scheme=artifact.scheme, size_bytes=artifact.size_bytes,
        float_file=None if sibling is None else sibling.name,
        size_share=None if sibling is None else artifact.size_bytes / sibling.size_bytes,
        metric=metric, delta=delta, delta_ci95=interval, accuracy_of=None if proof is None else label_of(proof),
        speedup=None if gain is None else gain.ratio, speedup_ci95=None if gain is None else gain.interval,
        speedup_by=None if gain is None else gain.by, speedup_of=None if row is None else label_of(row),
        speedup_missing=None if gain is not None else _why_not(place, here, artifact, sibling),
        slower=gain is not None and gain.is_loss, verdict=verdict,
        why="; ".join(_why(
            name, artifact, here, row=row, gain=gain, missing=missing, found=found,
            reason=place.reason if faster is None else str(faster),
        )),
    )


def _proof(artifact: Artifact, here: Sequence[Row], found: Measurements) -> Row | None:
    """Return the row that says how accurate a file is: at the place, elsewhere, or of the same integers elsewhere."""
    family = [
        item.name for item in found.manifest.artifacts
        if item.scheme == artifact.scheme and (item.format == TFLITE) == (artifact.format == TFLITE)
    ]
    rows = [*here, *found.rows_of(artifact.name), *(row for name in family for row in found.rows_of(name))]
    if not found.scored:
        return next((row for row in rows if row.error is None), None)
    return next((row for row in rows if difference_of(row, found.config) is not None), None)


def _accuracy(proof: Row | None) -> tuple[str | None, float | None, tuple[float, float] | None]:
    """Return the metric, the difference from float Keras and its interval."""
    if proof is None:
        return None, None, None
    if proof.score is not None:
        return proof.score.metric, proof.score.delta, proof.score.delta_ci95
    if proof.accuracy is not None:
        return TOP1, proof.accuracy.delta, proof.accuracy.delta_ci95
    return None, None, None


def _gain(here: Sequence[Row], sibling: Artifact | None, found: Measurements) -> tuple[Row | None, Gain | None]:
    """Return the row whose speed says the most of the place, and its gain over the float file."""
    for row in sorted(here, key=lambda row: _rank(row, found)):
        for other in found.rows:
            same = (other.runtime, other.target) == (row.runtime, row.target)
            if sibling is not None and same and other.artifact == sibling.name and row.artifact != sibling.name:
                gain = gain_of(row, other)
                if gain is not None:
                    return row, gain
    return None, None


def _rank(row: Row, found: Measurements) -> tuple[bool, bool, int]:
    """Devices first; then Arm, which phones and boards have; then what times were measured on."""
    return row.kind != DEVICE, not _is_arm(row, found), KINDS.index(row.kind)


def _is_arm(row: Row, found: Measurements) -> bool:
    return (found.processors.get(row.target) or "").startswith(ARM)


def _why_not(place: Place, here: Sequence[Row], artifact: Artifact, sibling: Artifact | None) -> str:
    """Say why there is no speed against the float file."""
    if artifact.scheme == FLOAT:
        return "it is the float file itself"
    if sibling is None:
        return f"the bundle has no {FLOAT}.{place.format}"
    if not here:
        return "no such target" + (f" (--on {place.target})" if place.target is not None else "")
    return f"its time or that of {sibling.name} is not known"


def _why(
    name: str, artifact: Artifact, here: Sequence[Row], *, row: Row | None, gain: Gain | None, missing: str | None,
    found: Measurements, reason: str,
) -> Iterator[str]:
    """Say what speaks against the file, and then what for it."""
    if row is not None and gain is not None and gain.is_loss:
        yield f"SLOWER on {row.target} than {FLOAT}.{artifact.format}, which is better where its size fits"
    elif row is not None and name == LITERT and row.kind == NATIVE and not _is_arm(row, found):
        yield f"timed on {row.target}, which is no Arm processor"
    for version in dict.fromkeys(str(found.versions.get(item.target, {}).get(ORT)) for item in here):
        if name == VNNI and not has_fixed_kernels({ORT: version}):
            yield (
                f"ONNX Runtime {version} has wrong int8 kernels for AMX and VNNI: use "
                f"{'.'.join(map(str, FIXED_KERNELS))} or newer"
            )
    if missing is not None:
        yield f"{missing} would be faster: add it to export.onnx_variants"
    if artifact.scheme == FLOAT:
        yield "the bundle has no smaller scheme"
    else:
        yield reason
