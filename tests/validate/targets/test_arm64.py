"""The emulated Arm processors: real kernels, real bits, instructions instead of time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import ConfigError, RefusedError, RuntimeFailure, TargetFailure
from edgeship.core.measurement import Row
from edgeship.data import Images
from edgeship.validate.process.client import Worker, receive
from edgeship.validate.process.pool import Pool
from edgeship.validate.report.advice import advice
from edgeship.validate.run import validate_bundle
from edgeship.validate.subject.bundle import load_bundle
from edgeship.validate.subject.inputs import InputKind
from edgeship.validate.subject.rows import Candidate
from edgeship.validate.targets import arm64_root as root
from edgeship.validate.targets.arm64 import QEMU, Arm64Target
from edgeship.validate.targets.arm64_processors import PROCESSORS
from edgeship.validate.timing.times import count_instructions, instructions_of, instructions_per_inference
from tests.support import two_ends
from tests.support.targets import TOOLS_MISSING, needs_emulator


@needs_emulator
def test_one_report_for_this_machine_and_two_processors(
    arm64_root: Path, master_bundle: Path, test_images: Images, fast: ValidateConfig
) -> None:
    config = dataclasses.replace(
        fast, runtimes=("litert", "onnxruntime"), targets=("cpu", "arm64:cortex-a53", "arm64"), images=30,
        max_accuracy_drop=0.5,
    )
    report = validate_bundle(load_bundle(master_bundle), test_images, config)
    assert (report.verdict, report.failures) == ("pass", ())
    rows = {(row.artifact, row.target): row for row in report.rows}
    assert {target for _, target in rows} == {"cpu", "arm64:cortex-a53", "arm64:cortex-a76"}
    for (artifact, target), row in rows.items():
        if target == "cpu":
            assert row.latency is not None and row.instructions is None
            continue
        assert (row.kind, row.error) == ("emulated", None)
        # An emulator's milliseconds would be taken for the device's.
        assert row.latency is None and row.instructions > 1000
        # One rounding per layer: a network of two convolutions stays within one step of the output.
        assert row.parity.max_lsb <= 1 and row.parity.sibling == f"{artifact} / {row.runtime}"
        assert row.coverage.share == 1.0
    machine = report.targets[1].machine
    assert "cortex-a53" in machine["cpu_model"] and machine["emulator"] == f"{QEMU} -cpu cortex-a53"
    assert machine["versions"] == root.installed_versions()


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """float32 and int8 files of 19 million multiplications: enough that they outweigh what Python does around them."""
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers
    model = tf_keras.Sequential([
        layers.Input((32, 32, 32), batch_size=1),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.GlobalAveragePooling2D(),
    ])
    folder, files = tmp_path_factory.mktemp("convolutions"), {}
    images = np.random.default_rng(0).random((8, 1, 32, 32, 32), np.float32)
    for scheme in ("float32", "int8"):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if scheme == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image] for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        files[scheme] = folder / f"{scheme}.tflite"
        files[scheme].write_bytes(converter.convert())
    return files


@needs_emulator
def test_instructions_are_counted_exactly_and_dot_products_need_fewer(
    arm64_root: Path, convolutions: dict[str, Path], tmp_path: Path
) -> None:
    image, counts = np.zeros((1, 32, 32, 32), np.float32), {}
    for cpu in ("cortex-a53", "cortex-a76"):
        with Arm64Target(f"arm64:{cpu}") as target:
            for scheme, path in convolutions.items():
                kind = InputKind(dtype="float32", scale=None, zero_point=None)
                if scheme == "int8":
                    kind = InputKind(dtype="int8", scale=1.0, zero_point=0)
                candidate = Candidate(
                    name=path.name, runtime="litert", path=path, scheme=scheme, artifact=None, size_bytes=1,
                    input_kinds=(kind,), target=target,
                )
                counts[cpu, scheme] = [
                    count_instructions(candidate, (image,), ValidateConfig(), folder=tmp_path) for _ in range(2)
                ]
    # The same program on the same input: within a ten-thousandth (a clock read may take another path).
    assert all(abs(first - second) <= first * 1e-4 for first, second in counts.values()), counts
    float_a76, a53, a76 = (
        counts[key][0] for key in (("cortex-a76", "float32"), ("cortex-a53", "int8"), ("cortex-a76", "int8"))
    )
    # A dot product instruction does 16 multiplications of 8 bits, one of NEON's 4 of 32 bits, or 8 of 8 in two steps.
    assert a76 * 2 < float_a76 and a76 * 2 < a53, counts


@needs_emulator
@pytest.mark.parametrize(("runtime", "content"), [
    ("litert", two_ends.tflite_file), ("onnxruntime", two_ends.onnx_file),
])
def test_a_file_of_two_inputs_and_two_outputs(
    arm64_root: Path, runtime: str, content: Callable[[], bytes], tmp_path: Path
) -> None:
    path, inputs = tmp_path / "two-ends", two_ends.examples(3)
    path.write_bytes(content())
    files = tuple(tmp_path / f"in-{number}.npy" for number in range(2))
    for file, values in zip(files, inputs, strict=True):
        np.save(file, values)
    with Arm64Target("arm64") as target:
        with Pool(
            "row", runtime=runtime, path=path, options={"threads": 1}, size=1, timeout_seconds=120, folder=tmp_path,
            target=target,
        ) as pool:
            (_, found), = pool.run([files])
        counted = instructions_of(
            label="row", path=path, runtime=runtime, target=target, inputs=files, timeout_seconds=120, folder=tmp_path
        )
    # A sum of 60 products of numbers below 4: float32 rounds each to 2^-24 of it at most.
    for values, wanted in zip(found, two_ends.expected(*inputs), strict=True):
        assert values.shape == wanted.shape and np.abs(values - wanted).max() < 60 * 8 * 2.0**-24
    assert counted > 1000


@needs_emulator
@pytest.mark.parametrize("cpu", list(PROCESSORS))
def test_the_guest_sees_the_processor_that_was_named(arm64_root: Path, cpu: str) -> None:
    """LiteRT and ONNX Runtime crash on the host's /proc/cpuinfo, so it must be ours."""
    with Arm64Target(f"arm64:{cpu}") as target:
        command = target.command("litert")
        view = Path(command[command.index("-L") + 1])
        assert (view / "proc" / "cpuinfo").read_text() == PROCESSORS[cpu].cpuinfo
        assert command[command.index("-cpu") + 1] == PROCESSORS[cpu].qemu
    assert "sme=off" in PROCESSORS["max"].qemu  # with it, int8 answers are wrong


@needs_emulator
@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_a_corrupt_artifact_is_an_error_and_not_the_end(
    arm64_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # which is about the user's folders
    artifact = tmp_path / "broken.bin"
    artifact.write_bytes(bytes(range(256)) * 40)
    with Arm64Target("arm64") as target, pytest.raises(RuntimeFailure, match=r"row: .* while loading the file"), \
            Worker("row", timeout_seconds=120, target=target, runtime=runtime) as worker:
        worker.ask("load", runtime=runtime, path=str(artifact), options={"threads": 1})
    assert list((arm64_root / "wheels" / "numpy").glob("__pycache__/*.pyc"))  # else each guest would compile it anew


@needs_emulator
def test_a_guest_that_is_killed_is_a_crash(arm64_root: Path, master_bundle: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((1, 8, 8, 1), np.int8))
    with Arm64Target("arm64") as target, Worker("row", timeout_seconds=120, target=target, runtime="litert") as worker:
        worker.ask("load", runtime="litert", path=str(master_bundle / "int8.tflite"), options={"threads": 1})
        worker.send("time", inputs=[str(inputs)], runs=10**9, seconds=600, discarded=1)
        worker._process.kill()
        with pytest.raises(RuntimeFailure, match=r"row: crashed \(SIGKILL\) while timing inferences") as caught:
            receive(worker._inbox, timeout_seconds=60, waiting=[worker])
        assert not isinstance(caught.value, TargetFailure)


@needs_emulator
def test_a_package_that_the_root_file_system_lacks(
    arm64_root: Path, master_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "arm64"
    (copy / "wheels").mkdir(parents=True)
    for name in ("rootfs", "cpus", "complete.json"):
        (copy / name).symlink_to(arm64_root / name)
    for path in (arm64_root / "wheels").glob("numpy*"):
        (copy / "wheels" / path.name).symlink_to(path)
    monkeypatch.setenv("EDGESHIP_CACHE", str(tmp_path))
    with Arm64Target("arm64") as target, Worker("row", timeout_seconds=120, target=target) as worker, \
            pytest.raises(TargetFailure, match=r"ai-edge-litert is not in .*; run `edgeship setup arm64` again"):
        worker.ask("load", runtime="litert", path=str(master_bundle / "int8.tflite"), options={"threads": 1})


@needs_emulator
def test_a_file_that_was_altered_on_its_way(arm64_root: Path, master_bundle: Path) -> None:
    with Arm64Target("arm64") as target, Worker("row", timeout_seconds=120, target=target) as worker, \
            pytest.raises(TargetFailure, match=r"altered on the way to arm64:cortex-a76: .* expected SHA-256 0000"):
        worker.ask(
            "load", runtime="litert", path=str(master_bundle / "int8.tflite"), options={"threads": 1}, sha256="0" * 64
        )


@needs_emulator
def test_a_plug_in_that_qemu_does_not_take_costs_the_count_alone(
    arm64_root: Path, master_bundle: Path, test_images: Images, fast: ValidateConfig, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "arm64"
    copy.mkdir()
    for name in ("rootfs", "cpus", "wheels", "complete.json"):
        (copy / name).symlink_to(arm64_root / name)
    (copy / "libcount.so").write_bytes(b"of another version of QEMU")
    monkeypatch.setenv("EDGESHIP_CACHE", str(tmp_path))
    config = dataclasses.replace(fast, runtimes=("litert",), targets=("arm64",), images=9, max_accuracy_drop=1.0)
    report = validate_bundle(load_bundle(master_bundle), test_images, config)
    (row,) = report.rows
    assert (row.error, row.instructions) == (None, None) and report.verdict == "pass"
    assert any("instructions not measured" in note and "libcount.so" in note for note in report.notes)


@needs_emulator
def test_a_guest_that_hangs_is_ended(arm64_root: Path) -> None:
    with Arm64Target("arm64") as target, Worker("row", timeout_seconds=0.2, target=target) as worker, \
            pytest.raises(RuntimeFailure, match="hung while loading"):  # starting takes seconds
        worker.ask("load", runtime="litert", path="/none", options={"threads": 1})


def test_no_emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetFailure, match="expected the command qemu-aarch64, found none; apt install qemu-user"), \
            Arm64Target("arm64"):
        pass


@needs_emulator
def test_no_root_file_system_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, master_bundle: Path, test_images: Images, fast: ValidateConfig
) -> None:
    monkeypatch.setenv("EDGESHIP_CACHE", str(tmp_path))
    config = dataclasses.replace(fast, runtimes=("litert",), targets=("arm64:max", "cpu"))
    report = validate_bundle(load_bundle(master_bundle), test_images, config)
    there, here = report.rows
    assert there.refused and "run `edgeship setup arm64`" in there.error and here.error is None
    assert report.verdict == "refused"


def test_half_a_set_up_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGESHIP_CACHE", str(tmp_path))
    for content in (None, "{", "[]", '{"versions": 3}', "{}"):
        if content is not None:
            (tmp_path / "arm64").mkdir(exist_ok=True)
            (tmp_path / "arm64" / "complete.json").write_text(content)
        assert root.installed_versions() is None
    (tmp_path / "arm64" / "complete.json").write_text('{"versions": {"numpy": "2.4.6"}}')
    assert root.installed_versions() == {"numpy": "2.4.6"}
    with pytest.raises(RefusedError, match=r"expected rootfs/usr/bin/python3\.N, found none"):
        root.guest_python(tmp_path / "arm64")


def test_set_up_names_the_tools_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGESHIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RefusedError, match="missing here: qemu-user, apt, dpkg, gcc; on Debian or Ubuntu: apt install"):
        root.set_up()
    assert not (tmp_path / "cache").exists()


def test_an_unknown_processor() -> None:
    with pytest.raises(ConfigError, match="one of cortex-a53, cortex-a76, max; found 'cortex-x9'"):
        Arm64Target("arm64:cortex-x9")


@pytest.mark.parametrize(("content", "message"), [
    (None, "could not be read"), ("1\n2\nx\n", "could not be read"),
    ("1\n2\n", "expected 5 instruction counts, found 2"),
])
def test_counts_that_cannot_be_used(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "counts"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RuntimeFailure, match=message):
        instructions_per_inference(path, label="row")


def test_the_first_inference_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    path.write_text("100\n900\n1000\n1110\n1215\n")  # 800 is the warm-up, then 100, 110, 105
    assert instructions_per_inference(path, label="row") == 105


def row(artifact: str, instructions: int | None, **changes: object) -> Row:
    return dataclasses.replace(Row(
        artifact=artifact, scheme="float32" if "float" in artifact else "int8-qat", runtime="onnxruntime",
        target="arm64:cortex-a53", kind="emulated", threads=1, size_bytes=1, instructions=instructions,
    ), **changes)


def test_advice_per_processor() -> None:
    rows = [row("float32.onnx", 405_000_000), row("int8-qat.onnx", 447_500_000), row("int8-qat-s8s8.onnx", 337_500_000)]
    elsewhere = dataclasses.replace(row("int8-qat.tflite", 1), runtime="litert", kind="device", instructions=None)
    (sentence,) = advice([rows[0], elsewhere, *rows[1:]])  # whatever stands between them
    assert sentence == (
        "onnxruntime on arm64:cortex-a53: int8-qat-s8s8.onnx executes the fewest instructions (337.5 million per "
        "inference); int8-qat.onnx 1.33 times as many; float32.onnx 1.2 times as many"
    )
    # Within the noise of the count there is no order, and what failed has none.
    (sentence,) = advice([row("a.onnx", 100_000_000), row("b.onnx", 100_500_000), row("c.onnx", 1, error="crashed")])
    assert sentence.endswith("a.onnx executes the fewest instructions (100.0 million per inference)")
    assert list(advice([row("a.onnx", None)])) == []


def test_bits_on_real_images_and_on_noise_over_all_processors(
    arm64_root: Path, master_bundle: Path, test_images: Images, tmp_path: Path
) -> None:
    """The same integers in, at most one step apart, whichever kernels the processor's features choose."""
    if TOOLS_MISSING:
        pytest.skip(f"not installed: {', '.join(TOOLS_MISSING)}")
    from edgeship.validate.targets.target import Target

    bundle = load_bundle(master_bundle)
    random = np.random.default_rng(3)
    (real,) = bundle.golden.inputs  # preprocessed images
    spec = bundle.manifest.artifacts[0].inputs[0]
    from edgeship.core.integers import quantize

    images = np.concatenate([quantize(real, spec), random.integers(-128, 128, (20, 8, 8, 1)).astype(np.int8)])
    inputs, outputs = tmp_path / "inputs.npy", tmp_path / "outputs.npy"
    np.save(inputs, images)
    answers = []
    for target in (Target(), *(Arm64Target(f"arm64:{cpu}") for cpu in PROCESSORS)):
        with target, Worker("row", timeout_seconds=120, target=target, runtime="litert") as worker:
            worker.ask("load", runtime="litert", path=str(master_bundle / "int8.tflite"), options={"threads": 1})
            worker.ask("run", inputs=[str(inputs)], outputs=[str(outputs)])
        answers.append(np.load(outputs).astype(np.int16))
    assert all(np.abs(answers[0] - other).max() <= 1 for other in answers[1:])
