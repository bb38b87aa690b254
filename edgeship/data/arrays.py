"""Arrays from Python: whatever a user has (arrays, a dataset, an iterable of batches) as batches of model inputs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeship.core.errors import DataError, in_one_line
from edgeship.data.examples import Batch

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Port:
    """One input of a model: its name, its shape without the batch axis (None where it is open), and its dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype} (n, {sizes})" if sizes else f"{self.name}: {self.dtype} (n,)"


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenBatch:
    """Some examples: one array per input in the model's order, and targets where the data came with them."""

    inputs: Batch
    targets: Any = None  # as they were given: calibration does not look at them


def given_batches(data: Any, ports: Sequence[Port], *, who: str) -> Iterator[GivenBatch]:
    """Yield the batches of whatever a user gives.

    Args:
        data: an array (one input), a list or tuple of arrays (in the inputs' order), a dict of arrays (by the inputs'
            names), a `tf.data.Dataset` of batches, or any iterable of batches, each batch one of these or a pair
            (inputs, targets).
        ports: the model's inputs.
        who: what the data is for, which messages begin with: "calibration".

    Raises:
        DataError: nothing in it; arrays that do not fit the inputs in number, shape or type; NaN or infinity.
    """
    whole = _whole(data, ports)
    if whole is not None:
        inputs = _checked(whole, ports, who=who)
        for start in range(0, len(inputs[0]), BATCH):
            yield GivenBatch(inputs=tuple(array[start : start + BATCH] for array in inputs))
        return
    batches = _iterator(data, who=who)
    count = 0
    # Iterators of Keras' image generators start again at their end; their length says how many batches they have.
    for count, batch in enumerate(itertools.islice(batches, _length(data, who=who)), start=1):
        inputs, targets = _parts(batch, ports)
        yield GivenBatch(
            inputs=_checked(inputs, ports, who=f"{who}, batch {count}"),
            targets=targets,
        )
    if not count:
        raise DataError(
            f"{who}: expected at least one batch, found none; was a generator used up before? give a list, or make a "
            "new generator"
        )


def _iterator(data: Any, *, who: str) -> Iterator[Any]:
    """Return an iterator over batches. Raises DataError for what has none; letters of a path are none."""
    try:
        if isinstance(data, str | bytes):
            raise TypeError("text")
        return iter(data)
    except TypeError as error:
        hint = "; read a file first (numpy.load)" if isinstance(data, str | bytes | os.PathLike) else ""
        raise DataError(
            f"{who}: expected an array, a list or dict of arrays, a tf.data.Dataset or an iterable of batches, found "
            f"{type(data).__name__}{hint}"
        ) from error


def given_targets(targets: Any, *, who: str) -> np.ndarray:
    """Return targets as one array. Raises DataError for several arrays, and for what is none."""
    try:
        array = np.asarray(targets)
    except (ValueError, TypeError) as error:
        raise _no_targets(targets, who) from error
    if array.ndim == 0 or array.dtype == object:
        raise _no_targets(targets, who)
    return array


def _no_targets(targets: Any, who: str) -> DataError:
    return DataError(
        f"{who}: expected one array with an entry for each example, found a {type(targets).__name__}; put several "
        "arrays side by side in one (np.concatenate([...], axis=1)), which a metric of your own takes apart"
    )


def _length(data: Any, *, who: str) -> int | None:
    """How many batches it has, where it says so. Raises DataError for a dataset that has no end."""
    if not hasattr(data, "__len__"):
        return None
    try:
        return len(data)
    except TypeError as error:  # a tf.data.Dataset whose length is not known, or has no end
        if "infinite" in str(error):
            raise DataError(
                f"{who}: expected a dataset that comes to an end, found one that repeats for ever; give .take(10) of it"
            ) from error
        return None


def given_arrays(data: Any, ports: Sequence[Port], *, who: str) -> GivenBatch:
    """Return all examples of whatever a user gives, in memory. Raises DataError, as `given_batches` does."""
    whole = _whole(data, ports)
    if whole is not None:
        return GivenBatch(inputs=_checked(whole, ports, who=who))
    batches = list(given_batches(data, ports, who=who))
    targets = [given_targets(item.targets, who=f"{who}: targets") for item in batches if item.targets is not None]
    if targets and len(targets) != len(batches):
        raise DataError(f"{who}: expected targets in every batch or in none, found them in {len(targets)}")
    return GivenBatch(
        inputs=tuple(np.concatenate(parts) for parts in zip(*(batch.inputs for batch in batches), strict=True)),
        targets=np.concatenate(targets) if targets else None,
    )


def _whole(data: Any, ports: Sequence[Port]) -> Any:
    """The data, where it is arrays of all examples; None where it is to be iterated over."""
    if isinstance(data, Mapping) or _is_array(data):
        return data
    if isinstance(data, list | tuple) and len(data) == len(ports) and all(map(_is_array, data)):
        # A list of one batch is one array per input too where the model has one input; it is the same either way.
        return data
    if len(ports) == 1 and _depth_of_lists(data) == len(ports[0].shape) + 1:
        return [data]
    return None


def _depth_of_lists(data: Any) -> int:
    """How deep numbers stand in lists of lists, by the first of each: 2 of a table; 0 where they are no numbers."""
    depth = 0
    while isinstance(data, list | tuple) and data:
        data, depth = data[0], depth + 1
    return depth if isinstance(data, int | float) else 0


def _is_array(value: Any) -> bool:
    """Whether it is an array or tensor: what has a shape and gives its values to NumPy."""
    return hasattr(value, "shape") and hasattr(value, "__array__")


def _parts(batch: Any, ports: Sequence[Port]) -> tuple[Any, Any]:
    """(inputs, targets) of one batch of an iterable; targets are None where it has none.

    A pair is inputs and targets, as Keras takes them, but for a model of two inputs that is given two arrays.
    """
    is_pair = isinstance(batch, tuple) and len(batch) in (2, 3)  # the third are sample weights
    if is_pair and (len(ports) == 1 or not all(map(_is_array, batch)) or len(batch) != len(ports)):
        return batch[0], batch[1]
    return batch, None


def _checked(given: Any, ports: Sequence[Port], *, who: str) -> Batch:
    """The arrays in the model's order, of its types. Raises DataError."""
    expected = "; ".join(map(str, ports))
    if isinstance(given, Mapping):
        if set(given) != {port.name for port in ports}:
            raise DataError(f"{who}: expected arrays by the names of the inputs ({expected}), found {sorted(given)}")
        given = [given[port.name] for port in ports]
    arrays = [given] if _is_array(given) else list(given) if isinstance(given, list | tuple) else [given]
    if len(arrays) != len(ports):
        raise DataError(f"{who}: expected {len(ports)} array(s) ({expected}), found {len(arrays)}")
    checked = tuple(_fitting(array, port, who=who) for array, port in zip(arrays, ports, strict=True))
    lengths = [len(array) for array in checked]
    if len(set(lengths)) != 1:
        raise DataError(f"{who}: expected as many examples for every input, found {lengths}")
    if not lengths[0]:
        raise DataError(f"{who}: expected at least one example, found an empty array")
    return checked


def _fitting(given: Any, port: Port, *, who: str) -> np.ndarray:
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise DataError(f"{who}: expected {port}, found no array ({in_one_line(error)})") from error
    sizes = array.shape[1:]
    fits = array.ndim == len(port.shape) + 1 and all(
        size in (None, found) for size, found in zip(port.shape, sizes, strict=True)
    )
    if not fits:
        hint = "; is the batch axis missing? (a tf.data.Dataset needs .batch(32))" if array.shape == port.shape else ""
        raise DataError(f"{who}: expected {port}, found an array of shape {array.shape}{hint}")
    wanted = np.dtype(port.dtype)
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and wanted.kind != "f"):
        raise DataError(f"{who}: expected {port}, found {array.dtype}; convert the values before")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        broken = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        raise DataError(
            f"{who}: expected finite values for {port.name}, found NaN or infinity in {len(broken):,} example(s), the "
            f"first of them {int(broken[0])}"
        )
    return array.astype(wanted, copy=False)
