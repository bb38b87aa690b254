"""Inputs of integers: what is refused, and that the sentence's advice works."""

from __future__ import annotations

import re

import pytest
import tf_keras
from tf_keras import layers as L

from edgeship.core.errors import LoweringError
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower


def inserted(model):
    flat = lower(model)
    return insert_fake_quantization(flat, input_ranges=[(-4.0, 4.0)] * len(flat.inputs))


def text_network():
    tokens = L.Input((12,), dtype="int32", name="tokens")
    x = L.Conv1D(6, 3, activation="relu", name="conv")(L.Embedding(50, 8, name="table")(tokens))
    return tf_keras.Model(tokens, L.Dense(2, name="logits")(L.GlobalMaxPooling1D(name="pool")(x)), name="text")


def test_tokens_are_refused_with_the_network_to_give_instead():
    model = text_network()
    expected = (
        "text: the input 'tokens' is int32 and goes into table (Embedding); expected real numbers (float32), since "
        "edgeship writes no integer tables: give the network behind the table, tf_keras.Model(embedding.output, "
        "model.outputs), and look its rows up before it"
    )
    with pytest.raises(LoweringError, match=re.escape(expected)):
        inserted(model)
    behind = tf_keras.Model(model.get_layer("table").output, model.outputs)
    assert inserted(behind).account.quantized == ("conv", "logits")


def test_whole_numbers_are_refused_with_the_input_to_write_instead():
    def model(dtype):
        pixels = L.Input((8, 8, 3), dtype=dtype, name="pixels")
        return tf_keras.Model(pixels, L.Conv2D(4, 1, name="conv")(L.Rescaling(1 / 255)(pixels)), name="raw")

    with pytest.raises(LoweringError, match=re.escape(
        "raw: the input 'pixels' is uint8; expected real numbers (float32): build the model with "
        'layers.Input(shape, dtype="float32"), which takes whole numbers too'
    )):
        inserted(model("uint8"))
    assert inserted(model("float32")).account.quantized == ("conv",)
