"""Examples on their way into a runtime and out of it: one array per input or output, examples along the first axis."""

from __future__ import annotations

from typing import Any, Iterable, Sequence  # noqa: UP035  (Python 3.9 on boards)

import numpy as np

from .protocol import check_arrival, sha256_of


def read_examples(
    paths: Sequence[str], inputs: Sequence[dict[str, Any]], sha256: Sequence[str] | None = None
) -> list[np.ndarray]:
    """Return the arrays of .npy files, one file per input of the model, in the model's order.

    Args:
        inputs: the runtime's specifications of the model's inputs.
        sha256: what each file must be, where the files were sent.

    Raises:
        AlteredInTransit: a file is not the one that was sent.
        ValueError: another number of files than inputs, no example, or arrays of different lengths.
    """
    if len(paths) != len(inputs) or len(sha256 or paths) != len(paths):
        raise ValueError(
            f"expected one file for each of the model's {len(inputs)} inputs ({_names(inputs)}), found {len(paths)}"
        )
    for path, digest in zip(paths, sha256 or ()):  # noqa: B905  (Python 3.9 on boards)
        check_arrival(path, digest)
    arrays = [np.load(path, allow_pickle=False, mmap_mode="r") for path in paths]
    lengths = sorted({len(array) if array.ndim else 0 for array in arrays})
    if len(lengths) != 1 or lengths == [0]:
        raise ValueError(f"expected the same number of examples for each input, one or more; found {lengths}")
    return arrays


def select(
    arrays: Sequence[np.ndarray], inputs: Sequence[dict[str, Any]], *, start: int = 0, count: int = 1
) -> list[np.ndarray]:
    """Return `count` examples as the runtime takes them.

    Where an input of the file has no batch axis of 1, the example itself is the input.
    """
    return [
        _as_input(np.array(array[start : start + count], order="C"), item["shape"])
        for array, item in zip(arrays, inputs)  # noqa: B905  (Python 3.9 on boards)
    ]


def join(answers: Iterable[tuple[int, Sequence[np.ndarray]]], outputs: Sequence[dict[str, Any]]) -> list[np.ndarray]:
    """Return one array per output from (number of examples, the runtime's answer to them), in order.

    Raises:
        ValueError: an output whose shape depends on the example, or that has no axis for the examples.
    """
    parts = [[_as_examples(output, count) for output in answer] for count, answer in answers]
    return [_joined(of_one, item["name"]) for of_one, item in zip(zip(*parts), outputs)]  # noqa: B905


def write_examples(paths: Sequence[str], arrays: Sequence[np.ndarray]) -> list[str]:
    """Write each array to its .npy file; return the files' SHA-256. Raises ValueError for another number of files."""
    if len(paths) != len(arrays):
        raise ValueError(f"expected one file for each of the model's {len(arrays)} outputs, found {len(paths)}")
    for path, array in zip(paths, arrays):  # noqa: B905  (Python 3.9 on boards)
        np.save(path, array, allow_pickle=False)
    return [sha256_of(path) for path in paths]


def _as_input(values: np.ndarray, shape: Sequence[Any]) -> np.ndarray:
    """Return one example without the examples' axis where only that fits the input."""
    alone = len(values) == 1 and not fits(values.shape, shape) and fits(values.shape[1:], shape)
    return values.reshape(values.shape[1:]) if alone else values


def fits(found: Sequence[int], shape: Sequence[Any]) -> bool:
    """Whether an array's shape is one of the specification's, in which open sizes are no positive integers."""
    return len(found) == len(shape) and all(
        size == wanted or not isinstance(wanted, int) or wanted < 1
        for size, wanted in zip(found, shape)  # noqa: B905  (Python 3.9 on boards)
    )


def _as_examples(output: np.ndarray, count: int) -> np.ndarray:
    """Return an output with its examples along the first axis."""
    if output.shape[:1] == (count,):
        return output
    if count == 1:
        return output[None]
    raise ValueError(
        f"expected outputs with {count} examples along their first axis, found one of shape {output.shape}"
    )


def _joined(parts: Sequence[np.ndarray], name: str) -> np.ndarray:
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) != 1:
        raise ValueError(
            f"output {name}: expected one shape for all examples, found {shapes[0]} and {shapes[-1]}; export the model "
            "with outputs of a fixed size"
        )
    joined: np.ndarray = np.concatenate(parts)
    return joined


def _names(items: Sequence[dict[str, Any]]) -> str:
    return ", ".join(str(item["name"]) for item in items) or "none"
