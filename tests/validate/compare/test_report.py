from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from junitparser import JUnitXml

from edgeship.core.errors import InputError, StorageError
from edgeship.validate.compare.forms.markdown import comparison_to_markdown
from edgeship.validate.compare.report import load_comparison, write_comparison
from tests.support.comparison_records import comparison, every_kind

NAMES = ["comparison.json", "comparison.md", "junit.xml", "bencher.json", "smaller_is_better.json", "comparison.html"]


def test_every_form_is_written_and_the_record_can_be_read_again(tmp_path: Path) -> None:
    folder, found = tmp_path / "new" / "folder", every_kind()
    written = write_comparison(found, folder, variables={})
    assert written == [folder / name for name in NAMES]
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    assert load_comparison(folder / "comparison.json") == found
    assert (folder / "comparison.md").read_text() == comparison_to_markdown(found)
    assert len(JUnitXml.fromfile(str(folder / "junit.xml"))) == len(found.checks)
    assert len(json.loads((folder / "bencher.json").read_text())) == len(found.checks)
    assert isinstance(json.loads((folder / "smaller_is_better.json").read_text()), list)


def test_a_history_grows_by_a_line_per_check(tmp_path: Path) -> None:
    history = tmp_path / "kept" / "history.csv"
    for found in (comparison(), every_kind(commit=None)):
        assert history in write_comparison(found, tmp_path / "out", history, variables={})
    with history.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 7
    # The commit is of no repository here, so the comparison's own time is what is known.
    assert {row["time"] for row in rows} == {"2026-08-01T10:00:00+00:00"}


def test_a_history_of_other_columns_is_left_alone_and_the_forms_are_kept(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"history\.csv: expected the columns"):
        write_comparison(comparison(), tmp_path / "out", history, variables={})
    assert history.read_text() == "a,b\n1,2\n"
    assert load_comparison(tmp_path / "out" / "comparison.json") == comparison()


def test_githubs_job_summary_is_appended_to(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Before\n")
    written = write_comparison(comparison(), tmp_path / "out", variables={"GITHUB_STEP_SUMMARY": str(summary)})
    assert summary in written
    assert summary.read_text() == "# Before\n" + comparison_to_markdown(comparison())


def test_a_job_summary_that_cannot_be_written_is_an_error_after_the_forms(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="GITHUB_STEP_SUMMARY"):
        write_comparison(comparison(), tmp_path / "out", variables={"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert (tmp_path / "out" / "junit.xml").exists()


def test_the_processs_own_variables_count_if_none_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert tmp_path / "summary.md" in write_comparison(comparison(), tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="could not be written"):
        write_comparison(comparison(), tmp_path / "out", variables={})


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(StorageError, match="could not be written"):
        write_comparison(comparison(), tmp_path / "out", variables={})


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"{"])
def test_files_that_are_no_comparison(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "comparison.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"comparison\.json: expected"):
        load_comparison(path)
