"""One tiny trained pipeline for every test (digits at 16x16, two residual units, width 8), and files of known cost."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core import child
from edgeship.core.collector import collect_less_often
from edgeship.core.config import Config, DataConfig, ExportConfig, ModelConfig, QuantizeConfig, TrainConfig
from edgeship.validate.targets.target import Target
from tests.support.warm_workers import REAL_COMMAND, REAL_MODULE, REAL_SCRIPT, WarmWorkers, child_commands

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

collect_less_often()

# And all that ask for these.
SLOW_FIXTURES = frozenset({"tiny_pipeline", "chain", "textures", "master_bundle", "two_ends_bundle"})
SLOW_MODULES = frozenset({"tensorflow", "tf_keras", "subprocess"})
SLOW_IMPORTS = (
    "tests.support", "benchmarks", "edgeship.model", "edgeship.quantize", "edgeship.validate.process.client",
)


# The files that take longest, the longest first: a process that comes to one of them last lets the others wait.
LONGEST = (
    "test_tasks.py", "test_pretrained.py", "test_families.py", "test_compare.py", "test_python.py",
    "test_distribute.py", "test_arm64.py", "test_user_code.py", "test_array_pipeline.py", "test_adb.py",
    "test_mutations.py", "test_files.py", "test_ssh.py", "test_sequences.py", "test_proof.py", "test_insert.py",
    "test_text_book.py", "test_x86.py", "test_mlperf_tiny.py", "test_float_layers.py", "test_browser.py",
    "test_front_door.py", "test_targets.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what trains or converts a network, or starts other processes; and put the longest files first."""
    _mark_slow(items)
    place = {name: position for position, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Let Python's garbage collector leave out what the imports made, TensorFlow's above all, and look less often.

    Else it walks through half a million objects that stay, again and again: a sixth of all processor time.
    """
    gc.collect()
    gc.freeze()


def _mark_slow(items: list[pytest.Item]) -> None:
    """By what a test imports and asks for."""
    slow: dict[ModuleType, bool] = {}
    for item in items:
        assert isinstance(item, pytest.Function)
        module = item.module
        if module not in slow:
            slow[module] = any(map(_is_slow, vars(module).values()))
        if slow[module] or SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


def _is_slow(value: object) -> bool:
    if isinstance(value, ModuleType):
        return value.__name__ in SLOW_MODULES or value.__name__.startswith(SLOW_IMPORTS)
    return str(getattr(value, "__module__", "")).startswith(SLOW_IMPORTS)


@pytest.fixture(scope="session", autouse=True)
def warm_workers() -> Iterator[WarmWorkers | None]:
    """Fork the workers on this machine from processes that have imported what they import."""
    if not hasattr(os, "pidfd_open"):  # Linux alone has what the server needs
        yield None
        return
    with (
        tempfile.TemporaryDirectory(prefix="edgeship-") as folder, WarmWorkers(Path(folder)) as workers,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(Target, "command", lambda target, runtime: workers.command(target, runtime))
        script, module = child_commands(workers.child_command)
        patch.setattr(child, "script_command", script)
        patch.setattr(child, "module_command", module)
        yield workers


@pytest.fixture
def real_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the workers of this test, and its other children, as users start them."""
    monkeypatch.setattr(Target, "command", REAL_COMMAND)
    monkeypatch.setattr(child, "script_command", REAL_SCRIPT)
    monkeypatch.setattr(child, "module_command", REAL_MODULE)


def made_once(name: str, make: Callable[[Path], object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what `make` writes into it. The processes of pytest-xdist make it once between them.

    Each has a copy of its own, so that no test sees what another process's test does to a file.
    """
    own = tmp_path_factory.mktemp(name)
    if fcntl is None or "PYTEST_XDIST_WORKER" not in os.environ:
        make(own)
        return own
    shared = tmp_path_factory.getbasetemp().parent / name  # the folder that the processes have in common
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            make(own)
            copied = shutil.copytree(own, shared.with_suffix(".part"))
            copied.rename(shared)
        else:
            shutil.copytree(shared, own, dirs_exist_ok=True)
    return own


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    return Config(
        data=DataConfig(image_size=16, train_images=400, calibration_images=64, test_images=100),
        model=ModelConfig(stage_sizes=(1, 1), width=8),
        train=TrainConfig(epochs=4, batch_size=32),
        quantize=QuantizeConfig(epochs=1, batch_size=32),
        export=ExportConfig(
            formats=("tflite", "onnx", "ort"), tflite_io=("int8", "float32"), onnx_variants=("u8u8", "u8s8", "s8s8"),
            golden_images=8,
            output="probabilities",  # of so small a network auto may mean either, and these tests are about int8 ends
        ),
    )


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    def pipeline(out: Path) -> Pipeline:
        return Pipeline(config=tiny_config, out=out)

    made = pipeline(made_once("tiny", lambda out: pipeline(out).export(), tmp_path_factory))
    made.export()
    assert not made.cache.ran  # a copy is taken as it is
    return made


@pytest.fixture(scope="session")
def tiny_bundle(tiny_pipeline: Pipeline) -> Path:
    return tiny_pipeline.bundle_folder


@pytest.fixture(scope="session")
def every_scheme(tiny_pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The same float model in every form that needs no training: one scheme of each kind, one file of each."""
    tiny = tiny_pipeline.config
    config = replace(
        tiny,
        quantize=replace(tiny.quantize, schemes=(
            "float32", "float16", "dynamic-int8", "weight-only-int8", "int16x8-ptq", "int8-ptq-mse",
        )),
        export=replace(
            tiny.export, formats=("tflite", "onnx"), skip=("int16x8-ptq:onnx",), onnx_variants=("u8u8",),
        ),
    )

    def export(out: Path) -> None:
        shutil.copy(tiny_pipeline.float_file, out)
        shutil.copytree(tiny_pipeline.out / ".stages", out / ".stages")
        pipeline = Pipeline(config=config, out=out)
        pipeline.export()
        assert "train" not in pipeline.cache.ran

    pipeline = Pipeline(config=config, out=made_once("schemes", export, tmp_path_factory))
    pipeline.export()
    assert not pipeline.cache.ran
    return pipeline


CHAIN_SIZE = 192
Chain = Callable[..., Path]


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A function: how many products -> an .onnx file with float32 (1, 192) in and out."""
    folder = tmp_path_factory.mktemp("chains")

    def write(products: int, *, name: str = "", last: str = "Relu") -> Path:
        path = folder / f"{name or f'chain-{products}'}.onnx"
        weights = np.eye(CHAIN_SIZE, dtype=np.float32)
        nodes = [
            helper.make_node("MatMul", [f"t{index}", f"w{index}"], [f"t{index + 1}"], name=f"product{index}")
            for index in range(products)
        ]
        graph = helper.make_graph(
            [*nodes, helper.make_node(last, [f"t{products}"], ["y"], name="last")], "chain",
            [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [1, CHAIN_SIZE])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CHAIN_SIZE])],
            initializer=[numpy_helper.from_array(weights + index, f"w{index}") for index in range(products)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(model.SerializeToString())
        return path

    return write
