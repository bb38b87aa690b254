from __future__ import annotations

import errno
import os

import pytest

from edgeship.core.errors import InputError, StorageError
from edgeship.core.files import read_text, write_atomically


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"report\.json: could not be written \(No space left on device\)"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(("content", "message"), [
    (None, "expected a record, found none that can be read .*No such file.*; make one"),
    (b"\xff\xfe", "expected a record, found none that can be read .*utf-8.*; make one"),
    (b"x" * 101, "expected at most 100 bytes; this is not a record"),
])
def test_a_text_that_cannot_be_read_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "record.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"record\.json: {message}$"):
        read_text(path, expected="a record", advice="make one", error=InputError, most_bytes=100)
