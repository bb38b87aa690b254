"""A stage is run again where what it reads, or what it wrote, is not the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeship.app.pipeline.cache import StageCache
from edgeship.app.pipeline.stage import Stage


@pytest.fixture
def stage_of(tmp_path: Path) -> Callable[[int], Stage]:
    """A stage that reads a number and writes it to a file."""

    def make(number: int) -> Stage:
        file = tmp_path / "number.txt"
        return Stage(
            name="count", about=f"to {number}", read={"number": number}, writes=(file,),
            work=lambda scratch: _write(file, number, scratch),
        )

    return make


def _write(file: Path, number: int, scratch: Path) -> None:
    scratch.mkdir(parents=True)
    file.write_text(str(number))


def test_a_stage_runs_once_for_what_it_reads(tmp_path: Path, stage_of: Callable[[int], Stage]) -> None:
    cache = StageCache(tmp_path)
    for number, ran in ((1, 1), (1, 1), (2, 2), (1, 3)):
        cache.run(stage_of(number))
        assert len(cache.ran) == ran and (tmp_path / "number.txt").read_text() == str(number)
    assert StageCache(tmp_path).is_done(stage_of(1)) and not StageCache(tmp_path).is_done(stage_of(2))


@pytest.mark.parametrize("change", [lambda file: file.unlink(), lambda file: file.write_text("3")])
def test_a_file_that_is_not_as_it_was_written_is_written_again(
    tmp_path: Path, stage_of: Callable[[int], Stage], change: Callable[[Path], object]
) -> None:
    StageCache(tmp_path).run(stage_of(1))
    change(tmp_path / "number.txt")
    cache = StageCache(tmp_path)
    cache.run(stage_of(1))
    assert cache.ran == ["count"] and (tmp_path / "number.txt").read_text() == "1"


def test_the_folder_for_checkpoints_belongs_to_what_is_read(tmp_path: Path, stage_of: Callable[[int], Stage]) -> None:
    cache = StageCache(tmp_path)
    one, two = (cache.scratch(stage_of(number)) for number in (1, 2))
    assert one != two and one == StageCache(tmp_path).scratch(stage_of(1))
    cache.run(stage_of(1))
    assert not one.exists()  # removed when the work is done


def test_a_broken_record_is_no_record(tmp_path: Path, stage_of: Callable[[int], Stage]) -> None:
    cache = StageCache(tmp_path)
    cache.run(stage_of(1))
    (tmp_path / ".stages" / "count.json").write_text("[")
    assert not cache.is_done(stage_of(1))


def test_a_stage_says_what_it_does_and_what_it_made(
    tmp_path: Path, stage_of: Callable[[int], Stage], capsys: pytest.CaptureFixture[str]
) -> None:
    cache = StageCache(tmp_path)
    for _ in range(2):
        cache.run(stage_of(3))
    assert capsys.readouterr().err.splitlines() == [
        "count: to 3", "count: in number.txt (0 s)", "count: unchanged, not run again",
    ]
