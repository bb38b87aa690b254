"""Arrays from Python: every form a user may bring them in, and one sentence for what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.core.errors import DataError
from edgeship.data.arrays import Port, given_arrays, given_batches, given_targets

PICTURE = Port(name="picture", shape=(4, None, 1), dtype="float32")
FACTS = Port(name="facts", shape=(3,), dtype="float32")
WORDS = Port(name="words", shape=(5,), dtype="int32")
PICTURES, VECTORS = np.ones((70, 4, 6, 1), np.float32), np.arange(210, dtype=np.float64).reshape(70, 3)


def by_tens(*arrays: np.ndarray) -> Iterator[Any]:
    for start in range(0, len(arrays[0]), 10):
        yield tuple(array[start : start + 10] for array in arrays) if len(arrays) > 1 else arrays[0][start : start + 10]


def dataset(*arrays: np.ndarray) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0]).batch(32)


class Generator:
    """As Keras' image generators: seven batches, and then the same again."""

    def __len__(self) -> int:
        return 7

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from by_tens(PICTURES, np.arange(70))


@pytest.mark.parametrize("given", [
    lambda: PICTURES, lambda: [PICTURES], lambda: {"picture": PICTURES}, lambda: by_tens(PICTURES),
    lambda: list(by_tens(PICTURES)), lambda: dataset(PICTURES), lambda: dataset(PICTURES, np.arange(70)),
    lambda: ({"picture": batch} for batch in by_tens(PICTURES)), lambda: ([batch] for batch in by_tens(PICTURES)),
    lambda: by_tens(PICTURES, np.arange(70)), lambda: PICTURES.astype(np.uint8), lambda: PICTURES.tolist(),
    lambda: Generator(), lambda: dataset(PICTURES).filter(lambda batch: True),
], ids=["array", "list", "dict", "generator", "batches", "dataset", "pairs", "dicts", "lists", "pair-batches", "uint8",
        "numbers", "sequence", "unknown-length"])
def test_one_input(given: Any) -> None:
    found = given_arrays(given(), [PICTURE], who="calibration")
    np.testing.assert_array_equal(found.inputs[0], PICTURES)
    assert found.inputs[0].dtype == np.float32
    assert found.targets is None or list(found.targets) == list(range(70))


@pytest.mark.parametrize("given", [
    lambda: [PICTURES, VECTORS], lambda: (PICTURES, VECTORS), lambda: {"facts": VECTORS, "picture": PICTURES},
    lambda: by_tens(PICTURES, VECTORS), lambda: dataset(PICTURES, VECTORS),
    lambda: ((batch, np.zeros(10)) for batch in by_tens(PICTURES, VECTORS)),
    lambda: (({"picture": a, "facts": b}, np.zeros(10)) for a, b in by_tens(PICTURES, VECTORS)),
], ids=["list", "tuple", "dict", "generator", "dataset", "pairs", "pairs of dicts"])
def test_two_inputs(given: Any) -> None:
    found = given_arrays(given(), [PICTURE, FACTS], who="calibration")
    np.testing.assert_array_equal(found.inputs[0], PICTURES)
    np.testing.assert_array_equal(found.inputs[1], VECTORS.astype(np.float32))


def test_an_array_comes_in_batches() -> None:
    sizes = [len(batch.inputs[0]) for batch in given_batches(PICTURES, [PICTURE], who="calibration")]
    assert sizes == [32, 32, 6]


def used_up() -> Iterator[np.ndarray]:
    made = by_tens(PICTURES)
    list(made)
    return made


@pytest.mark.parametrize(("given", "ports", "message"), [
    (
        lambda: np.zeros((7, 4, 6)), [PICTURE],
        r"expected picture: float32 \(n, 4, \?, 1\), found an array of shape \(7, 4, 6\)",
    ),
    (
        lambda: np.zeros((4, 6, 1)), [Port(name="picture", shape=(4, 6, 1), dtype="float32")],
        "is the batch axis missing",
    ),
    (lambda: VECTORS[:0], [FACTS], "at least one example, found an empty array"),
    (list, [FACTS], "at least one batch, found none; was a generator used up"),
    (used_up, [PICTURE], "at least one batch, found none; was a generator used up"),
    (lambda: np.full((2, 3), np.nan), [FACTS], r"NaN or infinity in 2 example\(s\), the first of them 0"),
    (lambda: np.array([["a"] * 3]), [FACTS], "expected facts: float32 .*, found <U1"),
    (lambda: np.zeros((2, 5)), [WORDS], r"expected words: int32 \(n, 5\), found float64"),
    (lambda: {"fact": VECTORS}, [FACTS], r"by the names of the inputs .*found \['fact'\]"),
    (lambda: [PICTURES, VECTORS[:5]], [PICTURE, FACTS], r"as many examples for every input, found \[70, 5\]"),
    (lambda: PICTURES, [PICTURE, FACTS], r"expected 2 array\(s\) .*, found 1"),
    (lambda: 3, [FACTS], "expected an array, a list or dict of arrays, a tf.data.Dataset or an iterable.*found int"),
    (lambda: "data.npz", [FACTS], r"an iterable of batches, found str; read a file first \(numpy\.load\)"),
    (lambda: Path("data.npz"), [FACTS], r"an iterable of batches, found \w*Path; read a file first"),
    (lambda: dataset(VECTORS).repeat(), [FACTS], r"found one that repeats for ever; give \.take\(10\) of it"),
    (lambda: [[1.0, 2.0, 3.0], [4.0]], [FACTS], r"expected facts: float32 \(n, 3\), found no array"),
], ids=range(16))
def test_what_does_not_fit(given: Any, ports: list[Port], message: str) -> None:
    with pytest.raises(DataError, match=f"^calibration.*{message}"):
        list(given_batches(given(), ports, who="calibration"))


@pytest.mark.parametrize("targets", [
    {"box": np.zeros((4, 2)), "score": np.zeros(4)}, [np.zeros((4, 2)), np.zeros((4, 3))], 3, np.array([None, None]),
], ids=["dict", "list", "number", "objects"])
def test_targets_that_are_not_one_array(targets: Any) -> None:
    with pytest.raises(DataError, match=r"^mine: expected one array with an entry for each example, found a \w+; put"):
        given_targets(targets, who="mine")
    with pytest.raises(DataError, match="inputs: targets: expected one array"):
        given_arrays(iter([(VECTORS[:4], targets)]), [FACTS], who="inputs")
    assert list(given_batches(iter([(VECTORS[:4], targets)]), [FACTS], who="calibration"))  # which needs none
