from __future__ import annotations

import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.quantize.grids import plan_grids
from edgeship.quantize.simplifying.simplify import simplify

SHAPE = (8, 8, 4)


class Planned:
    """A model's plan, to be asked by layer name."""

    def __init__(self, outputs, *, inputs=None, kept=()):
        image = inputs if inputs is not None else outputs.node.layer
        self.model = tf_keras.Model(image, outputs, name="model")
        self.plan = plan_grids(self.model, frozenset(kept))

    def tensor(self, name):
        return self.model.get_layer(name).output

    def grid(self, name):
        return self.plan.of[id(self.tensor(name))]

    @property
    def rounded(self):
        return {layer.name for layer in self.model.layers if id(layer.output) in self.plan.rounded}

    @property
    def capped(self):
        return {layer.name for layer in self.model.layers if id(layer) in self.plan.capped}

    def members(self, name):
        return [tensor.node.layer.name for tensor in self.grid(name).members]


def image(name="image"):
    return layers.Input(SHAPE, name=name)


def conv(x, name, **options):
    return layers.Conv2D(4, 3, padding="same", name=name, **options)(x)


def relu(x, name, high=None):
    return layers.ReLU(high, name=name)(x)


# --- which tensors are rounded -------------------------------------------------------------------------------------


def test_inputs_and_results_are_rounded():
    x = image()
    assert Planned(conv(conv(x, "a"), "b"), inputs=x).rounded == {"image", "a", "b"}


@pytest.mark.parametrize("make", [
    lambda x: conv(x, "before"), lambda x: layers.DepthwiseConv2D(3, name="before")(x),
    lambda x: layers.Dense(3, name="before")(x), lambda x: layers.Add(name="before")([x, x]),
    lambda x: layers.Multiply(name="before")([x, x]),
], ids=["conv", "depthwise", "dense", "add", "multiply"])
def test_nothing_is_rounded_before_a_relu_that_is_part_of_the_operation(make):
    x = image()
    assert Planned(relu(make(x), "relu"), inputs=x).rounded == {"image", "relu"}


def test_a_relu_of_its_own_rounds_both_sides():
    x = image()
    y = layers.GlobalAveragePooling2D(name="mean")(x)
    assert Planned(relu(y, "relu"), inputs=x).rounded == {"image", "mean", "relu"}


def test_two_readers_need_the_result_before_the_relu():
    x = image()
    y = conv(x, "conv")
    planned = Planned([relu(y, "relu"), layers.MaxPooling2D(name="pool")(y)], inputs=x)
    assert {"conv", "relu"} <= planned.rounded


def test_an_output_needs_the_result_before_the_relu():
    x = image()
    y = conv(x, "conv")
    assert Planned([relu(y, "relu"), y], inputs=x).rounded == {"image", "conv", "relu"}


@pytest.mark.parametrize(("make", "rounds"), [
    (lambda x: layers.MaxPooling2D(name="same")(x), False), (lambda x: layers.ZeroPadding2D(name="same")(x), False),
    (lambda x: layers.Reshape((-1,), name="same")(x), False), (lambda x: layers.Flatten(name="same")(x), False),
    (lambda x: layers.Cropping2D(name="same")(x), False), (lambda x: layers.Permute((2, 1, 3), name="same")(x), False),
    (lambda x: layers.AveragePooling2D(2, (2, 1), name="same")(x), True),
    (lambda x: layers.UpSampling2D(name="same", interpolation="bilinear")(x), True),
], ids=["max", "pad", "reshape", "flatten", "crop", "permute", "average", "resize"])
def test_what_moves_values_shares_its_inputs_grid(make, rounds):
    x = image()
    planned = Planned(layers.Dense(2, name="dense")(make(conv(x, "conv"))), inputs=x)
    assert planned.grid("same") is planned.grid("conv")
    assert ("same" in planned.rounded) == rounds
    # Its values are within the others', so they do not set the range.
    assert planned.members("conv") == ["conv"]


def test_what_moves_values_is_rounded_where_it_is_an_output():
    x = image()
    planned = Planned(layers.MaxPooling2D(name="pool")(conv(x, "conv")), inputs=x)
    assert planned.rounded == {"image", "conv", "pool"}


def test_a_prescribed_range_is_the_grid():
    x = image()
    planned = Planned(layers.MaxPooling2D(name="pool")(layers.Activation("sigmoid", name="gate")(x)), inputs=x)
    assert planned.grid("pool").fixed == planned.grid("gate").fixed == (0.0, 255 / 256)


# --- concatenations ------------------------------------------------------------------------------------------------


def test_the_inputs_of_a_concatenation_share_its_grid():
    x = image()
    a, b = conv(x, "a"), layers.MaxPooling2D(1, name="pool")(conv(x, "b"))
    planned = Planned(conv(layers.Concatenate(name="both")([a, b]), "c"), inputs=x)
    assert len({id(planned.grid(name)) for name in ("a", "b", "pool", "both")}) == 1
    assert planned.grid("c") is not planned.grid("both")
    assert planned.members("both") == ["a", "b"] and "both" not in planned.rounded


def test_nested_concatenations_share_one_grid():
    x = image()
    stem = x1 = relu(conv(x, "stem"), "stem_relu")
    for index in range(3):
        y = conv(x1, f"grow{index}")
        x1 = layers.Concatenate(name=f"cat{index}")([x1, y])
    planned = Planned(conv(x1, "last"), inputs=x)
    assert stem is planned.tensor("stem_relu")
    assert len({id(planned.grid(name)) for name in ("stem_relu", "grow0", "grow1", "grow2", "cat0", "cat2")}) == 1
    assert planned.members("cat2") == ["stem_relu", "grow0", "grow1", "grow2"]


def test_an_input_that_is_concatenated_shares_the_grid_too():
    x = image()
    planned = Planned(conv(layers.Concatenate(name="both")([x, conv(x, "a")]), "b"), inputs=x)
    assert planned.grid("image") is planned.grid("a") and set(planned.members("both")) == {"image", "a"}


def test_equal_prescribed_ranges_share_one_grid():
    x = image()
    one, two = (layers.Activation("sigmoid", name=name)(conv(x, f"{name}_conv")) for name in ("one", "two"))
    planned = Planned(conv(layers.Concatenate(name="both")([one, two]), "last"), inputs=x)
    assert planned.grid("both").fixed == (0.0, 255 / 256) and planned.members("both") == ["one", "two"]


def test_a_prescribed_range_and_another_have_a_product_between_them():
    x = image()
    gate = layers.Activation("sigmoid", name="gate")(conv(x, "a"))
    model = simplify(tf_keras.Model(x, conv(layers.Concatenate(name="both")([gate, conv(x, "b")]), "last")))
    planned = Planned(model.outputs[0], inputs=model.inputs[0])
    assert planned.grid("gate").fixed == (0.0, 255 / 256) and planned.members("gate") == ["gate"]
    assert planned.grid("both").fixed is None and set(planned.members("both")) == {"both_input1", "b"}


def test_a_concatenation_kept_in_float_has_one_grid_with_what_it_joins_too():
    x = image()
    planned = Planned(
        conv(layers.Concatenate(name="both")([conv(x, "a"), conv(x, "b")]), "c"), inputs=x, kept=["both"]
    )
    assert planned.grid("a") is planned.grid("b") is planned.grid("both") and "both" in planned.rounded


# --- upper ends ----------------------------------------------------------------------------------------------------


def test_a_grid_takes_over_the_upper_end_of_its_relu():
    x = image()
    planned = Planned(conv(relu(conv(x, "a"), "relu", 6.0), "b"), inputs=x)
    assert planned.grid("relu").cap == 6.0 and planned.capped == {"relu"}
    assert planned.grid("b").cap is None


@pytest.mark.parametrize(("ends", "caps"), [
    ((6.0, 6.0), {"relu0": 6.0, "relu1": 6.0, "both": 6.0}), ((6.0, None), {"relu0": 6.0, "relu1": None, "both": None}),
    ((6.0, 1.0), {"relu0": 6.0, "relu1": 1.0, "both": None}),
])
def test_in_a_concatenation_only_relus_of_the_same_end_share_a_grid(ends, caps):
    x = image()
    both = [relu(conv(x, f"conv{index}"), f"relu{index}", end) for index, end in enumerate(ends)]
    model = simplify(tf_keras.Model(x, conv(layers.Concatenate(name="both")(both), "last")))
    planned = Planned(model.outputs[0], inputs=model.inputs[0])
    assert {name: planned.grid(name).cap for name in caps} == caps
    assert planned.capped == {name for name, cap in caps.items() if cap and "relu" in name}


def test_a_prescribed_range_is_the_grid_of_a_layer_kept_in_float_too():
    x = image()
    planned = Planned(conv(layers.Activation("sigmoid", name="gate")(x), "a"), inputs=x, kept=["gate"])
    assert planned.grid("gate").fixed == (0.0, 255 / 256)


def test_a_relu_kept_in_float_clips_by_itself():
    x = image()
    planned = Planned(conv(relu(x, "relu", 6.0), "a"), inputs=x, kept=["relu"])
    assert planned.grid("relu").cap is None and not planned.capped


# --- kept in float -------------------------------------------------------------------------------------------------


def test_between_layers_kept_in_float_nothing_is_rounded():
    x = image()
    y = conv(relu(conv(conv(x, "a"), "b"), "relu"), "c")
    planned = Planned(conv(y, "d"), inputs=x, kept=["b", "relu", "c"])
    assert planned.rounded == {"image", "a", "c", "d"}


def test_a_layer_kept_in_float_is_rounded_where_it_is_an_output():
    x = image()
    assert Planned(conv(x, "a"), inputs=x, kept=["a"]).rounded == {"image", "a"}


def test_a_kept_convolution_is_not_fused_into_a_relu_that_is_not_kept():
    x = image()
    assert Planned(relu(conv(x, "a"), "relu"), inputs=x, kept=["a"]).rounded == {"image", "a", "relu"}


# --- what integers cannot compute ----------------------------------------------------------------------------------


def test_an_operation_without_an_integer_kernel_is_refused_by_name():
    x = image()
    with pytest.raises(LoweringError, match=(
        r"^model: integers cannot compute odd \(activation gelu\)\. activation gelu: LiteRT has an "
        r"integer kernel for it, ONNX Runtime has none\. Use "
        r'another operation, or keep the layer in float: keep_float = \["odd"\] \(in \[quantize\] of the '
        r"configuration, or as an argument of quantize_model\)$"
    )):
        Planned(layers.Activation("gelu", name="odd")(conv(x, "a")), inputs=x)


def test_every_refused_operation_is_listed():
    x = y = image()
    for index in range(6):
        y = layers.LayerNormalization(name=f"norm{index}")(y)
    y = tf.math.cumsum(y, axis=1)
    with pytest.raises(LoweringError) as error:
        Planned(y, inputs=x)
    message = str(error.value)
    assert "norm0 (LayerNormalization), norm1" in message and "norm4 (LayerNormalization) and 2 more" in message
    assert '["norm0", "norm1", "norm2", "norm3", "norm4", "norm5", "tf.math.cumsum' in message


def test_a_tensor_operator_is_called_as_its_author_calls_it():
    x = image()
    with pytest.raises(LoweringError, match=r"compute tf\.math\.cumsum\w* \(tf\.math\.cumsum\)"):
        Planned(tf.math.cumsum(x, axis=1), inputs=x)


def test_a_refused_operation_may_be_kept_in_float():
    x = image()
    planned = Planned(conv(layers.Activation("gelu", name="odd")(conv(x, "a")), "b"), inputs=x, kept=["odd"])
    assert planned.rounded == {"image", "a", "odd", "b"}
