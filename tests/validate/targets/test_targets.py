"""Targets by name, and one report for this machine and the browser."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeship.app.cli import main as cli
from edgeship.core.config import ValidateConfig
from edgeship.core.config_file import config_from_dict
from edgeship.core.errors import ConfigError, RefusedError
from edgeship.core.measurement import Accuracy, Agreement, Coverage, Row
from edgeship.data import load_test_split
from edgeship.validate.questions.gate import judge
from edgeship.validate.run import validate_bundle
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.subject.bundle import load_bundle
from edgeship.validate.subject.rows import candidates
from edgeship.validate.targets import setup
from edgeship.validate.targets.browser_files import find_chromium, find_modules
from edgeship.validate.targets.table import TARGETS, make_target
from edgeship.validate.targets.target import Target

CONFIG = ValidateConfig()


@pytest.mark.parametrize(("name", "found"), [
    ("cpu", "cpu"), ("browser", "browser"), ("arm64", "arm64:cortex-a76"), ("arm64:max", "arm64:max"),
    ("x86", "x86:haswell"), ("x86:Nehalem", "x86:nehalem"),
    ("adb", "adb"), ("adb:0a1b2c", "adb:0a1b2c"), ("ssh://pi@board:22", "ssh://pi@board:22"),
])
def test_names(name: str, found: str) -> None:
    assert make_target(name, CONFIG).name == found


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "browser:firefox", "", "http://board"])
def test_names_that_are_no_target(name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected cpu, ssh://user@host\[:port\], adb\[:SERIAL\], arm64\[:CPU\]"):
        make_target(name, CONFIG)


def test_every_target_says_what_it_is_and_which_runtimes_it_has() -> None:
    for prefix in TARGETS:
        target = make_target({"ssh": "ssh://board"}.get(prefix, prefix), CONFIG)
        assert target.kind in ("native", "emulated", "device")
        assert target.runtimes and set(target.runtimes) <= set(RUNTIMES)
        # An emulator's milliseconds are nobody's.
        assert target.measures_time == (target.kind != "emulated")


def test_a_wrong_target_is_usage_and_exit_code_2(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(tiny_bundle), "--on", "toaster"]) == 2
    said = capsys.readouterr().err
    assert "validate.targets: expected one of cpu, ssh, adb, arm64, x86, browser; found 'toaster'" in said


def test_a_target_without_its_part_is_exit_code_4(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGESHIP_CHROMIUM", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["validate", str(tiny_bundle), "--on", "browser", "--out", str(tmp_path), "--images", "8"]) == 4
    assert "apt install chromium" in capsys.readouterr().out
    assert "refused, see below" in (tmp_path / "report.md").read_text()


def test_artifacts_meet_the_runtimes_that_can_feed_them(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    browser = make_target("browser", CONFIG)
    rows = candidates(bundle, CONFIG, [browser])
    reported = {(row.name, row.runtime) for row in rows if row.reported}
    assert ("int8-qat-float-io.tflite", "litert-web") in reported
    assert ("int8-qat.tflite", "litert-web") not in reported  # it takes no int8 tensors
    assert {("int8-qat.onnx", "onnxruntime-web"), ("int8-qat.ort", "onnxruntime-web")} <= reported
    # What they are held against is measured here, and is no row of the report.
    hidden = {(row.name, row.runtime, row.target.name) for row in rows if not row.reported}
    assert ("int8-qat-float-io.tflite", "litert", "cpu") in hidden
    both = candidates(bundle, CONFIG, [Target(), browser])
    assert all(row.reported for row in both)


def test_elsewhere_only_what_users_run_unless_the_runtimes_were_chosen(tiny_bundle: Path) -> None:
    def found(config: ValidateConfig) -> set[tuple[str, str]]:
        targets = [make_target(name, config) for name in ("cpu", "arm64", "browser")]
        rows = candidates(load_bundle(tiny_bundle), config, targets)
        return {(row.runtime, row.target.name) for row in rows if row.reported and row.name.endswith(".tflite")}

    everywhere = {
        ("litert", "cpu"), ("litert-reference", "cpu"), ("litert", "arm64:cortex-a76"), ("litert-web", "browser"),
    }
    assert found(CONFIG) == everywhere
    chosen = dataclasses.replace(CONFIG, runtimes=("litert", "litert-reference"))
    assert found(chosen) == everywhere | {("litert-reference", "arm64:cortex-a76")}
    assert found(dataclasses.replace(CONFIG, runtimes=("onnxruntime",))) == set()


@pytest.mark.skipif(
    find_chromium() is None or find_modules() is None,
    reason="chromium or the web runtimes are not here (apt install chromium; edgeship setup browser)",
)
def test_one_report_for_this_machine_and_the_browser(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    keep = ("float32.tflite", "int8-qat.tflite", "int8-qat-float-io.tflite", "int8-qat.onnx")
    bundle = dataclasses.replace(bundle, manifest=dataclasses.replace(
        bundle.manifest, artifacts=tuple(item for item in bundle.manifest.artifacts if item.name in keep)
    ))
    config = dataclasses.replace(
        CONFIG, runtimes=("litert", "onnxruntime"), targets=("cpu", "browser"), images=30,
        latency_launches=2, latency_runs=20, max_accuracy_drop=1.0, timeout_seconds=120,
    )
    data = config_from_dict({"data": bundle.manifest.data}).data
    report = validate_bundle(bundle, load_test_split(data), config)
    assert (report.verdict, report.failures) == ("pass", ())
    web = {row.artifact: row for row in report.rows if row.target == "browser"}
    assert set(web) == {"float32.tflite", "int8-qat-float-io.tflite", "int8-qat.onnx"}
    for artifact, row in web.items():
        assert row.latency.median_ms > 0 and row.latency.first_ms > 0 and row.latency.load_ms > 0
        assert row.parity.sibling == f"{artifact} / {RUNTIMES[row.runtime].baseline}"
        # A browser does not tell which operations it executed as integers, nor its memory.
        assert row.coverage is None and row.peak_memory_bytes is None
    for artifact in ("int8-qat-float-io.tflite", "int8-qat.onnx"):
        assert web[artifact].parity.max_lsb <= 3 and web[artifact].parity.sibling_agreement == 1.0
    # Single-precision sums in another order: 2e-6 was measured; an error of a kernel is another magnitude.
    assert web["float32.tflite"].parity.sibling_max_abs < 1e-4
    assert any("int8-qat.tflite: not run on browser, since litert-web takes no int8" in note for note in report.notes)


ROW = Row(
    artifact="int8-qat.tflite", scheme="int8-qat", runtime="litert", target="ssh://a", threads=1, size_bytes=1,
    kind="device", refused=True, error="ssh://a: could not be reached",
)


def test_a_target_that_is_not_there_is_said_once_and_refuses() -> None:
    rows = [ROW, dataclasses.replace(ROW, artifact="other.tflite")]
    assert judge(rows, [], [], CONFIG) == ("refused", ("ssh://a: could not be reached",))
    crashed = dataclasses.replace(ROW, refused=False, error="x: crashed")
    assert judge([*rows, crashed], [], [], CONFIG)[0] == "fail"


@pytest.mark.parametrize(("same", "images", "verdict"), [
    (1.0, 30, "pass"), (29 / 30, 30, "pass"),  # one of thirty proves nothing about 99 %
    (0.5, 30, "fail"), (0.97, 10_000, "fail"),
])
def test_agreement_with_this_machine_is_judged_by_its_interval(same: float, images: int, verdict: str) -> None:
    agreement = Agreement(
        first="a.tflite / litert", second="a.tflite / litert on arm64:cortex-a53", images=images, top1_agreement=same,
        max_lsb=1, differing_share=0.1, accuracy_delta=0.0, accuracy_delta_ci95=(0.0, 0.0),
    )
    config = dataclasses.replace(CONFIG, min_agreement=0.99)
    row = dataclasses.replace(ROW, refused=False, error=None, scheme="float32", kind="emulated")
    found, failures = judge([row], [], [agreement], config)
    assert found == verdict
    if verdict == "fail":
        assert "its kernels compute something else" in failures[0]


def test_a_file_made_for_other_processors_decides_nothing() -> None:
    accuracy = Accuracy(
        images=500, top1=0.97, top1_ci95=(0.95, 0.98), float_top1=0.97, delta=0.0, delta_ci95=(-0.001, 0.001),
        mcnemar_p=1.0, agreement=1.0,
    )
    row = dataclasses.replace(
        ROW, artifact="int8-qat-s8s8.onnx", runtime="onnxruntime", refused=False, error=None, accuracy=accuracy,
        coverage=Coverage(integer=47, total=242, float_ops=("Conv a",), per_channel=0, weighted=0),
    )
    assert judge([row], [], [], CONFIG, others={"int8-qat-s8s8.onnx / onnxruntime on ssh://a"})[0] == "refused"
    fine = dataclasses.replace(row, artifact="int8-qat.tflite", coverage=None, scheme="float32", runtime="litert")
    assert judge([row, fine], [], [], CONFIG, others={"int8-qat-s8s8.onnx / onnxruntime on ssh://a"})[0] == "pass"
    assert judge([row, fine], [], [], CONFIG)[0] == "fail"
    other = dataclasses.replace(row, artifact="int8-qat.onnx")
    assert judge([other, fine], [], [], CONFIG, others={"int8-qat-s8s8.onnx / onnxruntime on ssh://a"})[0] == "fail"


def test_the_set_up_of_the_browser_names_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESHIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RefusedError, match="expected npm, found none; apt install npm"):
        setup.set_up_browser()


def test_an_npm_that_fails_leaves_the_old_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network is down' >&2\nexit 1\n")
    npm.chmod(0o755)
    old = tmp_path / "cache" / "browser" / "node_modules"
    old.mkdir(parents=True)
    monkeypatch.setenv("EDGESHIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RefusedError, match="browser: npm failed: npm error network is down"):
        setup.set_up_browser()
    assert old.exists() and [path.name for path in (tmp_path / "cache").iterdir()] == ["browser"]
