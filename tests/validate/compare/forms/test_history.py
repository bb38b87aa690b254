from __future__ import annotations

import csv
import io
import subprocess
from pathlib import Path

import pytest

from edgeship.core.errors import InputError
from edgeship.validate.compare.forms.history import COLUMNS, appended, commit_time, history_rows, read_history
from tests.support.comparison_records import NOT_THERE, PASSED, check, comparison, every_kind

TIME = "2026-07-31T08:00:00+00:00"


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_has_the_figures_of_the_candidate() -> None:
    (row,) = rows_of(appended("", history_rows(comparison(), time=TIME)))
    found = check().timing
    assert tuple(row) == COLUMNS
    assert (row["time"], row["commit"], row["verdict"]) == (TIME, "3f2a" * 10, "regression")
    assert (row["name"], row["runtime"], row["target"]) == ("int8-qat.onnx", "onnxruntime", "cpu")
    figures = ("ratio", "ratio_low", "ratio_high", "median_ms", "median_cpu_ms", "p90_ms")
    assert [float(row[key]) for key in figures] == [
        found.ratio, found.ratio_low, found.ratio_high, found.candidate.median_ms, found.candidate.median_cpu_ms,
        found.candidate.p90_ms,
    ]
    assert (row["size_bytes"], row["instructions"], row["cpu"]) == ("1404928", "", "AMD EPYC 7B13 (avx2)")
    (row,) = rows_of(appended("", history_rows(comparison(PASSED), time=TIME)))
    assert row["instructions"] == "95000000"


def test_what_was_not_measured_is_an_empty_cell() -> None:
    (row,) = rows_of(appended("", history_rows(comparison(NOT_THERE, commit=None), time=TIME)))
    empty = {key for key, value in row.items() if value == ""}
    assert empty == {
        "commit", "metric", "ratio", "ratio_low", "ratio_high", "median_ms", "median_cpu_ms", "p90_ms", "instructions"
    }


def test_the_header_is_written_once_and_old_lines_stay() -> None:
    first = appended("", history_rows(comparison(), time=TIME))
    second = appended(first, history_rows(every_kind(), time=TIME))
    assert second.startswith(first)
    assert second.count("median_ms,median_cpu_ms") == 1
    assert len(rows_of(second)) == 7


def test_a_file_whose_last_line_was_not_ended_is_continued_on_a_new_line() -> None:
    first = appended("", history_rows(comparison(), time=TIME)).removesuffix("\n")
    assert len(rows_of(appended(first, history_rows(comparison(), time=TIME)))) == 2


def test_names_that_hold_commas_quotes_and_lines_stay_one_cell() -> None:
    name = 'a, "b"\nc.onnx'
    (row,) = rows_of(appended("", history_rows(comparison(check(name=name)), time=TIME)))
    assert row["name"] == name


def test_an_interrupted_comparison_is_marked() -> None:
    rows = rows_of(appended("", history_rows(every_kind(interrupted=True), time=TIME)))
    assert {row["interrupted"] for row in rows} == {"true"}


@pytest.mark.parametrize(("content", "message"), [
    (b"time,commit,ratio\n1,2,3\n", "expected the columns time,commit,.*found 'time,commit,ratio'"),
    (b"\n", "expected the columns"),
    (b"\xff\xfe", "expected a history file"),
])
def test_another_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "history.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"history.csv: {message}"):
        read_history(path)


def test_a_file_that_is_not_there_yet_or_empty_is_an_empty_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / "none.csv") == ""
    (tmp_path / "empty.csv").touch()
    assert read_history(tmp_path / "empty.csv") == ""
    with pytest.raises(InputError, match="expected a history file"):
        read_history(tmp_path)


def test_a_file_with_the_line_ends_of_windows_is_a_history(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_bytes(appended("", history_rows(comparison(), time=TIME)).replace("\n", "\r\n").encode())
    assert len(rows_of(read_history(path))) == 1


def test_a_commits_time_is_gits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    when = "2026-07-31T10:00:00+02:00"
    identity = {"GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE": when, "PATH": "/usr/bin:/bin"}
    for command in (
        ["init", "--quiet"],
        ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "m"],
    ):
        subprocess.run(["git", *command], check=True, env=identity)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit_time(commit) == "2026-07-31T08:00:00+00:00"
    assert commit_time("0" * 40) is None
    assert commit_time(None) is None
