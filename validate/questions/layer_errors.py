"""Where an integer file goes wrong: each of its results against the float file's, and the first bad layer.

A layer is bad where its SQNR is under `BAD_DB`, and more than `OWN_DB` under the lowest SQNR of what it reads.

    BAD_DB   An 8-bit tensor's own rounding is uniform noise of 1/sqrt(12) LSB (Bennett 1948), so that values of r LSB
             (root mean square) have 20 log10(r) + 10.8 dB: a healthy tensor, of 10 to 60 LSB, 30 to 46 dB. 20 dB is
             noise of a tenth of the signal, or values of 3 LSB, for which the range is far too wide.
    OWN_DB   Noise powers add: where the result's noise is ten times what its inputs bring (10 dB), nine tenths of it
             are the layer's own, of its weights, its scales or its range. Noise that is handed on costs less: of 3,557
             results of 37 networks (post-training quantization), at most 9 dB where it ended under 20 dB and what reads
             it did not get better again.

An error that no later result shows is none: the two files may mean two things by one name (the value before a factor
that is folded away in the other, for example). So a bad layer has no reader, or one that is under `BAD_DB` too and not
more than `LOST_DB` over it; a sum or a concatenation with something larger may be.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeship.core.artifact import Artifact
from edgeship.core.channel_sizes import CHANNEL_SIZES, Sizes, sizes_from
from edgeship.core.errors import ArtifactError, RuntimeFailure
from edgeship.core.integers import dequantize, quantize, sqnr_db
from edgeship.core.measurement import LayerError, LayerErrors
from edgeship.core.progress import doing
from edgeship.graph import read_graph
from edgeship.graph.columns import with_plain_columns
from edgeship.validate.process.client import Worker
from edgeship.validate.questions.grid import LAYER_EXAMPLES, NOT_MEASURED
from edgeship.validate.questions.layer_pairs import Pair, pair_results
from edgeship.validate.runner.table import RESULTS, RUNTIMES
from edgeship.validate.subject.bundle import Bundle
from edgeship.validate.subject.inputs import InputKind, write_arrays

BAD_DB, OWN_DB, LOST_DB = 20.0, 10.0, 10.0
MOST_LONG_AXES = 4
DILUTING = frozenset({"ADD", "SUB", "CONCATENATION", "Add", "Sub", "Concat"})
FLOAT = "float32"
# Format -> the runtime that keeps the results of such a file.
KEEPERS: dict[str, str] = {
    format_: name for name, runtime in RUNTIMES.items() if RESULTS in runtime.probes
    for format_ in runtime.probes[RESULTS].formats
}


def measure_layer_errors(
    bundle: Bundle, names: Collection[str], *, timeout_seconds: float
) -> tuple[LayerErrors, ...]:
    """The tables of the integer artifacts `names`, in the bundle's order, on its first golden images.

    Raises:
        StorageError: no room for the results in the temporary folder.
    """
    tables = []
    for artifact in bundle.manifest.artifacts:
        if artifact.name in names:
            doing(f"{artifact.name}: comparing it with float, layer by layer")
            tables.append(_table(bundle, artifact, timeout_seconds))
    return tuple(tables)


def first_bad_layer(
    layers: Sequence[LayerError], reads: Mapping[str, Sequence[str]], given: Mapping[str, float]
) -> str | None:
    """The first of `layers`, in the order in which they run, that is bad; None where none is.

    Args:
        reads: layer -> the layers and inputs it is computed from.
        given: the inputs' own SQNR in dB.
    """
    known = {**given, **{item.layer: _db(item) for item in layers}}
    readers: defaultdict[str, list[str]] = defaultdict(list)
    for layer, sources in reads.items():
        for source in sources:
            readers[source].append(layer)
    diluting = {item.layer for item in layers if item.kind in DILUTING}
    for item in layers:
        db = known[item.layer]
        brought = min((known[source] for source in reads[item.layer]), default=math.inf)
        shown = [
            known[reader] < (BAD_DB if reader in diluting else min(BAD_DB, db + LOST_DB))
            for reader in readers[item.layer]
        ]
        if db < BAD_DB and db < brought - OWN_DB and (any(shown) or not shown):
            return item.layer
    return None


def _db(item: LayerError) -> float:
    """Its SQNR; without a noise infinite, and without a signal the opposite."""
    if item.sqnr_db is not None:
        return item.sqnr_db
    return -math.inf if item.max_lsb else math.inf


def _table(bundle: Bundle, artifact: Artifact, timeout_seconds: float) -> LayerErrors:
    floats = next(
        (item for item in bundle.manifest.artifacts if (item.scheme, item.format) == (FLOAT, artifact.format)), None
    )
    try:
        if artifact.format not in KEEPERS:
            raise _NotMeasured(f"no runtime tells the single results of an .{artifact.format} file")
        packages = RUNTIMES[KEEPERS[artifact.format]].probes[RESULTS].packages
        missing = [name for name in packages if not importlib.util.find_spec(name.replace("-", "_"))]
        if missing:
            raise _NotMeasured(f"install {' and '.join(missing)}")
        if floats is None:
            raise _NotMeasured(f"no {FLOAT}.{artifact.format} in the bundle")
        with tempfile.TemporaryDirectory(prefix="edgeship-layers-") as folder:
            return _measure(bundle, artifact, floats, timeout_seconds, Path(folder))
    except _NotMeasured as reason:
        return _without(artifact, floats, f"{NOT_MEASURED}{reason}")
    except (ArtifactError, RuntimeFailure) as error:
        return _without(artifact, floats, str(error))


class _NotMeasured(Exception):
    """There is no table; the text says why."""


def _measure(
    bundle: Bundle, artifact: Artifact, floats: Artifact, timeout_seconds: float, folder: Path
) -> LayerErrors:
    graph = with_plain_columns(read_graph(bundle.path_of(artifact)))
    pairs, missing = pair_results(graph, read_graph(bundle.path_of(floats)))
    keep = _Keeping(bundle, timeout_seconds, folder)
    found = keep.results(artifact, [pair.tensor.name for pair in pairs])
    twins = list(dict.fromkeys(twin for pair in pairs for twin in pair.twins))
    expected = keep.results(floats, twins)
    places = {twin: str(index) for index, twin in enumerate(twins)}
    account = bundle.manifest.quantization.get(artifact.scheme)
    sizes = sizes_from(None if account is None else account.found.get(CHANNEL_SIZES))
    layers, unlike = [], []
    with np.load(found, allow_pickle=False) as integers, np.load(expected, allow_pickle=False) as reals:
        for index, pair in enumerate(pairs):  # one at a time: all of them are as large as the network's memory
            codes = integers[str(index)]
            candidates = {twin: reals[places[twin]] for twin in pair.twins}
            divisors = _divisors(sizes, pair)
            alike = [
                (twin, resized) for twin, real in candidates.items() for view in _views(real, codes.shape)
                for resized in _resized(view, divisors)
            ]
            if alike:
                layers.append(max((_layer_error(pair, twin, codes, real) for twin, real in alike), key=_db))
            else:
                unlike.append(pair.tensor.name)
    # What is not known is taken for bad, so that nothing which reads it is blamed.
    given = {**dict(zip(graph.inputs, keep.inputs_db(artifact), strict=True)), **dict.fromkeys(unlike, -math.inf)}
    reads = {pair.tensor.name: pair.reads for pair in pairs if pair.tensor.name not in unlike}
    return LayerErrors(
        artifact=artifact.name, reference=floats.name, images=len(keep.inputs[0]), layers=tuple(layers),
        first_bad=first_bad_layer(layers, reads, given), not_compared=(*missing, *unlike),
    )


class _Keeping:
    """Runs files of the bundle on the same examples and keeps their results."""

    def __init__(self, bundle: Bundle, timeout_seconds: float, folder: Path) -> None:
        self.bundle, self.timeout_seconds, self.folder = bundle, timeout_seconds, folder
        self.inputs = [values[:LAYER_EXAMPLES] for values in bundle.golden.inputs]

    def results(self, artifact: Artifact, names: list[str]) -> Path:
        """An .npz file of the results `names`: arrays "0", "1" ... of shape (examples, *shape)."""
        runtime = KEEPERS[artifact.format]
        inputs = write_arrays(self.folder, "inputs", self.inputs, [InputKind.of(spec) for spec in artifact.inputs])
        outputs = self.folder / f"{artifact.name}.npz"
        label = f"{artifact.name} / {runtime}, result by result"
        with Worker(label, timeout_seconds=self.timeout_seconds) as worker:
            options = {"threads": 1, "names": names}
            path = str(self.bundle.path_of(artifact))
            worker.ask("probe", runtime=runtime, probe=RESULTS, path=path, options=options)
            worker.ask("tensors", inputs=[str(path) for path in inputs], outputs=str(outputs))
        return outputs

    def inputs_db(self, artifact: Artifact) -> list[float]:
        """Return the SQNR of each of the file's inputs; infinite where its grid is the values' own."""
        found = [
            sqnr_db(values, dequantize(quantize(values, spec), spec))
            for values, spec in zip(self.inputs, artifact.inputs, strict=True)
        ]
        return [math.inf if db is None else db for db in found]


def _layer_error(pair: Pair, twin: str, codes: np.ndarray, real: np.ndarray) -> LayerError:
    """One row: integers against floats of the same shape. Raises _NotMeasured where a figure would be none."""
    assert pair.tensor.scales is not None and pair.tensor.zero_points is not None
    scale, zero_point = float(pair.tensor.scales[0]), int(pair.tensor.zero_points[0])
    if not (math.isfinite(scale) and scale > 0):
        raise _NotMeasured(f"{pair.tensor.name}: expected a scale above 0, found {scale}")
    if not np.isfinite(real).all():
        raise _NotMeasured(f"{twin}: expected finite numbers in the float file, found NaN or infinity")
    wanted = real.astype(np.float64)
    values = scale * (codes.astype(np.float64) - zero_point)
    return LayerError(
        layer=pair.tensor.name,
        float_result=twin,
        kind=pair.kind,
        sqnr_db=sqnr_db(wanted, values),
        max_lsb=float(np.abs(wanted - values).max(initial=0.0)) / scale,
        saturated=_saturated(codes, np.rint(wanted / scale) + zero_point, zero_point),
    )


def _saturated(codes: np.ndarray, wanted: np.ndarray, zero_point: int) -> float:
    """The share of integers at an end of the range whose float value belongs elsewhere.

    An end that stands for 0 is where a ReLU puts what is below it, so that is no saturation.
    """
    limits = np.iinfo(codes.dtype)
    ends = [end for end in (limits.min, limits.max) if end != zero_point]
    return float(sum(np.mean((codes == end) & (wanted != end)) for end in ends))


def _divisors(sizes: Sizes, pair: Pair) -> np.ndarray | None:
    """What a result's channels were divided by, under the name of the layer or of a part of it; None: nothing."""
    for name in (pair.tensor.name, *pair.twins):
        while name:
            if name in sizes:
                return sizes[name]
            name = name.rpartition("/")[0]
    return None


def _resized(real: np.ndarray, divisors: np.ndarray | None) -> Iterator[np.ndarray]:
    """A float result as it is, and with its channels divided; which axis they are, the values tell.

    One name may stand for a result before and behind what takes a size away, so that it as it is may be the right one.
    """
    yield real
    if divisors is None:
        return
    for axis in range(1, real.ndim):
        if real.shape[axis] == len(divisors):
            yield real / divisors.reshape(-1, *[1] * (real.ndim - 1 - axis)).astype(real.dtype)


def _views(real: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """A result as it may lie in the other file: in its shape, its axes in every order that gives that.

    A converter folds transposes away in one file and not in the other, so that one name may mean two layouts. A result
    that is wrong is far from all of them. Axes of length 1 come and go with a Squeeze or Reshape beside a result.
    """
    sizes, wanted = ([size for size in values[1:] if size != 1] for values in (real.shape, shape))
    if real.shape[0] != shape[0] or sorted(sizes) != sorted(wanted) or len(sizes) > MOST_LONG_AXES:
        return
    long = real.reshape(real.shape[0], *sizes)
    for axes in itertools.permutations(range(len(sizes))):
        if [sizes[axis] for axis in axes] == wanted:
            yield long.transpose(0, *(axis + 1 for axis in axes)).reshape(shape)


def _without(artifact: Artifact, floats: Artifact | None, error: str) -> LayerErrors:
    return LayerErrors(
        artifact=artifact.name, reference=None if floats is None else floats.name, images=0, layers=(),
        first_bad=None, not_compared=(), error=error,
    )
