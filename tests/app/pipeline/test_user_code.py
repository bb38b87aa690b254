"""Networks of classes that nobody can load again, through the whole pipeline; and code that is edited between runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.config import Config, DataConfig, ExportConfig, ModelConfig, QuantizeConfig, TrainConfig
from edgeship.core.errors import ExportError, LoweringError, ModelError
from edgeship.validate.subject.bundle import load_bundle

CONFIG = Config(
    data=DataConfig(image_size=8, train_images=96, calibration_images=16, test_images=40),
    train=TrainConfig(epochs=1, batch_size=32, warmup_epochs=0),
    quantize=QuantizeConfig(schemes=("float32",)),
    export=ExportConfig(formats=("tflite",), golden_images=4),
)
# None of it can be loaded again: a lambda, a function in a Lambda, a layer that is not registered, one without
# get_config(), one whose get_config() is wrong, one that keeps a constant, a regularizer without get_config(), lambdas
# as constraint and initializer, and all of it in a subclassed model.
UNLOADABLE = """
import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers


def centred(x):
    return 2.0 * x - 1.0


class Shrink(tf_keras.regularizers.Regularizer):
    def __call__(self, kernel):
        return 0.01 * tf.reduce_sum(tf.abs(kernel))


class Block(layers.Layer):
    def __init__(self, width):
        super().__init__(name="block")
        self.conv = layers.Conv2D(
            width, 3, padding="same", kernel_regularizer=Shrink(),
            kernel_constraint=lambda w: tf.clip_by_value(w, -1, 1),
            kernel_initializer=lambda shape, dtype=None: tf.random.uniform(shape, -0.3, 0.3), name="conv",
        )
        self.norm = layers.BatchNormalization(momentum=0.5)

    def call(self, x, training=None):
        return tf.nn.relu(self.norm(self.conv(x), training=training))


class Wrong(layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.dense = layers.Dense(width)

    def call(self, x):
        return self.dense(x) + tf.constant(np.linspace(-1, 1, self.width), tf.float32)

    def get_config(self):
        return {**super().get_config(), "units": self.width}


class Net(tf_keras.Model):
    def __init__(self, classes):
        super().__init__(name="net")
        self.parts = [
            layers.Lambda(lambda x: x * 0.5), layers.Lambda(centred), Block(6), layers.GlobalAveragePooling2D(),
            Wrong(8), layers.Dense(classes, activation="softmax"),
        ]

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


def build(input_shape, classes):
    model = Net(classes)
    model(tf.zeros((1, *input_shape)))
    return model
"""
LOAD_ELSEWHERE = """
import sys
import numpy as np
from edgeship.validate.subject.bundle import load_bundle
from edgeship.validate.probes.reference import FloatKeras
from pathlib import Path

bundle = load_bundle(Path(sys.argv[1]))
found = FloatKeras(str(bundle.reference_path), custom_objects=bundle.manifest.reference.custom_objects)
answers = found.infer(list(bundle.golden.inputs))
np.testing.assert_allclose(answers[0], bundle.golden.float_outputs[0], rtol=0, atol=1e-6)
print("the same")
"""
PLAIN = """
import tf_keras
from tf_keras import layers
from {helper} import Noise, WIDTH


def build(input_shape, classes):
    x = image = layers.Input(input_shape)
    x = Noise()(layers.Conv2D(WIDTH, 3, activation="relu")(x))
    x = layers.Dense(classes, activation="{activation}")(layers.Flatten()(x))
    return tf_keras.Model(image, x, name="plain")
"""
HELPER = """
import tensorflow as tf
from tf_keras import layers

WIDTH = 4


class Noise(layers.Layer):
    def call(self, x, training=None):
        return x + tf.random.normal(tf.shape(x), stddev=0.1) if training else x
"""


def pipeline_of(folder: Path, factory: str, config: Config = CONFIG) -> Pipeline:
    config = replace(config, model=ModelConfig(factory=factory))
    return Pipeline(config=config, out=folder / "out", module_folder=folder)


def trained(folder: Path, factory: str) -> tuple[list[str], bytes]:
    """(the stages that ran, the file) of one call."""
    pipeline = pipeline_of(folder, factory)
    pipeline.train()
    return pipeline.cache.ran, pipeline.float_file.read_bytes()


def test_what_cannot_be_loaded_again_is_trained_saved_and_exported(tmp_path):
    (tmp_path / "unloadable_for_a_test.py").write_text(UNLOADABLE)
    factory = "unloadable_for_a_test:build"
    config = replace(
        CONFIG, quantize=QuantizeConfig(schemes=("int8-ptq",)), export=ExportConfig(golden_images=4),
    )
    pipeline_of(tmp_path, factory, config).train()
    later = pipeline_of(tmp_path, factory, config)  # as another command, or after an interruption
    later.export()
    assert later.cache.ran == ["output", "quantize int8-ptq", "export"]
    manifest = load_bundle(later.bundle_folder).manifest
    assert manifest.reference.custom_objects == ("edgeship.model.flat_layers",)
    assert {artifact.name for artifact in manifest.artifacts} == {
        "int8-ptq.tflite", "int8-ptq.onnx", "int8-ptq-u8s8.onnx",
    }
    # A machine that has the bundle and none of the user's code.
    found = subprocess.run(
        [sys.executable, "-c", LOAD_ELSEWHERE, str(later.bundle_folder)], cwd=Path(__file__).parents[3],
        capture_output=True, text=True, check=False,
    )
    assert found.stdout == "the same\n", found.stderr


def test_edited_code_is_trained_again_wherever_the_edit_is(tmp_path):
    factory, helper = tmp_path / "edited_for_a_test.py", tmp_path / "edited_helper_for_a_test.py"
    factory.write_text(PLAIN.format(helper=helper.stem, activation="softmax"))
    helper.write_text(HELPER)
    name = f"{factory.stem}:build"
    ran, first = trained(tmp_path, name)
    assert ran == ["preflight", "train"]
    assert trained(tmp_path, name) == ([], first)
    helper.write_text(HELPER.replace("WIDTH = 4", "WIDTH = 5"))
    ran, wider = trained(tmp_path, name)
    assert ran == ["preflight", "train"] and len(wider) != len(first)
    # Neither the network nor its first weights show this one: it acts in training only.
    helper.write_text(HELPER.replace("WIDTH = 4", "WIDTH = 5").replace("stddev=0.1", "stddev=0.9"))
    ran, _ = trained(tmp_path, name)
    assert ran == ["preflight", "train"]
    factory.write_text(factory.read_text().replace('activation="relu"', 'activation="tanh"'))
    ran, last = trained(tmp_path, name)
    assert ran == ["preflight", "train"]
    assert trained(tmp_path, name) == ([], last)


def test_a_file_that_the_factory_reads_is_seen_in_the_first_weights(tmp_path):
    (tmp_path / "reads_a_file_for_a_test.py").write_text(
        PLAIN.format(helper="reader_helper_for_a_test", activation="softmax").replace("def build", "def made")
        + "def build(input_shape, classes):\n"
        "    import numpy, pathlib\n"
        "    model = made(input_shape, classes)\n"
        "    kernel, bias = model.layers[-1].get_weights()\n"
        "    bias[:] = numpy.load(pathlib.Path(__file__).parent / 'bias.npy')\n"
        "    model.layers[-1].set_weights([kernel, bias])\n"
        "    return model\n"
    )
    (tmp_path / "reader_helper_for_a_test.py").write_text(HELPER)
    np.save(tmp_path / "bias.npy", np.zeros(10))
    name = "reads_a_file_for_a_test:build"
    assert trained(tmp_path, name)[0] == ["preflight", "train"]
    assert trained(tmp_path, name)[0] == []
    np.save(tmp_path / "bias.npy", np.arange(10))
    assert trained(tmp_path, name)[0] == ["preflight", "train"]


LAYERS = """
import tf_keras


@tf_keras.utils.register_keras_serializable("layers_for_a_test")
class Scaled(tf_keras.layers.Layer):
    def call(self, x):
        return x * 2.0
"""
SAVE = """
import sys
import tf_keras
from tf_keras import layers
sys.path.insert(0, sys.argv[1])
from layers_for_a_test import Scaled

tf_keras.Sequential([
    layers.Input((8, 8, 1)), Scaled(), layers.Flatten(), layers.Dense(10, activation="softmax"),
]).save(f"{sys.argv[1]}/mine.keras")
"""


def test_an_edited_layer_of_a_model_file_is_seen(tmp_path):
    module = tmp_path / "layers_for_a_test.py"
    module.write_text(LAYERS)
    subprocess.run([sys.executable, "-c", SAVE, str(tmp_path)], check=True, capture_output=True)
    model = ModelConfig(path=str(tmp_path / "mine.keras"), custom_objects=("layers_for_a_test",))
    config = replace(CONFIG, model=model, train=TrainConfig(epochs=0))

    def run():
        pipeline = Pipeline(config=config, out=tmp_path / "out", module_folder=tmp_path)
        pipeline.train()
        answers = pipeline._float_model()(np.full((1, 8, 8, 1), 0.5, np.float32)).numpy()
        return pipeline.cache.ran, answers

    ran, first = run()
    assert ran == ["train"]
    module.write_text(LAYERS.replace("x * 2.0", "x * 3.0"))
    ran, other = run()
    assert ran == ["train"] and not np.array_equal(first, other)
    assert run()[0] == []


def test_a_factory_with_random_numbers_of_its_own_is_told_and_not_trained_every_time(tmp_path, capfd):
    (tmp_path / "random_for_a_test.py").write_text(
        PLAIN.format(helper="random_helper_for_a_test", activation="softmax").replace("def build", "def made")
        + "def build(input_shape, classes):\n"
        "    import numpy\n"
        "    model = made(input_shape, classes)\n"
        "    model.layers[-1].bias.assign(numpy.random.default_rng().normal(size=classes))\n"
        "    return model\n"
    )
    (tmp_path / "random_helper_for_a_test.py").write_text(HELPER)
    assert trained(tmp_path, "random_for_a_test:build")[0] == ["preflight", "train"]
    assert "makes other weights with every call" in capfd.readouterr().err
    assert trained(tmp_path, "random_for_a_test:build")[0] == []


REFUSED = """
import tensorflow as tf
import tf_keras
from tf_keras import layers


def network(middle):
    def build(input_shape, classes):
        x = image = layers.Input(input_shape)
        x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
        x = middle(x)
        x = layers.Dense(classes, name="head")(layers.Flatten(name="flat")(x))
        return tf_keras.Model(image, layers.Softmax(name="probabilities")(x), name="refused")
    return build


class Strange(layers.Layer):
    def call(self, x):
        return tf.math.erfinv(0.1 * tf.tanh(x))


class Counts(layers.Layer):
    def build(self, shape):
        self.calls = self.add_weight("calls", shape=(), trainable=False)
    def call(self, x):
        self.calls.assign_add(1.0)
        return x


def logits(input_shape, classes):
    model = fine(input_shape, classes)
    return tf_keras.Model(model.input, model.get_layer("head").output, name="logits")


def sigmoids(input_shape, classes):
    model = logits(input_shape, classes)
    return tf_keras.Model(model.input, layers.Activation("sigmoid")(model.output), name="sigmoids")

fine = network(lambda x: x)
strange = network(Strange(name="strange"))
stateful = network(Counts(name="counts"))
"""
INTEGERS = QuantizeConfig(schemes=("int8-ptq",))


@pytest.mark.parametrize(("name", "quantize", "error", "message"), [
    ("sigmoids", INTEGERS, ModelError, "sigmoids: expected probabilities"),
    ("stateful", INTEGERS, LoweringError, "counts .*stateful"),
    ("strange", INTEGERS, LoweringError, "strange_erfinv"),
    ("fine", replace(INTEGERS, keep_float=("cnv",)), LoweringError, "keep_float: no layer is called 'cnv'"),
    ("strange", QuantizeConfig(schemes=("float32",)), ExportError, "float32"),  # TFLite has no such operation
])
def test_what_must_be_refused_is_refused_before_training(tmp_path, name, quantize, error, message):
    (tmp_path / "refused_for_a_test.py").write_text(REFUSED)
    pipeline = pipeline_of(tmp_path, f"refused_for_a_test:{name}", replace(CONFIG, quantize=quantize))
    with pytest.raises(error, match=message):
        pipeline.train()
    assert not pipeline.float_file.exists()
    assert not list(pipeline.out.rglob("*checkpoint*"))


def test_a_network_that_ends_in_logits_is_trained_with_a_softmax_behind_it(tmp_path, capfd):
    (tmp_path / "refused_for_a_test.py").write_text(REFUSED)
    pipeline = pipeline_of(tmp_path, "refused_for_a_test:logits", replace(CONFIG, quantize=INTEGERS))
    pipeline.train()
    said = capfd.readouterr().err
    assert said.count("train: logits ends in logits (its last layer has no softmax): a softmax is put behind it") == 1
    answers = pipeline._float_model()(np.full((2, 8, 8, 1), 0.5, np.float32)).numpy()
    np.testing.assert_allclose(answers.sum(-1), 1, rtol=1e-5)


def test_what_was_checked_is_said_once_and_not_repeated(tmp_path, capfd):
    (tmp_path / "refused_for_a_test.py").write_text(REFUSED)
    config = replace(CONFIG, quantize=INTEGERS, export=ExportConfig(golden_images=4))
    pipeline_of(tmp_path, "refused_for_a_test:fine", config).train()
    said = capfd.readouterr().err
    assert "checked before training: refused: lowered to" in said
    assert "trial export of 3 files" in said
    assert "export: " not in said  # what a trial says of its own is not for the user
    (tmp_path / "out" / "float.keras").unlink()  # as if the training had been interrupted
    again = pipeline_of(tmp_path, "refused_for_a_test:fine", config)
    again.train()
    assert again.cache.ran == ["train"]
