"""The emulated x86 processors: what saturates there, what does not, and that the certificate says which."""

from __future__ import annotations

import dataclasses
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeship.core.artifact import MANIFEST_FILE, manifest_from_json, manifest_to_json
from edgeship.core.config import ValidateConfig
from edgeship.core.errors import ConfigError, TargetFailure
from edgeship.core.variants import is_for, processor_of
from edgeship.data import Images
from edgeship.graph import read_graph
from edgeship.graph.saturation import reduction_rows, saturation_of
from edgeship.validate.process.client import Worker
from edgeship.validate.run import validate_bundle
from edgeship.validate.subject.bundle import load_bundle
from edgeship.validate.targets import x86
from edgeship.validate.targets.target import Target
from edgeship.validate.targets.x86 import QEMU, X86Target, cpu_models, lacking_features
from tests.support import integer_products as files

RANDOM = np.random.default_rng(5)
CANNOT = platform.machine() not in x86.ARCHITECTURES or shutil.which(QEMU) is None
needs_emulator = pytest.mark.skipif(CANNOT, reason=f"expected an x86-64 machine with {QEMU} (apt install qemu-user)")


class Guest:
    """One process of ONNX Runtime on a target, asked for the answers of one file after the other."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self._worker, self._folder = worker, folder

    def answers(self, content: bytes, inputs: np.ndarray) -> np.ndarray:
        """What a file answers to (n, ...) inputs."""
        model, given, out = (self._folder / name for name in ("model.onnx", "in.npy", "out.npy"))
        model.write_bytes(content)
        np.save(given, inputs)
        self._worker.ask("load", runtime="onnxruntime", path=str(model), options={"threads": 1})
        self._worker.ask("run", inputs=[str(given)], outputs=[str(out)])
        return np.load(out).reshape(len(inputs), -1)

    def certificate(self) -> bool | None:
        """What the last file's weights say."""
        return saturation_of(read_graph(self._folder / "model.onnx")).cannot_saturate


def pair_safe(weights: np.ndarray) -> np.ndarray:
    """Weights (K, N) made smaller, column by column, until no pair of one sign sums to more than 128."""
    pairs = np.pad(weights.astype(np.int64), ((0, len(weights) % 2), (0, 0))).reshape(-1, 2, weights.shape[1])
    largest = np.maximum(np.maximum(pairs, 0).sum(axis=1), -np.minimum(pairs, 0).sum(axis=1)).max(axis=0)
    return np.trunc(weights * np.minimum(1, 128 / largest)).astype(np.int8)


@needs_emulator
def test_haswell_saturates_exactly_where_the_certificate_says(tmp_path: Path) -> None:
    """Sums of products themselves, bit for bit: those of saturating arithmetic, on the worst inputs of each column."""
    full = RANDOM.integers(-128, 128, (37, 24)).astype(np.int8)
    one_too_many = np.zeros((6, 2), np.int8)
    one_too_many[2:4, 1] = 64, 65
    just_right = one_too_many.copy()
    just_right[3, 1] = 64
    cases = {"full": full, "pair-safe": pair_safe(full), "129": one_too_many, "128": just_right, "-128": -just_right}
    with X86Target("x86") as target, Worker("row", timeout_seconds=300, target=target) as worker:
        guest = Guest(worker, tmp_path)
        for name, weights in cases.items():
            inputs = np.concatenate([
                files.worst_inputs(weights), RANDOM.integers(0, 256, (8, len(weights))).astype(np.uint8),
            ])
            found = guest.answers(files.matmul_integer(weights), inputs[:, None])
            exact = inputs.astype(np.int64) @ weights
            np.testing.assert_array_equal(found, files.saturating_products(inputs, weights), err_msg=name)
            # Both ways: certified is equal on the worst inputs, and what is not certified differs on one of them.
            assert guest.certificate() == np.array_equal(found, exact), name
            assert guest.certificate() == (name not in ("full", "129"))


@needs_emulator
@pytest.mark.parametrize("channels", [3, 4])  # by im2col and a matrix product, and by the kernel for convolutions
def test_convolutions_of_8_bits_differ_on_haswell_and_pair_safe_ones_do_not(channels: int, tmp_path: Path) -> None:
    weights = RANDOM.integers(-127, 128, (16, channels, 3, 3)).astype(np.int8)
    safe = pair_safe(reduction_rows(weights).T).T.reshape(16, 3, 3, channels).transpose(0, 3, 1, 2)
    (tmp_path / "here").mkdir()
    with X86Target("x86:haswell") as target, Worker("row", timeout_seconds=300, target=target) as worker:
        guest = Guest(worker, tmp_path)
        for kernel, is_safe in ((weights, False), (np.ascontiguousarray(safe), True)):
            unsigned = (kernel.astype(np.int16) + 128).astype(np.uint8)
            patches = files.worst_inputs(reduction_rows(kernel).T)
            images = patches.reshape(-1, 3, 3, channels).transpose(0, 3, 1, 2)[:, None]
            expected = guest.answers(files.qlinear_conv(unsigned, size=3), images)
            assert guest.certificate() is True
            found = guest.answers(files.qlinear_conv(kernel, size=3), images)
            assert guest.certificate() is is_safe
            assert np.array_equal(found, expected) is is_safe
            # U8U8 is exact on this machine too, whatever it is.
            with Worker("here", timeout_seconds=60, target=Target()) as here:
                local = Guest(here, tmp_path / "here").answers(files.qlinear_conv(unsigned, size=3), images)
            np.testing.assert_array_equal(local, expected)


@needs_emulator
@pytest.mark.parametrize(("cpu", "processor"), [("haswell", "x86"), ("nehalem", "x86-sse"), ("ivybridge", "x86-sse")])
def test_the_table_says_on_which_processors_8_bits_are_exact(cpu: str, processor: str, tmp_path: Path) -> None:
    weights = RANDOM.integers(-128, 128, (37, 24)).astype(np.int8)
    kernel = RANDOM.integers(-127, 128, (16, 4, 3, 3)).astype(np.int8)
    inputs = files.worst_inputs(weights)
    images = files.worst_inputs(reduction_rows(kernel).T).reshape(-1, 3, 3, 4).transpose(0, 3, 1, 2)[:, None]
    with X86Target(f"x86:{cpu}") as target, Worker("row", timeout_seconds=300, target=target) as worker:
        machine, guest = target.describe(), Guest(worker, tmp_path)
        assert processor_of(machine["architecture"], machine["cpu_flags"]) == processor
        exact = is_for("u8s8", processor)
        sums = guest.answers(files.matmul_integer(weights), inputs[:, None])
        assert np.array_equal(sums, inputs.astype(np.int64) @ weights) is exact
        unsigned = (kernel.astype(np.int16) + 128).astype(np.uint8)
        both = [guest.answers(files.qlinear_conv(item, size=3), images) for item in (kernel, unsigned)]
        assert np.array_equal(*both) is exact


@needs_emulator
def test_a_report_with_an_x86_processor(
    master_bundle: Path, bundle_folder: Path, test_images: Images, fast: ValidateConfig
) -> None:
    manifest = manifest_from_json((bundle_folder / MANIFEST_FILE).read_text(), where=bundle_folder)
    artifacts = tuple(
        dataclasses.replace(item, saturation=saturation_of(read_graph(bundle_folder / item.file)))
        for item in manifest.artifacts
    )
    (bundle_folder / MANIFEST_FILE).write_text(manifest_to_json(dataclasses.replace(manifest, artifacts=artifacts)))
    config = dataclasses.replace(
        fast, runtimes=("litert", "onnxruntime"), targets=("x86:nehalem",), images=9, max_accuracy_drop=1.0,
    )
    report = validate_bundle(load_bundle(bundle_folder), test_images, config)
    assert (report.verdict, report.failures) == ("pass", ())
    assert {row.artifact for row in report.rows} == {"int8.tflite", "int8.onnx"}
    for row in report.rows:
        assert (row.kind, row.target, row.latency, row.error) == ("emulated", "x86:nehalem", None, None)
        assert row.parity.max_lsb == 0 and row.instructions > 1000
    machine = report.targets[0].machine
    assert machine["emulator"] == f"{QEMU} -cpu Nehalem" and "sse42" in machine["cpu_flags"]
    assert "avx" not in machine["cpu_flags"] and machine["cpu_model"].startswith("Nehalem (emulated; stands for SSE4.2")


def test_an_arm_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    expected = "x86:haswell: expected an x86-64 machine with Linux, whose Python and wheels .*, found aarch64 with"
    with pytest.raises(TargetFailure, match=expected), X86Target("x86"):
        pass


def test_no_emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    message = "x86:nehalem: expected the command qemu-x86_64, found none; apt install qemu-user"
    with pytest.raises(TargetFailure, match=message), X86Target("x86:nehalem"):
        pass


@needs_emulator
def test_an_unknown_processor() -> None:
    assert cpu_models()["haswell"] == "Haswell"
    message = "haswell, nehalem or another processor of `qemu-x86_64 -cpu help`; found 'pentium-9'"
    with pytest.raises(ConfigError, match=message):
        X86Target("x86:pentium-9")


@needs_emulator
def test_a_processor_that_is_not_emulated_whole() -> None:
    """A processor with VNNI whose VNNI is not emulated would be taken for one that is proven."""
    message = "expected a processor that qemu-x86_64 emulates .*, found that it lacks .*avx512_?vnni.* of this one"
    with pytest.raises(TargetFailure, match=message), X86Target("x86:Cascadelake-Server"):
        pass


def test_which_missing_instructions_matter() -> None:
    said = "\n".join([
        "qemu-x86_64: warning: TCG doesn't support requested feature: CPUID.07H:EBX.rtm [bit 11]",
        "qemu-x86_64: warning: TCG doesn't support requested feature: CPUID.07H:EBX.avx512f [bit 16]",
        "qemu-x86_64: warning: TCG doesn't support requested feature: CPUID.01H:ECX.avx [bit 28]",
        "qemu-x86_64: warning: TCG doesn't support requested feature: CPUID.07H:EBX.avx512f [bit 16]",
    ])
    assert lacking_features(said) == ["avx512f", "avx"]
    assert lacking_features("") == []


def test_without_a_compiler_instructions_are_not_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    x86._counter.cache_clear()
    try:
        assert X86Target("x86").counting_command(tmp_path / "counts") is None
    finally:
        x86._counter.cache_clear()
