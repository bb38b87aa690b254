"""ONNX Runtime with chosen results kept, to look inside. Imported in a worker process only."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgeship.validate.probes.layers import TO_CHANNELS_LAST, channels_first_tensors
from edgeship.validate.runner.onnxruntime import OnnxRuntime


class KeepingResults(OnnxRuntime):
    """A default session of the file with the results as further outputs.

    A QuantizeLinear's result ends what is fused before it in any case, so integer kernels stay integer kernels.
    """

    def __init__(self, path: str, *, threads: int, names: list[str]) -> None:
        model = onnx.load(path)
        graph = model.graph
        constants = {item.name: item for item in graph.initializer}
        self._channels_first = channels_first_tensors(graph, constants)
        present = {value.name for value in graph.output}
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
        self._kept, self._content = names, model.SerializeToString()
        super().__init__(path, threads=threads)

    def tensors(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        """The results by name after one inference, channels last like LiteRT's."""
        found = self.session.run(self._kept, self.feeds(arrays))
        return {name: self._channels_last(name, values) for name, values in zip(self._kept, found, strict=True)}

    def _open(self, options: Any) -> Any:
        return onnxruntime.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])

    def _channels_last(self, name: str, values: np.ndarray) -> np.ndarray:
        moved = values.ndim == len(TO_CHANNELS_LAST) and name in self._channels_first
        return values.transpose(TO_CHANNELS_LAST) if moved else values


def open_keeping_results(path: str, *, threads: int, names: list[str]) -> Any:
    """The file, to be run and looked into."""
    return KeepingResults(path, threads=threads, names=names)
