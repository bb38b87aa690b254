"""A network of three convolutions that tells where in a picture a bar is, its images, and its way to integers."""

from __future__ import annotations

import functools

import numpy as np
import tf_keras
from tf_keras import layers

from edgeship.core.artifact import Preprocessing
from edgeship.core.config import QuantizeConfig
from edgeship.data import Images
from edgeship.model.train import Schedule, fit
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.prepare import prepare, seed_ranges

SPEC = Preprocessing(
    image_size=8, channels=1, channel_order="gray", interpolation="bilinear", mean=(0.0,), std=(1.0,)
)
CLASSES = 4


def bars(count, *, seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pictures = generator.integers(0, 160, (count, 8, 8), dtype=np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        picture[2 * label : 2 * label + 2] += np.uint8(95)
    return Images(pictures, labels)


TRAIN, CALIBRATION, TEST = bars(128, seed=0), bars(64, seed=1), bars(64, seed=2)


@functools.cache
def trained_bars():
    """The float network, trained once in a process."""
    tf_keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 1), name="image")

    def conv(x, name):
        return layers.BatchNormalization(momentum=0.8, name=f"{name}_norm")(
            layers.Conv2D(8, 3, padding="same", use_bias=False, name=name)(x)
        )

    x = layers.ReLU(name="stem_relu")(conv(image, "stem"))
    y = layers.ReLU(name="first_relu")(conv(x, "first"))
    x = layers.ReLU(name="unit_relu")(layers.Add(name="unit")([x, conv(y, "second")]))
    x = layers.Flatten(name="flat")(layers.AveragePooling2D(2, name="pool")(x))
    model = tf_keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="answer")(x), name="bars")
    fit(model, TRAIN, spec=SPEC, label="float", schedule=Schedule(epochs=8, batch_size=32, learning_rate=3e-3))
    return model


def config(**options):
    return QuantizeConfig(**{
        "epochs": 2, "batch_size": 32, "learning_rate": 1e-3, "ema_decay": 0.9, "calibration": "min-max", **options
    })


def prepared(model, **options):
    return prepare(lower(model), spec=SPEC, config=config(**options))


def seeded(model, method="min-max", **options):
    quantized = prepared(model, **options)
    seed_ranges(quantized, CALIBRATION, spec=SPEC, method=method)
    return quantized


def ends(quantized):
    return {item.name: (float(item.minimum), float(item.maximum)) for item in quantized.ranges}
