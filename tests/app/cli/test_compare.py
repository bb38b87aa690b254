"""`edgeship compare` and `edgeship baseline` as users run them: verdicts, exit codes, files, and every bad input."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import tensorflow as tf
import tf2onnx
from onnx import TensorProto, helper

from edgeship.app.cli.main import main
from edgeship.core.comparison import Comparison
from edgeship.validate.compare import timing as timing_module
from edgeship.validate.compare.report import load_comparison
from edgeship.validate.timing.launches import Observed
from tests.support import two_ends
from tests.support.ssh_board import missing_part, running_board

Chain = Callable[..., Path]
HANGING_SECONDS = 600  # ends a test that hangs; no order depends on it


def compare(*arguments: object, out: Path) -> tuple[int, Comparison]:
    code = main(["compare", *map(str, arguments), "--out", str(out)])
    return code, load_comparison(out / "comparison.json")


# The command line, but for one thing: the second launch of a timing says that it begins, and has no end of its own. So
# what happens then happens in the middle, on a machine of any speed. (The pilot makes launches of its own.)
WITHOUT_END = """
import signal
import sys
from edgeship.app.cli.main import entry_point
from edgeship.validate.compare import timing

launch, made = timing.launch, []

def announced(*arguments, rounds, **options):
    made.append(rounds)
    if len(made) == 2:
        rounds = 10**9
        print("the second launch begins", file=sys.stderr, flush=True)
    return launch(*arguments, rounds=rounds, **options)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
timing.launch = announced
entry_point()
"""


def comparison_without_end(chain: Chain, *arguments: object, out: Path) -> subprocess.Popen[str]:
    """A comparison that is in its second launch, and stays there."""
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_END, "compare", str(chain(20)), str(chain(20, name="again", last="Identity")),
         "--no-exact", "--out", str(out), *map(str, arguments)],
        cwd=Path(__file__).parents[3], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "the second launch begins" in line:
            return process
    raise AssertionError(f"it ended before: {said}")


def artifact(folder: Path, name: str) -> Path:
    return folder / name


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Callable[[str], Path]:
    """The same model in other bytes: trailing zeros change nothing that runs."""
    def make(name: str) -> Path:
        path = tmp_path / f"copy-of-{name}"
        path.write_bytes((tiny_bundle / name).read_bytes() + b"\0" * 16)
        return path
    return make


def test_identical_files_pass_without_being_run(tiny_bundle: Path, tmp_path: Path) -> None:
    file = artifact(tiny_bundle, "int8-qat.tflite")
    code, found = compare(file, file, out=tmp_path / "out")
    assert (code, found.verdict) == (0, "pass")
    assert found.checks[0].reasons == ("identical artifact: the same bytes",)
    assert found.checks[0].timing is None


def test_a_conversion_that_lost_its_fusions_fails_with_the_operations_named(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plain tf2onnx file of the same TFLite file: floats between the integers, and never timed."""
    plain = tmp_path / "plain.onnx"
    tf2onnx.convert.from_tflite(str(artifact(tiny_bundle, "int8-qat.tflite")), opset=17, output_path=str(plain))
    code, found = compare(artifact(tiny_bundle, "int8-qat.onnx"), plain, out=tmp_path / "out")
    assert (code, found.verdict) == (1, "regression")
    (check,) = found.checks
    assert check.timing is None
    gates = {item.gate: item for item in check.exact}
    assert gates["operations"].outcome == gates["coverage"].outcome == "worse"
    assert "expected 6 QLinearConv, found 2, and in float 4 Conv (stem_conv" in gates["operations"].sentence
    assert "DequantizeLinear" in gates["operations"].sentence
    assert gates["interface"].sentence.startswith("input: uint8 before, int8 now")
    assert "stem_conv" in capsys.readouterr().out


def test_a_slower_model_is_a_regression_by_time(chain: Chain, tmp_path: Path) -> None:
    """With the exact gates off, since they find the extra products before anything is timed."""
    code, found = compare(chain(20), chain(40), "--no-exact", out=tmp_path / "out")
    assert (code, found.verdict) == (1, "regression")
    timing = found.checks[0].timing
    assert timing is not None and timing.metric == "cpu_time" and timing.ratio_low is not None
    assert timing.ratio_low > 1.02
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "comparison.json", "comparison.md", "junit.xml", "bencher.json"
    }
    exact_code, exact = compare(chain(20), chain(40), out=tmp_path / "exact")
    assert (exact_code, exact.checks[0].timing) == (1, None)
    assert "multiply-accumulates: 737,280 before, 1,474,560 now (+100.0%)" in exact.checks[0].reasons[0]


def test_two_bundles(tiny_bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle, other)
    code, found = compare(tiny_bundle, other, out=tmp_path / "out")
    assert code == 0
    assert "int8-qat.ort" in {check.name for check in found.checks}
    assert {check.reasons for check in found.checks} == {("identical artifact: the same bytes",)}


def test_ort_files_are_compared_by_their_runtime(tiny_bundle: Path, tmp_path: Path) -> None:
    float_file, integer_file = artifact(tiny_bundle, "float32.ort"), artifact(tiny_bundle, "int8-qat.ort")
    code = main(["compare", str(float_file), str(integer_file), "--out", str(tmp_path / "out")])
    assert code == 4  # other inputs, which only ONNX Runtime could tell


def scalar_onnx(path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("ReduceSum", ["r"], ["y"], keepdims=0)]
    graph = helper.make_graph(
        nodes, "loss", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def scalar_tflite(path: Path) -> None:
    function = tf.function(lambda x: tf.reduce_sum(tf.nn.relu(x))).get_concrete_function(tf.TensorSpec((1, 64)))
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())


@pytest.mark.parametrize(("write", "suffix"), [(scalar_onnx, "onnx"), (scalar_tflite, "tflite")])
def test_scalar_outputs_are_compared(write: Callable[[Path], None], suffix: str, tmp_path: Path) -> None:
    """A regressor's answer or a loss has no axis at all."""
    first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
    write(first)
    second.write_bytes(first.read_bytes() + (b"\0" * 16 if suffix == "tflite" else b""))
    if suffix == "onnx":
        model = onnx.load(first)
        model.graph.name = "cost"  # of the same length: a larger file would be worse
        onnx.save(model, second)
    code, found = compare(first, second, "--no-timing", out=tmp_path / "exact")
    assert (code, found.verdict) == (0, "pass"), found
    # The pilot times both arms, however little time there is for launches.
    code, found = compare(first, second, "--no-exact", "--max-seconds", 0.01, out=tmp_path / "timed")
    timing = found.checks[0].timing
    assert code == 3 and timing is not None and timing.rounds > 0, found
    assert timing.stopped == "--max-seconds 0.01 were used up after 0 launches"


def test_scalar_inputs_are_compared(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Exp", ["x"], ["y"])], "scalar", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    path, other = tmp_path / "scalar.onnx", tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    graph.name = "number"  # of the same length: a larger file would be worse
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), other)
    code, found = compare(path, other, "--no-timing", out=tmp_path / "out")
    assert (code, found.verdict) == (0, "pass"), found


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_files_of_two_inputs_and_two_outputs_are_compared(suffix: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
    first.write_bytes(two_ends.tflite_file(integers=True) if suffix == "tflite" else two_ends.onnx_file())
    second.write_bytes(first.read_bytes() + (b"\0" * 16 if suffix == "tflite" else b""))
    if suffix == "onnx":
        model = onnx.load(first)
        model.graph.name = "own_ends"  # of the same length: a larger file would be worse
        onnx.save(model, second)
    # The pilot times both arms, however little time there is for launches.
    code, found = compare(first, second, "--max-seconds", 0.01, out=tmp_path / "out")
    (check,) = found.checks
    assert code == 3 and check.timing is not None and check.timing.rounds > 0, found
    assert {item.gate for item in check.exact} >= {"operations", "multiply_accumulates", "peak_memory_bytes"}


def test_self_test(chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = compare(chain(20), "--self-test", "--max-seconds", 12, out=tmp_path / "out")
    assert found.self_test
    assert code == {"pass": 0, "improved": 0, "regression": 1, "inconclusive": 3}[found.verdict]
    timing = found.checks[0].timing
    assert timing is not None and timing.smallest_detectable is not None
    assert "this machine can" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (["{tflite}", "none.tflite"], 2, "none.tflite: expected a file or a bundle folder, found none"),
    (["{tflite}", "{broken}"], 2, "broken.tflite"),
    (["{tflite}", "{onnx}"], 4, "expected two artifacts of one format, found tflite and onnx"),
    (["{float}", "{onnx}"], 4, "expected the same input, found float32"),
    (["{tflite}"], 2, "expected BASELINE and CANDIDATE, or BASELINE with --self-test"),
    (["{tflite}", "{tflite}", "--self-test"], 2, "which has no CANDIDATE"),
    (["{tflite}", "{bundle}"], 2, "expected two files or two bundle folders"),
    (["{tflite}", "{copy}", "--tolerance", "6%"], 2, "expected 0 <= tolerance < limit"),
    (["{tflite}", "{copy}", "--max-seconds", "0"], 2, "--max-seconds: expected a number above 0"),
    (["{tflite}", "{copy}", "--threads", "0"], 2, "--threads: expected 1 or more"),
    (["{tflite}", "{copy}", "--no-exact", "--no-timing"], 2, "leave nothing to compare"),
    (["{tflite}", "{copy}", "--runtime", "tensorrt"], 2, "--runtime tensorrt: expected one of keras"),
    (["{tflite}", "{copy}", "--runtime", "onnxruntime"], 2, "no target has a runtime (onnxruntime) that takes"),
    (["{tflite}", "{copy}", "--on", "toaster"], 2, "found 'toaster'"),
    (["{tflite}", "{copy}", "--on", "browser"], 2, "no target has a runtime"),
    (["{tflite}", "{copy}", "--history", "{broken}"], 2, "broken.tflite"),
])
def test_bad_input_is_one_message_and_its_code(
    arguments: list[str], code: int, message: str, tiny_bundle: Path, tmp_path: Path,
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str],
) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"TFL3" * 10)
    places = {
        "tflite": tiny_bundle / "int8-qat.tflite", "onnx": tiny_bundle / "int8-qat.onnx",
        "float": tiny_bundle / "float32.onnx", "bundle": tiny_bundle, "broken": broken,
        "copy": copy("int8-qat.tflite"),
    }
    out = tmp_path / "out"
    found = main(["compare", *(argument.format(**places) for argument in arguments), "--out", str(out)])
    error = capsys.readouterr().err
    assert found == code, error
    assert message in error
    assert not out.exists()


def test_a_core_that_may_not_be_used_is_refused(
    tiny_bundle: Path, tmp_path: Path, copy: Callable[[str], Path]
) -> None:
    code, found = compare(
        tiny_bundle / "int8-qat.tflite", copy("int8-qat.tflite"), "--cpus", 4095, out=tmp_path / "out"
    )
    assert (code, found.verdict) == (4, "refused")
    assert "--no-pin" in found.reasons[0]


def test_a_target_that_is_not_there_is_refused(
    tiny_bundle: Path, tmp_path: Path, copy: Callable[[str], Path]
) -> None:
    code, found = compare(
        tiny_bundle / "int8-qat.tflite", copy("int8-qat.tflite"), "--on", "ssh://nobody@no-such-host.invalid",
        out=tmp_path / "out",
    )
    assert (code, found.verdict) == (4, "refused")
    assert "no-such-host.invalid" in found.reasons[0]


def test_ctrl_c_keeps_what_was_measured_and_marks_it(chain: Chain, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = comparison_without_end(chain, out=out)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=HANGING_SECONDS)[0]
    assert process.returncode == 130, output
    found = load_comparison(out / "comparison.json")
    assert found.interrupted
    timing = found.checks[0].timing
    assert timing is not None and len(timing.samples) == 1 and timing.stopped == "interrupted"


def test_baselines(chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Save twice (two sessions), list, check the same, a slower and a foreign file."""
    folder = ["--folder", str(tmp_path / "baselines")]
    for _ in range(2):
        assert main(["baseline", "save", str(chain(20)), "--name", "chain", *folder]) == 0
    assert main(["baseline", "list", *folder]) == 0
    assert "2 sessions" in capsys.readouterr().out
    out = ["--out", str(tmp_path / "out")]
    assert main(["baseline", "check", "chain", str(chain(20)), *folder, *out]) == 0
    assert main(["baseline", "check", "chain", str(chain(40)), *folder, *out]) == 1
    stored = main(
        ["baseline", "check", "chain", str(chain(40)), "--stored-first", "--dedicated", "--no-exact", *folder, *out]
    )
    assert stored == 1  # whatever the stored times say, the paired run decides
    found = load_comparison(tmp_path / "out" / "comparison.json")
    assert found.checks[0].timing is not None
    assert any("stored times" in reason for reason in found.checks[0].reasons)
    assert main(["baseline", "save", str(chain(40)), "--name", "chain", *folder]) == 2
    assert "chain" in capsys.readouterr().err
    assert main(["baseline", "check", "none", str(chain(20)), *folder]) == 2
    document = json.loads((tmp_path / "baselines" / "chain" / "baseline.json").read_text())
    (tmp_path / "baselines" / "chain" / "baseline.json").write_text(json.dumps({**document, "schema": 99}))
    assert main(["baseline", "check", "chain", str(chain(20)), *folder]) == 2
    assert "expected a baseline of schema 1, found 99" in capsys.readouterr().err


@pytest.mark.skipif(missing_part() is not None, reason=missing_part() or "")
def test_the_same_verdicts_over_ssh(
    chain: Chain, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real sshd on loopback. This board shares its processor with whatever else runs here: its clock isn't judged."""
    monkeypatch.setattr(timing_module, "CANARY_SLOWER", math.inf)
    with running_board(tmp_path_factory.mktemp("board")) as board:
        there = ("--on", board.url, "--ssh-command", board.ssh_command, "--device-python", sys.executable,
                 "--no-exact")
        code, found = compare(chain(20), chain(40), *there, out=tmp_path / "slower")
        assert (code, found.verdict) == (1, "regression"), found.reasons
        timing = found.checks[0].timing
        assert timing is not None and timing.metric == "cpu_time" and found.checks[0].kind == "device"
        assert {sample.core for sample in timing.samples} <= os.sched_getaffinity(0)
        code, found = compare(chain(40), chain(20), *there, out=tmp_path / "faster")
        assert (code, found.verdict) == (0, "improved"), found.reasons
        code, found = compare(chain(20), chain(20, name="same", last="Identity"), *there, out=tmp_path / "same")
        assert found.verdict != "regression", found.reasons


@pytest.mark.skipif(missing_part() is not None, reason=missing_part() or "")
def test_a_board_whose_clock_slows_down_decides_nothing(
    chain: Chain, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fixed piece of work takes longer and longer: every launch but the first is discarded."""
    real, made = timing_module.launch, []

    def slower_and_slower(*arguments: Any, **options: Any) -> Observed:
        made.append(options)
        return replace(real(*arguments, **options), canary_ns=2 ** len(made))

    monkeypatch.setattr(timing_module, "launch", slower_and_slower)
    monkeypatch.setattr(timing_module, "COOLING_SECONDS", 0)
    monkeypatch.setattr(timing_module, "MOST_DISCARDED", 0.05)
    with running_board(tmp_path_factory.mktemp("board")) as board:
        code, found = compare(
            chain(4), chain(8), "--on", board.url, "--ssh-command", board.ssh_command, "--device-python",
            sys.executable, "--no-exact", out=tmp_path / "out",
        )
    assert (code, found.verdict) == (3, "inconclusive")
    assert "the clock kept changing: a fixed piece of work took" in found.reasons[0]
    timing = found.checks[0].timing
    assert timing is not None and timing.samples[0].discarded is None
    assert all(sample.discarded is not None for sample in timing.samples[1:])


@pytest.mark.skipif(missing_part() is not None, reason=missing_part() or "")
def test_a_board_that_disappears_in_the_middle(
    chain: Chain, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_board(tmp_path_factory.mktemp("board")) as board:
        process = comparison_without_end(
            chain, "--on", board.url, "--ssh-command", board.ssh_command, "--device-python", sys.executable,
            out=tmp_path / "out",
        )
        board.cut()
        output = process.communicate(timeout=HANGING_SECONDS)
    assert process.returncode == 4, output
    found = load_comparison(tmp_path / "out" / "comparison.json")
    assert "the link was cut" in found.reasons[0]
    assert found.checks[0].timing is not None and len(found.checks[0].timing.samples) == 1
