"""A float result is rounded where it is computed, and moved as integers.

Behind an operation that it has no integer kernel for, the converter (TensorFlow 2.21) moves the float values first, a
Flatten for example, and rounds them afterwards. The codes are the same in the other order, a quarter of the bytes is
moved, and the move is an integer operation as the plan says.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgeship.export.tflite.edit import float_twin, operator_code

Builtin, Type = schema.BuiltinOperator, schema.TensorType
# Operations that put values elsewhere -> their first version that takes int8 (tflite/tools/versioning/op_version.cc).
MOVES = {
    Builtin.RESHAPE: 1, Builtin.SQUEEZE: 1, Builtin.EXPAND_DIMS: 1, Builtin.TRANSPOSE: 2, Builtin.SLICE: 2,
    Builtin.STRIDED_SLICE: 2,
}
MOVE_KINDS = frozenset(kind for kind, code in vars(Builtin).items() if code in MOVES)


def round_before_moves(file: schema.ModelT, *, suffix: str) -> None:
    """Let every QUANTIZE of what was only moved come before the moves, in place.

    Args:
        suffix: after the name of a float tensor whose name the integers get.
    """
    graph = file.subgraphs[0]
    while (found := _moved_and_rounded(file)) is not None:
        move, rounding = found
        source, moved, result = int(move.inputs[0]), int(move.outputs[0]), int(rounding.outputs[0])
        rounded = float_twin(graph.tensors[source], graph.tensors[source].name)
        rounded.type, rounded.quantization = Type.INT8, graph.tensors[result].quantization
        graph.tensors[source].name += suffix.encode()
        graph.tensors.append(rounded)
        # The operation that rounded the moved values rounds those before the move, in the move's place.
        graph.operators.remove(rounding)
        graph.operators.insert(graph.operators.index(move), rounding)
        rounding.inputs, rounding.outputs = [source], [len(graph.tensors) - 1]
        kind = file.operatorCodes[move.opcodeIndex].builtinCode
        move.opcodeIndex = operator_code(file, kind, MOVES[kind])
        move.inputs, move.outputs = [len(graph.tensors) - 1, *map(int, move.inputs[1:])], [result]
        graph.tensors[result].name = graph.tensors[moved].name.removesuffix(suffix.encode())


def _moved_and_rounded(file: schema.ModelT) -> tuple[Any, Any] | None:
    """Return a move of float values and the QUANTIZE that alone reads its result."""
    graph = file.subgraphs[0]
    makers = {int(operation.outputs[0]): operation for operation in graph.operators}
    reads = Counter(int(tensor) for operation in graph.operators for tensor in operation.inputs)
    reads.update(map(int, graph.outputs))
    for operation in graph.operators:
        if file.operatorCodes[operation.opcodeIndex].builtinCode != Builtin.QUANTIZE:
            continue
        move = makers.get(int(operation.inputs[0]))
        if (
            move is not None and file.operatorCodes[move.opcodeIndex].builtinCode in MOVES
            and graph.tensors[int(operation.inputs[0])].type == Type.FLOAT32
            and graph.tensors[int(operation.outputs[0])].type == Type.INT8
            and reads[int(operation.inputs[0])] == 1 and int(move.inputs[0]) in makers
        ):
            return move, operation
    return None
