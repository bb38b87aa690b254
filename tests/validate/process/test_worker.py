from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from edgeship.core.errors import RuntimeFailure
from edgeship.validate.process import pool as pool_of_workers
from edgeship.validate.process.client import Worker, receive
from edgeship.validate.process.pool import Pool
from edgeship.validate.targets.target import Target


def fake(script: str) -> tuple[str, ...]:
    """A child that reads one request and then does as `script` says."""
    return (sys.executable, "-c", f"import os, sys, time, signal; sys.stdin.readline()\n{script}")


@pytest.mark.parametrize(("script", "message"), [
    ("os.kill(os.getpid(), signal.SIGSEGV)", r"x on y: crashed \(SIGSEGV\) while loading the file"),
    ("print('last words', file=sys.stderr); os.abort()", r"crashed \(SIGABRT\) .* its last words: last words"),
    ("sys.exit(3)", "ended with exit code 3 while loading the file"),
    ("print('hello')", "expected one JSON answer while loading the file, found 'hello'"),
    ("print('[1, 2]')", r"expected one JSON answer .* found '\[1, 2\]'"),
    ("print('{\"ok\": 7}')", "expected one JSON answer"),
    ("print('{\"ok\": {}, \"error\": {}}')", "expected one JSON answer"),
    ("sys.stdout.buffer.write(bytes(range(128, 256)) + b'\\n')", "expected one JSON answer"),
    ("sys.stdout.close(); os.close(1); time.sleep(0.1); os._exit(0)", "ended with exit code 0"),
    ("print('{\"error\": {\"type\": \"ValueError\", \"message\": \"bad file\"}}')",
     "x on y: ValueError while loading the file: bad file"),
    ("print('{\"error\": {\"type\": \"ModuleNotFoundError\", \"message\": \"No module named onnxruntime\"}}')",
     "leave the runtime out of validate.runtimes"),
])
def test_every_way_to_fail_is_one_clear_message(script: str, message: str) -> None:
    with Worker("x on y", timeout_seconds=30, command=fake(script)) as worker, \
            pytest.raises(RuntimeFailure, match=message):
        worker.ask("load")


def test_a_worker_that_hangs_is_killed() -> None:
    with Worker("x on y", timeout_seconds=0.3, command=fake("time.sleep(600)")) as worker:
        with pytest.raises(RuntimeFailure, match=r"hung while loading the file: no answer for 0\.3 s"):
            worker.ask("load")
        assert worker._process.poll() is not None  # killed: it would sleep for ten minutes


def test_progress_is_a_sign_of_life() -> None:
    """After each line the wait begins anew, with the whole timeout."""

    class Watched(queue.SimpleQueue):
        waits: ClassVar[list[float]] = []

        def get(self, block=True, timeout=None):
            self.waits.append(timeout)
            return super().get(timeout=600)

    inbox = Watched()
    script = "for _ in range(3): print('{\"progress\": 1}', flush=True)\nprint('{\"ok\": {}}')"
    with Worker("x on y", timeout_seconds=0.9, command=fake(script), inbox=inbox) as worker:
        worker.send("load")
        assert receive(inbox, timeout_seconds=0.9, waiting=[worker]) == (worker, {})
    assert inbox.waits == [0.9] * 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_exception_in_the_parent_ends_the_child(error: type[BaseException]) -> None:
    with pytest.raises(error), \
            Worker("x on y", timeout_seconds=60, command=fake("time.sleep(600)")) as worker:
        worker.send("load")
        raise error
    assert worker._process.poll() is not None


def test_ctrl_c_while_waiting_reaches_the_parent_and_ends_the_child(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    os.mkfifo(asked)
    never = fake(f"open({str(asked)!r}, 'w').close(); time.sleep(600)")

    def interrupt() -> None:
        asked.read_bytes()  # until the child has closed its end: it has read the request, and will not answer
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit "ignore"
    try:
        with pytest.raises(KeyboardInterrupt), Worker("x on y", timeout_seconds=60, command=never) as worker:
            thread.start()
            worker.ask("load")
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert worker._process.poll() is not None


def test_asking_a_dead_worker() -> None:
    with Worker("x on y", timeout_seconds=30, command=(sys.executable, "-c", "")) as worker:
        worker._process.wait()
        with pytest.raises(RuntimeFailure, match="x on y: ended with exit code 0"):
            worker.ask("load")


@pytest.mark.usefixtures("real_workers")
def test_the_real_worker_finds_its_packages_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edgeship").mkdir()
    (tmp_path / "edgeship" / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with Worker("x on y", timeout_seconds=60) as worker:
        assert worker.ask("memory")["peak_memory_bytes"] > 1_000_000


def test_what_a_runtime_prints_does_not_disturb_the_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy.py").write_text(
        "import os\n"
        "def open_noisy(path, *, threads):\n"
        "    print('from Python'); os.write(1, b'from native code\\n'); os.system('echo from a child')\n"
        "    raise OSError('and then it failed\\nwith a second line')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    script = (
        "from edgeship.validate.process import worker\n"
        "from edgeship.validate.runner import table\n"
        "table.RUNTIMES['noisy'] = table.Runtime(takes=(), production=False, opener='noisy:open_noisy')\n"
        "worker.serve_pipes(worker.LocalSession)\n"
    )
    with Worker("x on y", timeout_seconds=60, command=(sys.executable, "-c", script)) as worker, \
            pytest.raises(RuntimeFailure, match=r"OSError while loading the file: and then it failed$"):
        worker.ask("load", runtime="noisy", path="", options={"threads": 1})
    lines = list(worker._stderr)
    assert {"from Python", "from native code", "from a child"} <= set(lines)


@pytest.mark.parametrize(("worth", "workers"), [(False, 1), (True, 3)])
def test_a_pool_shares_out_the_files_and_keeps_their_order(
    master_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: bool, workers: int
) -> None:
    monkeypatch.setattr(pool_of_workers, "are_worth_starting", lambda *, waiting, **_: worth and waiting > 0)
    files = []
    for number in range(5):
        files.append(tmp_path / f"{number}.npy")
        np.save(files[-1], np.full((3, 8, 8, 1), number * 20, np.int8))
    with Pool(
        "int8.tflite / litert", runtime="litert", path=master_bundle / "int8.tflite", options={"threads": 1},
        size=3, timeout_seconds=60, folder=tmp_path, target=Target(),
    ) as pool:
        assert pool.loaded["inputs"][0]["dtype"] == "int8"
        single = [dict(pool.run([(file,)]))[0] for file in files]  # one file is nothing to share
        assert len(pool._workers) == 1
        outputs = dict(pool.run([(file,) for file in files]))
        assert len(pool._workers) == workers
        assert "plan" in pool.ask("plan")  # whoever is still loading does not answer for the first one
        again = dict(pool.run([(file,) for file in files]))
    assert sorted(outputs) == sorted(again) == [0, 1, 2, 3, 4]
    for index, (found,) in enumerate(single):
        assert found.shape == (3, 3)
        assert np.array_equal(outputs[index][0], found) and np.array_equal(again[index][0], found)
    assert not list(tmp_path.glob("outputs-*"))


def test_a_pool_that_ends_while_workers_are_loading_ends_them(
    master_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_of_workers, "are_worth_starting", lambda *, waiting, **_: waiting > 0)
    np.save(tmp_path / "0.npy", np.zeros((1, 8, 8, 1), np.int8))
    with Pool(
        "int8.tflite / litert", runtime="litert", path=master_bundle / "int8.tflite", options={"threads": 1},
        size=3, timeout_seconds=60, folder=tmp_path, target=Target(),
    ) as pool:
        assert len(dict(pool.run([(tmp_path / "0.npy",)] * 3))) == 3
        workers = list(pool._workers)
    assert len(workers) == 3 and all(worker._process.poll() is not None for worker in workers)


@pytest.mark.parametrize(("waiting", "seconds_each", "worth"), [(0, 9.0, False), (7, 0.01, False), (8, 1.0, True)])
def test_others_start_where_the_rest_takes_one_worker_longer_than_two_starts(
    waiting: int, seconds_each: float, worth: bool
) -> None:
    assert pool_of_workers.are_worth_starting(
        waiting=waiting, seconds_each=seconds_each, start_seconds=3.5
    ) is worth


def test_an_inbox_is_a_queue_of_lines() -> None:
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    with Worker("x on y", timeout_seconds=30, command=fake("print('{\"ok\": {}}')"), inbox=inbox) as worker:
        worker.send("load")
        assert inbox.get(timeout=600) == (worker, '{"ok": {}}\n')
