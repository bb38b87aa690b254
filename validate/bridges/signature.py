"""The signature of a TFLite file: it lists the inputs and outputs in an order of its own, which LiteRT.js follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema


def places_in_file(content: bytes, *, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the place of each name of the first signature among the file's own inputs and outputs.

    Args:
        content: the file.
        inputs, outputs: the names as LiteRT.js lists them; of a file without a signature in the file's own order.

    Raises:
        ValueError: the signature does not have each input and output of the file once.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    if not file.signatureDefs:
        return list(range(len(inputs))), list(range(len(outputs)))
    signature = file.signatureDefs[0]
    graph = file.subgraphs[signature.subgraphIndex]
    return (
        _places("inputs", inputs, signature.inputs, list(graph.inputs)),
        _places("outputs", outputs, signature.outputs, list(graph.outputs)),
    )


def _places(what: str, names: Sequence[str], maps: Sequence[Any], tensors: Sequence[int]) -> list[int]:
    indices = {item.name.decode(errors="replace"): item.tensorIndex for item in maps}
    found = [indices.get(name, -1) for name in names]
    if sorted(found) != sorted(tensors):
        raise ValueError(
            f"expected a signature with each of the file's {len(tensors)} {what} once, found "
            f"{', '.join(names) or 'none'}; export the model with one signature for all of them"
        )
    return [tensors.index(index) for index in found]
