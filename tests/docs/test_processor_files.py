"""The snippets choose the file that the table of variants names, by the processor's flags."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import onnxruntime
import pytest

from edgeship.core.variants import FIXED_KERNELS, PORTABLE, PROCESSORS, file_of, processor_of, variants_on
from edgeship.validate.subject.processors import this_processor

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"
NATIVE = {name: item for name, item in PROCESSORS.items() if name != "browser"}
FLAGS = {"x86-vnni": "flags\t\t: fpu avx2 avx512_vnni", "x86": "flags\t\t: fpu avx2 avx512f",
         "x86-sse": "flags\t\t: fpu ssse3 sse4_1 sse4_2 avx",
         "arm64-dot": "Features\t: fp asimd asimddp", "arm64-neon": "Features\t: fp asimd"}
MACHINES = {name: "x86_64" if name.startswith("x86") else "aarch64" for name in NATIVE}
DRIVER = """
#include <cstdio>
#include <cstring>
#include "processor.hpp"
int main(int count, char** arguments) {
    if (count == 2) return std::puts(for_this_processor(arguments[1]).c_str()), 0;
    const std::string name = class_of(!std::strcmp(arguments[1], "aarch64"), flags_of(arguments[2]));
    std::printf("%s\\n%s\\n", name.c_str(), best_file(arguments[3], name).c_str());
}
"""


def ends(processor: str) -> tuple[str, ...]:
    return tuple("" if name == PORTABLE else f"-{name}" for name in variants_on(processor))


@pytest.fixture
def board() -> ModuleType:
    spec = importlib.util.spec_from_file_location("board_onnxruntime", SNIPPETS / "board_onnxruntime.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("c++") is None:
        pytest.skip("c++ is not installed")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.cpp").write_text(DRIVER)
    subprocess.run(
        ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{SNIPPETS}", "driver.cpp", "-o", "driver"],
        cwd=folder, check=True,
    )
    return folder / "driver"


@pytest.fixture(params=[("u8u8", "u8s8", "s8s8"), ("u8u8", "u8s8"), ("u8u8",)], ids="+".join)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for variant in request.param:
        (tmp_path / file_of("int8-qat", variant)).touch()
    return tmp_path


def wanted(folder: Path, processor: str) -> Path:
    names = [file_of("int8-qat", variant) for variant in variants_on(processor)]
    return next(folder / name for name in names if (folder / name).exists())


def test_the_snippets_have_the_table(board: ModuleType) -> None:
    assert {name: ends(name) for name in NATIVE} == board.FASTEST
    assert {*PROCESSORS["x86-vnni"].flags} == board.VNNI and {*PROCESSORS["arm64-dot"].flags} == board.DOT
    assert board.FIXED_KERNELS == FIXED_KERNELS
    header = (SNIPPETS / "processor.hpp").read_text()
    for name in NATIVE:
        listed = ", ".join(f'"{end}"' for end in ends(name))
        assert f'{{"{name}", {{{listed}}}}},' in header
    assert f"ONNX Runtime {'.'.join(map(str, FIXED_KERNELS))} or newer" in header


@pytest.mark.parametrize("name", NATIVE)
def test_python_chooses_by_the_flags(
    board: ModuleType, files: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "cpuinfo").write_text(f"processor\t: 0\n{FLAGS[name]}\n")
    monkeypatch.setattr(board, "CPUINFO", files / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: MACHINES[name])
    assert board.processor() == name
    assert board.for_this_processor(files / "int8-qat.onnx") == wanted(files, name)
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.1")
    assert board.processor() == ("x86" if name == "x86-vnni" else name)


@pytest.mark.parametrize("name", NATIVE)
def test_cpp_chooses_by_the_flags(driver: Path, files: Path, name: str) -> None:
    model = files / "int8-qat.onnx"
    said = subprocess.run(
        [str(driver), MACHINES[name], f"processor\t: 0\n{FLAGS[name]}\n", str(model)],
        capture_output=True, text=True, check=True,
    ).stdout.split("\n")
    assert said[:2] == [name, str(wanted(files, name))]


def test_both_choose_the_same_here(board: ModuleType, driver: Path, files: Path) -> None:
    here = this_processor()
    if here is None:
        pytest.skip("the class of this processor is not known")
    model = files / "int8-qat.onnx"
    said = subprocess.run([str(driver), str(model)], capture_output=True, text=True, check=True).stdout.strip()
    assert said == str(board.for_this_processor(model)) == str(wanted(files, here))


@pytest.mark.parametrize("name", NATIVE)
def test_the_classes_are_those_of_the_table(name: str) -> None:
    flags = FLAGS[name].split(":")[1].split()
    assert processor_of(MACHINES[name], flags) == name
