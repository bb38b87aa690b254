"""Operators that no file can hold: TFLite has none for them, in integers or in float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.core.errors import LoweringError
from edgeship.core.native_output import quiet_native_output
from edgeship.quantize.lowering.float_forms import NOT_IN_TFLITE

PICTURES = np.random.default_rng(0).uniform(0.1, 0.9, (32, 4, 4, 2)).astype("float32")


def network(name: str) -> tf_keras.Model:
    function = getattr(tf.math, name.removeprefix("math."))
    given = {"axis": -1} if name == "math.cumprod" else {}
    picture = layers.Input((4, 4, 2), name="picture")
    x = layers.Lambda(lambda value: function(value, **given), name="odd")(picture)
    return tf_keras.Model(picture, layers.Dense(2, name="values")(layers.Flatten()(x)), name="with_odd")


@pytest.mark.parametrize("name", sorted(NOT_IN_TFLITE))
def test_the_converter_has_no_operation_for_it(name: str) -> None:
    with quiet_native_output(), pytest.raises(Exception, match=r"(?i)neither a custom op nor a flex op|ops_select"):
        tf.lite.TFLiteConverter.from_keras_model(network(name)).convert()


@pytest.mark.parametrize(("name", "message"), [
    ("math.tan", r"odd_tan \(tf.math.tan\): TFLite has no operation for it, in integers or in float.*function$"),
    ("math.erf", r"odd_erf \(tf.math.erf\): .*a GELU has one: x \* 0.5 \* \(1 \+ erf\(x / sqrt\(2\)\)\)\)$"),
])
def test_it_is_refused_without_a_way_that_does_not_work(name: str, message: str) -> None:
    for kept in ((), ("odd",)):
        with pytest.raises(LoweringError, match=message):
            edgeship.quantize_model(network(name), PICTURES, keep_float=kept)


@pytest.mark.parametrize("take", [
    lambda x: x[::-1], lambda x: x[:1], lambda x: x[1:, 1:], lambda x: x[0:1, ..., :1],
], ids=["backwards", "the first", "all but one", "the first, a channel"])
def test_a_part_of_the_batch_has_no_form_either(take: Callable[[Any], Any]) -> None:
    picture = layers.Input((4, 4, 2), name="picture")
    x = layers.Lambda(take, name="part")(layers.Conv2D(3, 1, name="conv")(picture))
    model = tf_keras.Model(picture, layers.GlobalMaxPooling2D(name="pool")(x), name="parted")
    for kept in ((), ("part",)):
        with pytest.raises(LoweringError, match=r"part.* takes examples out of the batch, .*another axis$"):
            edgeship.quantize_model(model, PICTURES, keep_float=kept)
