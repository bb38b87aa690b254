"""Two worker processes on loopback train both phases as one process does; a lost worker ends the other; two devices."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.config_file import load_config
from edgeship.core.errors import ConfigError
from edgeship.model import build
from edgeship.model.distribute import Share

ROOT = Path(__file__).parents[2]
LONG_SECONDS = 240  # for a machine that does much else beside

# Without batch norm, whose statistics each replica takes of its own images.
MODULE = """
import tf_keras
from tf_keras import layers

def build(input_shape, classes):
    inputs = layers.Input(input_shape)
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = layers.Flatten(name="flat")(x)
    return tf_keras.Model(inputs, layers.Dense(classes, activation="softmax", name="head")(x), name="plain")
"""
CONFIG = """
[data]
image_size = 8
train_images = 256
calibration_images = 64
test_images = 64
[model]
factory = "{factory}:build"
[train]
epochs = {epochs}
batch_size = 32
learning_rate = 1e-2
augmentation = "flip"
validation_images = 64
strategy = "{strategy}"
worker_timeout_seconds = 3600
[quantize]
schemes = ["int8-qat"]
epochs = 2
batch_size = 32
learning_rate = 1e-3
validation_images = 60
freeze_ranges_at = 0.0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distribute")
    (folder / "plain_model.py").write_text(MODULE)
    (folder / "plain_model3.py").write_text(
        MODULE.replace("import tf_keras\n", "import keras\n").replace("tf_keras", "keras")
    )
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """What one process with one device makes of it."""
    pipeline = Pipeline(config=load_config(configured(folder, "none")), out=folder / "alone", module_folder=folder)
    pipeline.quantize()
    return pipeline.out


def configured(folder: Path, strategy: str, *, epochs: int = 2, factory: str = "plain_model") -> Path:
    path = folder / f"{strategy} {factory}.toml"
    path.write_text(CONFIG.format(strategy=strategy, epochs=epochs, factory=factory))
    return path


def free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def start_two(*arguments: str) -> list[subprocess.Popen[str]]:
    """Python with these arguments, as either worker."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    return [
        subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {"TF_CONFIG": json.dumps({
                "cluster": {"worker": addresses}, "task": {"type": "worker", "index": index},
            })},
        )
        for index in range(2)
    ]


def quantize(config: Path, out: Path) -> tuple[str, ...]:
    return "-m", "edgeship", "quantize", str(config), "--out", str(out)


def close_to(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        # A batch summed in two halves rounds differently (2**-24 of the sum); the optimizer divides by the gradient's
        # root mean square, so this reaches the weights in proportion to the learning rate. 4e-7 were seen.
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def quantized_weights(out: Path) -> list[np.ndarray]:
    with np.load(out / "quantized" / "int8-qat.npz") as arrays:
        return [arrays[name] for name in sorted(arrays.files) if name.startswith("weight")]


def test_two_workers_train_both_phases_as_one_process_does(folder, alone):
    workers = start_two(*quantize(configured(folder, "multi-worker"), folder / "shared"))
    said = [worker.communicate(timeout=LONG_SECONDS)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    for text in said:
        assert "calibration: 64 images, 6 to 7 of each of 10 classes" in text
        assert "float training: kept epoch" in text
        assert "quantization-aware training: kept epoch" in text
    close_to(*(build.load_model(out / "float.keras").get_weights() for out in (folder / "shared", alone)))
    close_to(quantized_weights(folder / "shared"), quantized_weights(alone))
    # Only the chief writes, and what was written for others alone is gone.
    names = {path.name for path in (folder / "shared").rglob("*") if path.is_file()}
    assert names == {
        "float.keras", "int8-qat.npz", "output.json", "preflight.json", "train.json", "quantize int8-qat.json",
    }


def test_a_lost_worker_ends_the_other_with_a_message(folder):
    workers = start_two(*quantize(configured(folder, "multi-worker", epochs=100_000), folder / "lost"))
    said = ""
    for line in workers[1].stdout:
        said += line
        if "train: plain" in line:
            break
    workers[1].send_signal(signal.SIGTERM)
    workers[1].communicate(timeout=LONG_SECONDS)
    # The timeout for silent workers, an hour here, is not waited for.
    text = workers[0].communicate(timeout=LONG_SECONDS)[0]
    assert workers[0].returncode == 1, (said, text)
    assert "error: worker 0 of 2: another worker has ended or is silent" in text
    assert "training continues from the last checkpoint" in text
    assert "Traceback" not in text


DISAGREEING = """
import sys
from pathlib import Path

import edgeship.model
from edgeship.app.pipeline import shared_stage
from edgeship.app.pipeline.cache import StageCache
from edgeship.app.pipeline.stage import Stage
from edgeship.core.errors import ConfigError
from edgeship.model.distribute import start_workers

shared_stage.SEE_SECONDS = 1.0
workers = start_workers("multi-worker", timeout_seconds=60)
index = workers.cluster.index

def run(folder, read):
    ran = []
    stages = shared_stage.SharedStages(StageCache(folder), workers)
    try:
        stages.run(Stage(name="train", about="", read={"value": read}, work=ran.append, together=True))
    except ConfigError as error:
        print(error)
    print("ran", len(ran))

folder = Path(sys.argv[1])
run(folder / f"own-{index}", 0)
run(folder / "same", index)
run(folder / "same", 0)
"""


def test_workers_that_do_not_go_together_are_refused_before_they_train(folder):
    workers = start_two("-c", DISAGREEING, str(folder / "disagreeing"))
    for worker in workers:
        text, _ = worker.communicate(timeout=LONG_SECONDS)
        assert worker.returncode == 0, text
        assert "expected a folder that all 2 workers see" in text
        assert "1 do not see what it wrote; choose a shared one" in text
        assert "train: the workers do not read the same configuration, data and version of edgeship" in text
        assert [line for line in text.splitlines() if line.startswith("ran")] == ["ran 0", "ran 0", "ran 1"]


TWO_DEVICES = """
import sys
from dataclasses import replace
from pathlib import Path

import edgeship
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import tf_keras
from edgeship.core.config_file import load_config
from edgeship.model import train
from edgeship.model.distribute import all_sum, share_of
from edgeship.app.pipeline.pipeline import Pipeline

config, out, folder = load_config(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[1]).parent
"""
MIRRORED = TWO_DEVICES + """
def quantize(**changes):
    pipeline = Pipeline(
        config=replace(config, quantize=replace(config.quantize, **changes)), out=out, module_folder=folder
    )
    pipeline.quantize()
    with np.load(pipeline.quantized_file("int8-qat")) as arrays:
        return pipeline, [arrays[name] for name in sorted(arrays.files) if name.startswith("weight")]

# Ranges that follow what each replica sees; the last call leaves the files.
_, followed = quantize(freeze_ranges_at=1.0, validation_images=0)
pipeline, frozen = quantize()
print("ranges that moved", sum(one.shape == () and one != other for one, other in zip(followed, frozen)))

with pipeline.workers.scope():
    strategy = tf.distribute.get_strategy()
    share = share_of(strategy)
    print("share", share.replicas, share.first, share.local, all_sum(np.array([3.0])))
    model = tf_keras.Sequential([
        tf_keras.layers.Input((8, 8, 1)), tf_keras.layers.BatchNormalization(), tf_keras.layers.Flatten(),
        tf_keras.layers.Dense(10, activation="softmax"),
    ])
    train.fit(
        model, pipeline.splits.train, spec=pipeline.spec, label="batch norm",
        schedule=train.Schedule(epochs=1, batch_size=64, learning_rate=1e-3),
    )
    own = strategy.experimental_local_results(model.layers[0].moving_mean)
    print("statistics", len(own), "moved", float(own[0][0]) != 0, "equal", bool(own[0] == own[1]))
"""


def test_two_devices_train_both_phases_as_one_does(folder, alone):
    found = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(configured(folder, "mirrored")), str(folder / "two")], cwd=ROOT, text=True,
        capture_output=True, timeout=LONG_SECONDS,
    )
    assert found.returncode == 0, found.stderr
    close_to(*(build.load_model(out / "float.keras").get_weights() for out in (folder / "two", alone)))
    close_to(quantized_weights(folder / "two"), quantized_weights(alone))
    moved, share, statistics = found.stdout.splitlines()
    assert int(moved.split()[-1]) >= 3  # the largest values behind the convolution, its ReLU and the head
    assert share == "share 2 0 2 [3.]"
    assert statistics == "statistics 2 moved True equal True"


def test_two_devices_train_a_model_of_keras_3_as_one_does(folder):
    config = configured(folder, "none", epochs=1, factory="plain_model3")
    one = Pipeline(config=load_config(config), out=folder / "alone 3", module_folder=folder)
    one.quantize()
    config, two = configured(folder, "mirrored", epochs=1, factory="plain_model3"), folder / "two 3"
    script = TWO_DEVICES + "Pipeline(config=config, out=out, module_folder=folder).quantize()"
    found = subprocess.run(
        [sys.executable, "-c", script, str(config), str(two)], cwd=ROOT, text=True, capture_output=True,
        timeout=LONG_SECONDS,
    )
    assert found.returncode == 0, found.stderr
    close_to(*(build.load_model(out / "float.keras").get_weights() for out in (one.out, two)))
    close_to(*(quantized_weights(out) for out in (one.out, two)))


def test_a_batch_that_the_replicas_do_not_divide_is_refused():
    share = Share(replicas=3, first=1, local=1)
    assert share.rows(12) == slice(4, 8)
    share.check_divides(12, "batch size")
    with pytest.raises(ConfigError, match="batch size: expected a multiple of the 3 replicas that share it, found 32"):
        share.check_divides(32, "batch size")


def test_several_workers_without_the_key_are_refused(folder, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}')
    pipeline = Pipeline(config=load_config(configured(folder, "none")), out=folder / "refused", module_folder=folder)
    with pytest.raises(ConfigError, match=r"TF_CONFIG names 2 workers, but train\.strategy is 'none'"):
        pipeline.train()
