"""The vocabulary of kinds: sets that belong together are made of each other."""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgeship.graph import kinds

SETS = {name: words for name, words in vars(kinds).items() if isinstance(words, frozenset)}


def test_what_multiplies_by_weights_has_their_places() -> None:
    for name in ("PRODUCTS", "DYNAMIC_PRODUCTS", "CONVOLUTIONS", "TRANSPOSED_CONVOLUTIONS", "TFLITE_CONVOLUTIONS"):
        assert SETS[name] <= set(kinds.WEIGHTED), name
    assert kinds.TRANSPOSED_CONVOLUTIONS <= kinds.CONVOLUTIONS


def test_a_word_in_capitals_is_one_of_tflite() -> None:
    words = {word for words in (*SETS.values(), kinds.WEIGHTED) for word in words if word.isupper()}
    assert words and all(hasattr(schema.BuiltinOperator, word) for word in words)


def test_each_format_has_its_part() -> None:
    assert not kinds.QDQ & kinds.TFLITE_CONVERSIONS and kinds.CONVERSIONS == kinds.QDQ | kinds.TFLITE_CONVERSIONS
    assert kinds.ONNX_MOVES <= kinds.MOVES and kinds.ONNX_MOVES <= kinds.GRID_KEEPING
    assert all(word.isupper() for word in kinds.TFLITE_RESHAPES | kinds.TFLITE_CONVERSIONS | kinds.TFLITE_CONVOLUTIONS)
    assert not any(word.isupper() for word in kinds.ONNX_MOVES | kinds.GRID_KEEPING | kinds.QDQ)
