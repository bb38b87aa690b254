"""One small model and its data for each task, as a user would write them beside a configuration.

    python -c "import tasks" works from a folder that has a copy of this file: it imports nothing of edgeship.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_diabetes, load_digits

PICTURES, LABELS = (lambda data: ((data.images[..., None] / 16).astype("float32"), data.target))(load_digits())
TRAIN, TEST = slice(0, 1200), slice(1200, 1600)


def _split(inputs, targets):
    return {"train": (inputs[TRAIN], targets[TRAIN]), "test": (inputs[TEST], targets[TEST])}


def _picture_model(make_head, *, name):
    from tf_keras import Model, layers

    picture = layers.Input((8, 8, 1), name="picture")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv1")(picture)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2")(x)
    return Model(picture, make_head(layers, x), name=name)


# --- classification by logits ---------------------------------------------------------------------------------------


def digits():
    return _split(PICTURES, LABELS)


def logits():
    return _picture_model(
        lambda layers, x: layers.Dense(10, name="logits")(layers.Flatten()(layers.MaxPooling2D()(x))), name="classifier"
    )


# --- several labels at once -----------------------------------------------------------------------------------------


def properties():
    """Is the digit even, is it above four, does it have a closed loop?"""
    answers = np.stack([LABELS % 2 == 0, LABELS > 4, np.isin(LABELS, (0, 6, 8, 9))], axis=1)
    return _split(PICTURES, answers.astype("int64"))


def multi_label():
    def head(layers, x):
        return layers.Dense(3, activation="sigmoid", name="labels")(layers.Flatten()(layers.MaxPooling2D()(x)))

    return _picture_model(head, name="multi_label")


# --- yes or no: one logit, and one sigmoid per pixel ----------------------------------------------------------------


def parity():
    """Is the digit even?"""
    return _split(PICTURES, (LABELS % 2 == 0).astype("int64"))


def one_logit():
    return _picture_model(
        lambda layers, x: layers.Dense(1, name="even")(layers.Flatten()(layers.MaxPooling2D()(x))), name="one_logit"
    )


def one_channel():
    from tf_keras import Model, layers

    picture = layers.Input((8, 16, 1), name="picture")
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="conv1")(picture)
    return Model(picture, layers.Conv2D(1, 1, activation="sigmoid", name="ink")(x), name="one_channel")


# --- regression on a table ------------------------------------------------------------------------------------------


def diabetes():
    data = load_diabetes()
    inputs, targets = (data.data / data.data.std(0)).astype("float32"), (data.target / 100).astype("float32")
    return {"train": (inputs[:340], targets[:340]), "test": (inputs[340:], targets[340:])}


def regression():
    from tf_keras import Sequential, layers

    return Sequential([
        layers.Input((10,), name="facts"), layers.Dense(32, activation="relu", name="hidden"),
        layers.Dense(1, name="value"),
    ], name="regression")


# --- reconstruction: how unusual is it? -----------------------------------------------------------------------------


def anomalies():
    """Trained on zeros alone; every other digit is an anomaly."""
    flat, normal = PICTURES.reshape(-1, 64), LABELS == 0
    return {"train": (flat[TRAIN][normal[TRAIN]], LABELS[TRAIN][normal[TRAIN]]),
            "test": (flat[TEST], (~normal[TEST]).astype("int64"))}


def autoencoder():
    from tf_keras import Sequential, layers

    return Sequential([
        layers.Input((64,), name="pixels"), layers.Dense(32, use_bias=False, name="down1"), layers.BatchNormalization(),
        layers.ReLU(), layers.Dense(6, activation="relu", name="code"), layers.Dense(32, activation="relu", name="up1"),
        layers.Dense(64, name="again"),
    ], name="autoencoder")


# --- segmentation ---------------------------------------------------------------------------------------------------


def masks():
    """Ink or not, told from pictures with noise; not square."""
    wide = np.repeat(PICTURES, 2, axis=2)
    noisy = (wide + np.random.default_rng(0).normal(size=wide.shape) * 0.2).astype("float32")
    return _split(noisy, (wide[..., 0] > 0.4).astype("int64"))


def segmentation():
    from tf_keras import Model, layers

    picture = layers.Input((8, 16, 1), name="picture")
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="conv1")(picture)
    return Model(picture, layers.Conv2D(2, 1, activation="softmax", name="classes")(x), name="segmentation")


# --- detection heads: two outputs, the user's own metric -------------------------------------------------------------


def corners():
    """A digit somewhere in a larger picture: where is its middle (two numbers), and which is it (ten scores)?"""
    generator = np.random.default_rng(1)
    larger, middles = np.zeros((1600, 12, 16, 1), "float32"), np.zeros((1600, 2), "float32")
    for index in range(1600):
        row, column = generator.integers(0, 5), generator.integers(0, 9)
        larger[index, row : row + 8, column : column + 8] = PICTURES[index]
        middles[index] = (row + 4) / 12, (column + 4) / 16
    return _split(larger, np.concatenate([middles, LABELS[:1600, None]], axis=1).astype("float32"))


def detection():
    from tf_keras import Model, layers

    picture = layers.Input((12, 16, 1), name="picture")
    x = layers.Conv2D(12, 3, strides=2, padding="same", activation="relu", name="conv1")(picture)
    x = layers.Flatten()(layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2")(x))
    return Model(
        picture, [layers.Dense(2, activation="sigmoid", name="middle")(x), layers.Dense(10, name="scores")(x)],
        name="detection",
    )


def closeness(outputs, targets):
    """Minus the distance from the middle."""
    return -np.linalg.norm(outputs[0] - targets[:, :2], axis=1)


# --- sequences ------------------------------------------------------------------------------------------------------


def waves():
    """Which of three shapes does a noisy wave of two channels have?"""
    generator = np.random.default_rng(2)
    kinds = generator.integers(0, 3, 1600)
    time = np.linspace(0, 6 * np.pi, 48)[None, :, None] + generator.uniform(0, 6, (1600, 1, 2))
    shapes = np.stack([np.sin(time), np.sign(np.sin(time)), np.sin(time) ** 3])
    inputs = shapes[kinds, np.arange(1600)] + generator.normal(size=(1600, 48, 2)) * 0.2
    return _split(inputs.astype("float32"), kinds)


def sequence():
    from tf_keras import Sequential, layers

    return Sequential([
        layers.Input((48, 2), name="wave"), layers.Conv1D(16, 5, padding="same", activation="relu", name="conv1"),
        layers.MaxPooling1D(2), layers.SeparableConv1D(24, 3, padding="causal", activation="relu", name="conv2"),
        layers.GlobalAveragePooling1D(), layers.Dense(3, activation="softmax", name="shape"),
    ], name="sequence")
