"""Which channels take the same factor, told from networks whose answers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.layer_names import wrapper_name
from edgeship.quantize.channel_groups import Unions, channel_groups
from edgeship.quantize.lowering.lower import lower
from tests.support.networks import quantized_model, randomize

SHAPE = (8, 8, 4)


def conv(name, channels=4, **options):
    return layers.Conv2D(channels, options.pop("size", 1), padding="same", name=name, **options)


def groups_of(build):
    """The groups of a network from image (8, 8, 4), and its layers by name."""
    image = layers.Input(SHAPE, name="image")
    quantized, _ = quantized_model(lower(randomize(tf_keras.Model(image, build(image)))))
    groups = channel_groups(quantized.model, [wrapper_name(name) for name in quantized.weights])

    def of(uses, name):
        return uses[quantized.model.get_layer(wrapper_name(name))]

    return groups, lambda name: of(groups.made, name), lambda name: of(groups.read, name)


def test_numbers_are_joined_into_groups():
    unions = Unions()
    numbers = unions.new(5)
    unions.join(0, 3)
    unions.join(3, 4)
    np.testing.assert_array_equal(numbers, range(5))
    np.testing.assert_array_equal(unions.groups(), [2, 0, 1, 2, 2])
    assert len(Unions().groups()) == 0


def test_a_group_is_marked_with_any_of_its_numbers_before_or_after_they_are_joined():
    unions = Unions()
    unions.new(5)
    unions.mark(0)
    unions.join(0, 3)  # a marked group into another
    unions.join(3, 4)
    unions.join(1, 2)
    assert [unions.is_marked(number) for number in range(5)] == [True, False, False, True, True]
    unions.mark(2)
    assert unions.is_marked(1)


def test_what_is_added_takes_one_factor():
    def build(image):
        x = conv("first")(image)
        x = layers.Add(name="sum")([x, conv("second", activation="relu")(x)])
        return conv("last", 3)(x)

    groups, made, read = groups_of(build)
    np.testing.assert_array_equal(made("first"), made("second"))
    np.testing.assert_array_equal(made("first"), read("last"))
    assert len(set(made("first"))) == 4 and not groups.is_fixed[made("first")].any()
    assert groups.is_fixed[made("last")].all()  # a model's outputs are what they are
    assert groups.is_fixed[read("first")].all()  # and so are its inputs
    assert sum(set(own) == set(made("first")) for own in groups.sets()) == 1


def test_channels_keep_their_factors_where_they_are_joined_cut_and_reordered():
    def build(image):
        x = layers.Concatenate(name="joined")([conv("one", 2)(image), conv("two", 3)(image)])
        x = layers.MaxPooling2D(name="pool")(layers.UpSampling2D(name="larger")(x))
        last = conv("last", 2)(x[..., 1:4])
        return layers.Add(name="both")([last, conv("all", 2)(tf.gather(x, [4, 3, 2, 1, 0], axis=-1))])

    _, made, read = groups_of(build)
    joined = [*made("one"), *made("two")]
    np.testing.assert_array_equal(read("last"), joined[1:4])
    np.testing.assert_array_equal(read("all"), joined[::-1])


def test_a_flat_tensor_has_each_channel_once_per_place():
    _, made, read = groups_of(lambda image: layers.Dense(3, name="last")(layers.Flatten()(conv("first")(image))))
    np.testing.assert_array_equal(read("last"), np.tile(made("first"), 64))


def test_a_reshape_that_mixes_channels_ends_them():
    def build(image):
        return conv("last", 3)(layers.Reshape((16, 8, 2), name="mixed")(conv("first")(image)))

    groups, made, _ = groups_of(build)
    assert groups.is_fixed[made("first")].all()


@pytest.mark.parametrize("form", [
    lambda x: layers.Dense(1, name="first")(layers.Flatten()(x))[:, 0],
    lambda x: tf.reshape(layers.Dense(1, name="first")(layers.Flatten()(x))[:, 0], (-1, 1)),
])
def test_a_number_for_each_example_has_no_channels(form):
    groups, made, _ = groups_of(form)
    assert groups.is_fixed[made("first")].all()


def test_channels_behind_a_gate_keep_their_factor():
    def build(image):
        x = conv("first", activation="relu")(image)
        gate = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(x)
        gate = conv("gate", activation="sigmoid")(gate)
        return conv("last", 3)(layers.Multiply(name="gated")([x, gate]))

    groups, made, read = groups_of(build)
    np.testing.assert_array_equal(read("last"), made("first"))
    np.testing.assert_array_equal(read("gate"), made("first"))
    assert not groups.is_fixed[made("first")].any() and groups.is_fixed[made("gate")].all()


@pytest.mark.parametrize("end", [
    lambda x: layers.ReLU(6.0, name="end")(x),
    lambda x: layers.Activation("tanh", name="end")(x),
    lambda x: layers.Multiply(name="end")([x, conv("other")(x)]),
    lambda x: layers.Add(name="end")([x, layers.GlobalAveragePooling2D(keepdims=True)(conv("other", 1)(x))]),
    lambda x: layers.Concatenate(axis=1, name="end")([x, x]),
    lambda x: tf.pad(x, [[0, 0], [0, 0], [0, 0], [1, 1]]),
    lambda x: tf.reduce_max(x, axis=-1, keepdims=True),
])
def test_what_no_factor_passes_through(end):
    groups, made, _ = groups_of(lambda image: conv("last", 3)(end(conv("first")(image))))
    assert groups.is_fixed[made("first")].all()


def test_a_kernel_of_several_calls_and_one_of_several_groups_read_channels_as_they_are():
    def build(image):
        shared = conv("shared")
        x = conv("in_groups", groups=2)(conv("first")(image))
        return conv("last", 3)(layers.Concatenate()([shared(x), shared(conv("second")(x))]))

    groups, made, _ = groups_of(build)
    assert groups.is_fixed[made("first")].all() and groups.is_fixed[made("in_groups")].all()
    assert groups.is_fixed[made("second")].all()


def test_channels_of_depthwise_layers_depend_on_each_other_by_their_grid_alone():
    def build(image):
        x = layers.DepthwiseConv2D(3, padding="same", name="first")(image)
        return layers.DepthwiseConv2D(3, padding="same", name="last")(x)

    groups, made, read = groups_of(build)
    np.testing.assert_array_equal(read("last"), made("first"))
    assert [set(made("first"))] == [set(own) for own in groups.sets() if set(own) & set(made("first"))]
