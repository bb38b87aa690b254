"""Which file goes where: by the table, from rows that were made up for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeship.core.config import ValidateConfig
from edgeship.core.decode import decode
from edgeship.core.errors import ConfigError
from edgeship.core.measurement import Parity, Row
from edgeship.core.ship import ShipLine
from edgeship.validate.questions.gate import judge
from edgeship.validate.questions.ship import Measurements, best_scheme
from edgeship.validate.timing.latency import summarize
from tests.support.ship_rows import (
    CONFIG,
    HERE,
    ONE_VARIANT,
    ROWS,
    VNNI,
    artifact,
    bundle,
    lines,
    manifest,
    row,
)


def test_each_place_has_the_file_that_is_exact_and_the_fastest_there() -> None:
    ship = lines(ROWS, bundle("int8-qat", variants=("u8u8", "u8s8", "s8s8")))
    assert {place: line.file for place, line in ship.items()} == {
        "litert": "int8-qat.tflite", "x86-vnni": "int8-qat-u8s8.onnx", "x86": "int8-qat.onnx",
        "x86-sse": "int8-qat.onnx", "arm64-dot": "int8-qat.onnx", "arm64-neon": "int8-qat-s8s8.onnx",
        "browser": "int8-qat.onnx",
    }
    assert lines(ROWS, bundle("int8-qat"))["arm64-neon"].file == "int8-qat-u8s8.onnx"
    assert "s8s8 would be faster: add it to export.onnx_variants" in lines(ROWS, bundle("int8-qat"))["arm64-neon"].why
    small = lines(ROWS, bundle("int8-qat", bits=7))["x86"]
    assert small.file == "int8-qat-u8s8.onnx"  # its products cannot saturate


def test_accuracy_comes_from_a_row_of_the_same_integers_where_they_are_exact() -> None:
    ship = lines(ROWS, bundle("int8-qat"))
    vnni = ship["x86-vnni"]
    assert (vnni.delta, vnni.accuracy_of) == (0.0, "int8-qat.onnx / onnxruntime")  # not that of the saturated row
    assert (vnni.verdict, vnni.speedup, vnni.speedup_missing) == ("pass", None, "no such target")
    assert ship["arm64-dot"].speedup_missing == "no such target (--on arm64:cortex-a76)"
    assert ship["litert"].accuracy_of == "int8-qat.tflite / litert"


def test_speed_is_against_the_float_file_of_the_same_runtime() -> None:
    ship = lines(ROWS, bundle("int8-qat"))
    litert, x86 = ship["litert"], ship["x86"]
    assert litert.speedup == pytest.approx(4.0) and litert.speedup_ci95 == pytest.approx((4.0, 4.0))
    assert (litert.speedup_by, litert.float_file, litert.size_share, litert.slower) == (
        "time", "float32.tflite", 0.25, False,
    )
    assert x86.speedup == pytest.approx(0.5) and x86.slower
    assert x86.why.startswith("SLOWER on cpu than float32.onnx, which is better where its size fits")
    assert litert.why.startswith("timed on cpu, which is no Arm processor; ")
    assert x86.verdict == "pass"  # no gate was asked for


def test_a_processor_that_is_emulated_gives_instructions() -> None:
    arm = "arm64:cortex-a53"
    counted = [
        row("float32.onnx", target=arm, kind="emulated", instructions=400),
        row("int8-qat-s8s8.onnx", target=arm, kind="emulated", instructions=100),
        row("float32.tflite", target=arm, kind="emulated", instructions=300),
        row("int8-qat.tflite", target=arm, kind="emulated", instructions=200),
    ]
    ship = lines(
        [*ROWS, *counted], bundle("int8-qat", variants=("u8u8", "s8s8")), processors={**HERE, arm: "arm64-neon"}
    )
    neon = ship["arm64-neon"]
    assert (neon.speedup, neon.speedup_ci95, neon.speedup_by) == (4.0, None, "instructions")
    assert neon.speedup_of == f"int8-qat-s8s8.onnx / onnxruntime on {arm}"
    # Phones and boards have Arm processors: its instructions say more of them than the time on x86.
    assert (ship["litert"].speedup, ship["litert"].speedup_by) == (1.5, "instructions")


@pytest.mark.parametrize(("u8u8", "u8s8", "file"), [
    (100, 70, "int8-qat-u8s8.onnx"),  # a depthwise network, as measured
    (100, 97, "int8-qat.onnx"),  # instructions are no time
    (70, 100, "int8-qat.onnx"),
    (None, 70, "int8-qat.onnx"), (100, None, "int8-qat.onnx"),
])
def test_a_place_gets_the_file_that_was_measured_to_be_the_fastest_there(
    u8u8: int | None, u8s8: int | None, file: str
) -> None:
    arm = "arm64:cortex-a76"
    counted = [
        row(name, target=arm, kind="emulated", instructions=instructions)
        for name, instructions in (("float32.onnx", 140), ("int8-qat.onnx", u8u8), ("int8-qat-u8s8.onnx", u8s8))
    ]
    line = lines([*ROWS, *counted], bundle("int8-qat"), processors={**HERE, arm: "arm64-dot"})["arm64-dot"]
    assert line.file == file
    if file == "int8-qat.onnx":
        assert "fewer instructions" not in line.why and "U8U8 gains most" in line.why
    else:  # and not what usually holds
        assert line.why == "30% fewer instructions than int8-qat.onnx on arm64:cortex-a76"
        assert line.speedup == 2.0 and line.speedup_of == f"{file} / onnxruntime on {arm}"


@pytest.mark.parametrize(("u8u8_ms", "file"), [(1.0, "int8-qat-u8s8.onnx"), (0.5, "int8-qat.onnx")])
def test_a_time_that_is_shorter_for_sure_decides(u8u8_ms: float, file: str) -> None:
    rows = [row("float32.onnx", ms=2.0), row("int8-qat.onnx", ms=u8u8_ms), row("int8-qat-u8s8.onnx", ms=1.0)]
    line = lines(rows, bundle("int8-qat"), processors=VNNI)["x86-vnni"]
    assert line.file == file
    assert ("2.00 times as fast as int8-qat-u8s8.onnx on cpu" in line.why) == (file == "int8-qat.onnx")


def test_what_is_faster_and_not_exact_is_no_choice() -> None:
    rows = [row("float32.onnx", ms=2.0), row("int8-qat.onnx", ms=1.0), row("int8-qat-u8s8.onnx", ms=0.1)]
    assert lines(rows, bundle("int8-qat"))["x86"].file == "int8-qat.onnx"


def test_a_bundle_without_a_float_file_says_so() -> None:
    ship = lines(ROWS[2:], bundle("int8-qat", floats=False))
    assert ship["litert"].speedup_missing == "the bundle has no float32.tflite"
    assert ship["x86"].speedup_missing == "the bundle has no float32.onnx" and ship["x86"].size_share is None


def test_a_place_that_no_file_is_exact_on_is_told() -> None:
    ship = lines([row("int8-qat-u8s8.onnx", for_others="x86 with VNNI")], bundle("int8-qat", variants=("u8s8",)))
    assert ship["x86"].file is None and ship["x86"].verdict == "refused"
    assert ship["x86"].why == "no file of the bundle is exact there; add u8u8 to export.onnx_variants"
    assert ship["x86-vnni"].verdict == "refused"  # no row proves it
    verdict, (sentence,) = judge(
        [row("int8-qat-u8s8.onnx")], [], [], CONFIG, others={"int8-qat-u8s8.onnx / onnxruntime"}
    )
    assert verdict == "refused" and "every file is made for other processors than its target has" in sentence


def test_the_release_of_onnx_runtime_that_vnni_needs() -> None:
    rows = [row("float32.onnx", ms=2.0), row("int8-qat-u8s8.onnx", ms=1.0)]
    old = lines(rows, bundle("int8-qat"), processors=VNNI, version="1.23.1")["x86-vnni"]
    assert "ONNX Runtime 1.23.1 has wrong int8 kernels for AMX and VNNI: use 1.28 or newer" in old.why
    new = lines(rows, bundle("int8-qat"), processors=VNNI)["x86-vnni"]
    assert "wrong" not in new.why and "1.28 or newer" in new.why
    assert new.speedup == pytest.approx(2.0)


def test_the_scheme_that_fails_nothing_and_is_most_accurate_goes_everywhere() -> None:
    def best(*rows: Row, wrong: tuple[str, ...] = ()) -> str:
        return best_scheme(Measurements(
            manifest=bundle("int8-ptq", "int8-qat", variants=ONE_VARIANT), rows=rows, config=CONFIG, processors=HERE,
            versions={}, wrong=wrong,
        ))

    ptq, qat = row("int8-ptq.onnx", delta=-0.01), row("int8-qat.onnx", delta=-0.005)
    assert best(ptq, qat) == "int8-qat"
    assert best(ptq, qat, wrong=("int8-qat.onnx",)) == "int8-ptq"
    assert best(ptq, row("int8-qat.onnx", delta=0.3, error="crashed")) == "int8-ptq"
    elsewhere = [dataclasses.replace(item, target="ssh://pi") for item in (ptq, qat)]
    assert best(*elsewhere) == "int8-qat"
    near, far = (Parity(sqnr_db=db, max_abs_error=0.1, sibling=None, max_lsb=None, differing_share=None,
                        sibling_agreement=None) for db in (30.0, 20.0))
    assert best(row("int8-ptq.onnx", parity=near), row("int8-qat.onnx", parity=far)) == "int8-ptq"


def test_a_bundle_without_int8_ships_what_it_has() -> None:
    (line,) = lines([row("float32.tflite", ms=1.0)], manifest(artifact("float32.tflite", "float32"))).values()
    assert (line.file, line.why, line.speedup_missing) == (
        "float32.tflite", "the bundle has no smaller scheme", "it is the float file itself"
    )


def test_a_file_that_fails_is_not_good_enough() -> None:
    ship = lines([*ROWS[:2], row("int8-qat.tflite", delta=-0.5), ROWS[3]], bundle("int8-qat"))
    assert (ship["litert"].verdict, ship["x86"].verdict) == ("fail", "pass")
    assert lines(ROWS, bundle("int8-qat"), wrong=("int8-qat.onnx",))["x86"].verdict == "fail"
    crashed = lines([*ROWS[:2], row("int8-qat.tflite", accuracy=None, error="it crashed"), ROWS[3]], bundle("int8-qat"))
    assert crashed["litert"].verdict == "fail"


@pytest.mark.parametrize(("limit", "verdict", "said"), [
    (None, "pass", ""), (0.4, "pass", ""),
    (0.8, "fail", "0.50 times as fast as float32.onnx (95 % interval 0.50 to 0.50)"),
])
def test_speed_has_a_gate(limit: float | None, verdict: str, said: str) -> None:
    config = dataclasses.replace(CONFIG, min_speedup=limit)
    ship = lines(ROWS, bundle("int8-qat"), config=config)
    found, failures = judge(ROWS[:4], [], [], config, ship=tuple(ship.values()))
    assert (found, ship["x86"].verdict) == (verdict, verdict)
    assert said in " ".join(failures) and ship["litert"].verdict == "pass"


def test_a_speed_that_was_not_measured_cannot_pass_its_gate() -> None:
    config = dataclasses.replace(CONFIG, min_speedup=1.0)
    rows = ROWS[2:4]
    ship = lines(rows, bundle("int8-qat", floats=False), config=config)
    verdict, (sentence,) = judge(rows, [], [], config, ship=tuple(ship.values()))
    assert verdict == "refused" and "validate.min_speedup is 1, and no file was timed" in sentence
    assert "the bundle has no float32.tflite" in sentence
    few = [dataclasses.replace(item, latency=summarize(item.latency.launches[:3], threads=1)) for item in ROWS[:4]]
    verdict, failures = judge(few, [], [], config, ship=tuple(lines(few, bundle("int8-qat"), config=config).values()))
    assert verdict == "inconclusive" and "needs 6 launches (validate.latency_launches)" in failures[0]
    with pytest.raises(ConfigError, match=r"validate.min_speedup: expected a number above 0, found 0"):
        ValidateConfig(min_speedup=0)


def test_the_lines_survive_the_way_to_disk() -> None:
    for line in lines(ROWS, bundle("int8-qat")).values():
        plain = dataclasses.asdict(line)
        listed = {key: list(item) if isinstance(item, tuple) else item for key, item in plain.items()}
        assert decode(ShipLine, listed, place=str(Path("ship"))) == line


def test_files_of_a_model_that_may_be_guessing_are_not_proven() -> None:
    ship = lines(ROWS, bundle("int8-qat"), float_guesses=True)
    assert {line.verdict for line in ship.values() if line.file is not None} == {"inconclusive"}
    wrong = lines(ROWS, bundle("int8-qat"), float_guesses=True, wrong={"int8-qat.tflite"})
    assert wrong["litert"].verdict == "fail"
