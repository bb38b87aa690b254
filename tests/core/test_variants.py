from __future__ import annotations

import pytest

from edgeship.core.config import Config, ExportConfig
from edgeship.core.variants import (
    DEFAULT_VARIANTS,
    PORTABLE,
    PROCESSORS,
    VARIANTS,
    exact_on,
    fastest_on,
    file_of,
    has_fixed_kernels,
    is_for,
    processor_of,
    variant_of,
    variants_on,
)


def test_the_table_agrees_with_itself() -> None:
    assert exact_on(PORTABLE) == tuple(PROCESSORS)  # it has its name for that
    for name, processor in PROCESSORS.items():
        assert set(processor.variants) <= set(VARIANTS), name
        # Weights that cannot saturate make more exact, never less.
        assert set(processor.variants) <= set(variants_on(name, cannot_saturate=True)), name
    assert sorted(name for variant in VARIANTS for name in fastest_on(variant)) == sorted(PROCESSORS)
    assert ExportConfig().onnx_variants == Config().export.onnx_variants == DEFAULT_VARIANTS


def test_where_the_variants_belong() -> None:
    assert fastest_on("u8s8") == ("x86-vnni", "x86-sse")
    assert fastest_on("u8s8", cannot_saturate=True) == ("x86-vnni", "x86", "x86-sse")
    assert fastest_on("s8s8") == ("arm64-neon",)
    assert is_for("u8s8", "x86-sse") and not is_for("s8s8", "x86-sse")
    assert not is_for("u8s8", "x86") and is_for("u8s8", "x86", cannot_saturate=True)
    assert not is_for("s8s8", "x86-vnni") and not is_for("s8s8", "x86", cannot_saturate=True)
    assert is_for("u8s8", None) and is_for(None, "x86")


@pytest.mark.parametrize(("architecture", "flags", "name"), [
    ("x86_64", {"avx2", "avx512_vnni"}, "x86-vnni"), ("AMD64", {"avx_vnni"}, "x86-vnni"), ("x86_64", {"avx2"}, "x86"),
    ("AMD64", None, "x86"), ("i686", set(), "x86"), ("x86_64", {"sse4_2"}, "x86-sse"), ("i686", {"avx"}, "x86-sse"),
    ("aarch64", {"asimd", "asimddp"}, "arm64-dot"),
    ("arm64", {"i8mm"}, "arm64-dot"), ("aarch64", {"asimd"}, "arm64-neon"), ("arm64", None, None),
    ("riscv64", {"v"}, None), (None, None, None),
])
def test_the_class_of_a_machine(architecture: str | None, flags: set[str] | None, name: str | None) -> None:
    assert processor_of(architecture, flags) == name


@pytest.mark.parametrize(("file", "scheme", "variant"), [
    ("int8-qat.onnx", "int8-qat", "u8u8"), ("int8-qat-u8s8.onnx", "int8-qat", "u8s8"),
    ("int8-ptq-percentile-s8s8.onnx", "int8-ptq-percentile", "s8s8"), ("int8-qat.ort", "int8-qat", "u8u8"),
    ("int8-qat.tflite", "int8-qat", None), ("float32.onnx", "float32", None),
    ("dynamic-int8.onnx", "dynamic-int8", None), ("other-u8s8.onnx", "int8-ptq", "u8s8"),
])
def test_the_variant_is_in_the_name_of_the_file(file: str, scheme: str, variant: str | None) -> None:
    assert variant_of(file, scheme) == variant
    if variant is not None and file.startswith("int8-") and file.endswith(".onnx"):
        assert file_of(scheme, variant) == file


@pytest.mark.parametrize(("version", "fixed"), [
    ("1.23.1", False), ("1.27.2", False), ("1.28.0", True), ("1.32", True), ("2.0.0", True), (None, True),
    ("dev", True),
])
def test_releases_with_right_kernels(version: str | None, fixed: bool) -> None:
    assert has_fixed_kernels({"onnxruntime": version}) is fixed
