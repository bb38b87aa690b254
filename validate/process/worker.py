"""The child process on this machine: `python -P -m edgeship.validate.process.worker`.

The runner (validate/runner has the protocol), with the runtimes that only a development machine has: float Keras,
and the probes that look inside a file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.core.collector import collect_less_often
from edgeship.validate.runner.examples import read_examples, select
from edgeship.validate.runner.protocol import serve_pipes
from edgeship.validate.runner.session import Session, import_opener
from edgeship.validate.runner.table import RUNTIMES


class LocalSession(Session):
    """The runner's requests, and those of the probes."""

    def do_probe(self, *, runtime: str, probe: str, path: str, options: dict[str, Any]) -> dict[str, Any]:
        """Open the file with a probe of the runtime, to look inside."""
        probes = RUNTIMES[runtime].probes
        if probe not in probes:
            raise ValueError(f"{runtime}: expected a probe of {', '.join(probes) or 'none'}; found {probe!r}")
        self._runtime = import_opener(probes[probe].opener)(path, **options)
        return {}

    def do_tensors(self, *, inputs: list[str], outputs: str) -> dict[str, Any]:
        """Write every integer tensor of every example: (examples, ...) arrays `0`, `1` ... of an .npz."""
        specifications = self._runtime.inputs
        arrays = read_examples(inputs, specifications)
        kept = [
            self._runtime.tensors(select(arrays, specifications, start=number)) for number in range(len(arrays[0]))
        ]
        names = list(kept[0])
        # One list of names beside the arrays, since tensor names are no safe file names inside an archive.
        results = {str(index): np.stack([item[name] for item in kept]) for index, name in enumerate(names)}
        np.savez(outputs, **results)  # type: ignore[arg-type]
        return {"names": names}

    def do_shapes(self, *, path: str) -> dict[str, Any]:
        """The shapes of an .onnx file's tensors, as far as they can be inferred; None for a size that is not fixed."""
        import onnx

        graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
        types = {
            value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)
            if value.type.tensor_type.HasField("shape")
        }
        return {"shapes": {
            name: [size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim]
            for name, kind in types.items()
        }}

    def do_layers(self, *, tensors: str, layouts: str, places: dict[str, str]) -> dict[str, Any]:
        """Run each layer of an .onnx file on the integers that another runtime gave it.

        `tensors` is what `do_tensors` wrote, `places` says which of its arrays each tensor of the file is, and array
        `0`, `1` ... of `layouts` where the elements of the first, second ... of these are in that.
        """
        from edgeship.validate.probes.layers import Given

        with np.load(tensors, allow_pickle=False) as arrays, np.load(layouts, allow_pickle=False) as orders:
            answer: dict[str, Any] = self._runtime.compare(
                Given(arrays, orders, places), progress=lambda done: self._send({"progress": done})
            )
        return answer


if __name__ == "__main__":
    collect_less_often()
    serve_pipes(LocalSession)
