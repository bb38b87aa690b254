"""LiteRT with every tensor kept, to look inside. Imported in a worker process only."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.validate.runner.litert import LiteRt


class KeepingTensors(LiteRt):
    """No delegate and no memory shared between tensors, so that all of them can be read afterwards."""

    def __init__(self, path: str, *, threads: int, names: list[str] | None = None) -> None:
        """`names`: the results to keep; None: every int8 one, and the inputs."""
        self._names = names
        super().__init__(
            path, threads=threads, resolver="BUILTIN_WITHOUT_DEFAULT_DELEGATES",
            experimental_preserve_all_tensors=True,
        )

    def tensors(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        """The activations by name after one inference."""
        self.infer(arrays)
        if self._names is not None:
            indices = {item["name"]: item["index"] for item in self.interpreter.get_tensor_details()}
            return {name: self.interpreter.get_tensor(indices[name]) for name in self._names}
        computed = {int(index) for item in self.interpreter._get_ops_details() for index in item["outputs"]}
        return {
            item["name"]: self.interpreter.get_tensor(item["index"])
            for item in self.interpreter.get_tensor_details()
            if item["index"] in {*self._inputs, *computed} and item["dtype"] == np.int8
        }


def open_keeping_tensors(path: str, *, threads: int, names: list[str] | None = None) -> Any:
    """The file, to be run and looked into."""
    return KeepingTensors(path, threads=threads, names=names)
