"""The ResNet family as data: stage sizes, width, squeeze-and-excitation, input shape, classes."""

from __future__ import annotations

from collections.abc import Sequence

import tf_keras
from tf_keras import layers

from edgeship.model.layers import ResidualUnit

RESNET34_STAGES = (3, 4, 6, 3)

INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"


def build_resnet(
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    stage_sizes: Sequence[int] = RESNET34_STAGES,
    width: int = 64,
    se_ratio: int = 0,
    se_divisor: int = 1,
    padding: str = "same",
    batch_norm_momentum: float = 0.9,
    batch_norm_epsilon: float = 1e-3,
) -> tf_keras.Model:
    """A ResNet of basic blocks: `(batch, *input_shape)` float32 -> `(batch, classes)` probabilities.

    Stage i has `stage_sizes[i]` units of `width * 2**i` filters; the first unit of every stage but the first
    halves the feature maps. ResNet-34 is `stage_sizes=(3, 4, 6, 3), width=64`: 21,814,696 parameters at
    224x224x3 and 1000 classes (He et al. 2016, table 1). `se_ratio=16` makes it SE-ResNet-34.

    `padding="symmetric"` pads every operation of stride 2 like PyTorch (torchvision/models/resnet.py: 3 for the
    stem, 1 for the max-pooling and for a stage's first 3x3): five PAD operations that "same" does without. Zeros
    are right for the pooling too, where PyTorch has minus infinity, since nothing behind a ReLU is below zero.

    Every layer has a fixed name, so that two builds give the same weight, TFLite and ONNX names.
    """
    norm = {"momentum": batch_norm_momentum, "epsilon": batch_norm_epsilon}
    explicit = padding == "symmetric"
    own = "valid" if explicit else "same"
    image = layers.Input(input_shape, name=INPUT_NAME)
    x = layers.ZeroPadding2D(3, name="stem_pad")(image) if explicit else image
    x = layers.Conv2D(
        width, 7, strides=2, padding=own, use_bias=False, kernel_initializer="he_normal", name="stem_conv"
    )(x)
    x = layers.BatchNormalization(**norm, name="stem_bn")(x)
    x = layers.Activation("relu", name="stem_act")(x)
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x) if explicit else x
    x = layers.MaxPooling2D(3, strides=2, padding=own, name="stem_pool")(x)
    for stage, units in enumerate(stage_sizes):
        for unit in range(units):
            x = ResidualUnit(
                width * 2**stage,
                strides=2 if unit == 0 and stage > 0 else 1,
                se_ratio=se_ratio,
                se_divisor=se_divisor,
                padding=padding,
                batch_norm_momentum=batch_norm_momentum,
                batch_norm_epsilon=batch_norm_epsilon,
                name=f"stage{stage + 1}_unit{unit + 1}",
            )(x)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = layers.Flatten(name="head_flatten")(x)
    x = layers.Dense(classes, activation="softmax", name=OUTPUT_NAME)(x)
    return tf_keras.Model(image, x, name="resnet")
