"""The ssh target against a real sshd on loopback, and everything that can go wrong with a board."""

from __future__ import annotations

import dataclasses
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import ConfigError, RuntimeFailure, TargetFailure
from edgeship.core.files import sha256_of_file
from edgeship.data import Images
from edgeship.validate.process.client import Worker, receive
from edgeship.validate.process.pool import Pool
from edgeship.validate.run import validate_bundle
from edgeship.validate.subject.bundle import load_bundle
from edgeship.validate.targets.ssh import SshTarget, parse_url
from tests.support.ssh_board import Board, children, command_line, missing_part, running_board

pytestmark = pytest.mark.skipif(missing_part() is not None, reason=missing_part() or "")
PATIENCE_SECONDS = 30


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with running_board(tmp_path_factory.mktemp("board")) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder in which the target makes its own; it must be empty in the end."""
    folder = tmp_path / "on the board"  # with a space, as people have them
    folder.mkdir()
    return folder


@pytest.fixture
def target(board: Board, place: Path) -> Callable[..., SshTarget]:
    def make(**changes: object) -> SshTarget:
        arguments = {
            "name": board.url, "ssh": board.ssh_command.split(), "python": sys.executable, "folder": str(place),
            **changes,
        }
        return SshTarget(**arguments)
    return make


def python_with(folder: Path, module: str, code: str) -> str:
    """A Python command for the board that finds `module` with this code before the real one."""
    (folder / f"{module}.py").write_text(code)
    script = folder / "python-on-the-board"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def loaded(target: SshTarget, artifact: Path, *, timeout_seconds: float = 60) -> Worker:
    worker = Worker("row", timeout_seconds=timeout_seconds, target=target, runtime="litert")
    try:
        worker.ask(
            "load", runtime="litert", path=target.put(artifact), options={"threads": 1}, sha256=sha256_of_file(artifact)
        )
    except BaseException:
        worker.close(at_once=True)
        raise
    return worker


def becomes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def runners(board: Board) -> list[int]:
    """The processes behind this board's sshd that hold a model."""
    return [
        pid for pid in children(board.process.pid)
        if command_line(pid).endswith("runner.pyz") and "python" in command_line(pid)
    ]


def test_the_board_answers_with_the_bits_of_this_machine(
    target: Callable[..., SshTarget], master_bundle: Path, place: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(master_bundle)
    artifact = bundle.manifest.artifacts[0]
    inputs = tmp_path / "inputs.npy"
    random = np.random.default_rng(0)
    np.save(inputs, random.integers(-128, 128, (20, 8, 8, 1)).astype(np.int8))

    def answers(somewhere: SshTarget) -> np.ndarray:
        with Pool(
            "row", runtime="litert", path=bundle.path_of(artifact), options={"threads": 1}, size=1,
            timeout_seconds=60, folder=tmp_path, target=somewhere, sha256=artifact.sha256,
        ) as pool:
            return dict(pool.run([(inputs,)]))[0][0]

    with target() as there:
        found = answers(there)
        assert there.describe()["architecture"] and there.describe()["versions"]["numpy"]
        assert set(there.state()) >= {"temperature_c", "clock_mhz", "throttled"}
        assert len(list(place.iterdir())) == 1
        # Inputs and outputs are gone already, the artifact stays for the next stage.
        names = sorted(path.name for path in next(place.iterdir()).iterdir())
        assert [name for name in names if name.endswith((".npy", ".tflite"))] == ["0-int8.tflite"]
    assert list(place.iterdir()) == []
    from edgeship.validate.targets.target import Target

    assert np.array_equal(found, answers(Target()))  # the same kernels on the same processor


def test_one_report_for_this_machine_and_the_board(
    board: Board, master_bundle: Path, test_images: Images, fast: ValidateConfig, place: Path
) -> None:
    config = dataclasses.replace(
        fast, runtimes=("litert", "onnxruntime"), targets=("cpu", board.url), ssh_command=board.ssh_command,
        device_python=sys.executable, device_folder=str(place),
    )
    report = validate_bundle(load_bundle(master_bundle), test_images, config)
    assert (report.verdict, report.failures) == ("pass", ())
    rows = {(row.artifact, row.target): row for row in report.rows}
    assert len(rows) == 4
    for artifact in ("int8.tflite", "int8.onnx"):
        row = rows[artifact, board.url]
        assert (row.kind, row.refused, row.error) == ("device", False, None)
        assert (row.parity.max_lsb, row.parity.sibling_agreement) == (0, 1.0)
        assert row.parity.sibling == f"{artifact} / {row.runtime}"
        assert row.coverage.share == 1.0
        assert len(row.latency.samples_ms) == 10 and row.latency.load_ms > 0
        assert row.peak_memory_bytes > 1_000_000
    assert rows["int8.onnx", board.url].profile.inferences > 0 and rows["int8.tflite", board.url].profile is None
    why = f"litert on {board.url}: the time of single operations was not measured"
    assert any(note.startswith(why) for note in report.notes)
    assert report.targets[1].machine["python"] and report.targets[1].state_after is not None
    assert list(place.iterdir()) == []


def test_a_board_that_is_not_there_is_refused_and_the_other_rows_go_on(
    board: Board, master_bundle: Path, test_images: Images, fast: ValidateConfig
) -> None:
    config = dataclasses.replace(
        fast, runtimes=("litert",), targets=("ssh://nobody@127.0.0.1:1", "cpu"), ssh_command=board.ssh_command
    )
    report = validate_bundle(load_bundle(master_bundle), test_images, config)
    there, here = report.rows
    assert there.refused and "could not be reached" in there.error and "is sshd running there" in there.error
    assert here.error is None and here.accuracy.images == 90
    assert report.verdict == "refused" and report.failures == (there.error,)
    assert report.targets[0].error == there.error


def test_a_wrong_host_key_is_told_and_never_accepted(
    board: Board, target: Callable[..., SshTarget], tmp_path: Path
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    key = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{board.port} {key}\n")
    ssh = ["ssh", "-F", str(board.folder / "config"), "-o", f"UserKnownHostsFile={tmp_path}/known_hosts"]
    with pytest.raises(TargetFailure, match=r"could not be reached .*its host key is not the one known"), \
            target(ssh=ssh):
        pass


def test_a_key_that_is_not_accepted(board: Board, target: Callable[..., SshTarget], tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    (tmp_path / "config").write_text(
        f"Host *\n  IdentityFile {tmp_path}/other\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {board.folder}/known_hosts\n"
    )
    with pytest.raises(TargetFailure, match=r"Permission denied.*log in once with ssh by hand"), \
            target(ssh=["ssh", "-F", str(tmp_path / "config")]):
        pass


def test_no_ssh_client(target: Callable[..., SshTarget]) -> None:
    with pytest.raises(TargetFailure, match="expected the command 'no-such-ssh', found none; install openssh-client"), \
            target(ssh=["no-such-ssh"]):
        pass


def test_no_python_on_the_board(target: Callable[..., SshTarget], place: Path) -> None:
    with pytest.raises(TargetFailure, match="expected 'python9' there, found no such command; install Python"), \
            target(python="python9"):
        pass
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(("module", "package"), [("numpy", "numpy"), ("ai_edge_litert", "ai-edge-litert")])
def test_a_package_that_the_board_lacks_is_named_with_its_command(
    target: Callable[..., SshTarget], master_bundle: Path, tmp_path: Path, place: Path, module: str, package: str
) -> None:
    python = python_with(
        tmp_path, module, f"raise ModuleNotFoundError(\"No module named '{module}'\", name='{module}')"
    )
    with pytest.raises(TargetFailure, match=rf"{package} is not installed there .*-m pip install {package}"), \
            target(python=python) as there:
        loaded(there, master_bundle / "int8.tflite")
    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_no_space_left_on_the_board(target: Callable[..., SshTarget], tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large.tflite"
    small.mkdir()
    large.write_bytes(bytes(400_000))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], check=True)
    try:
        with target(folder=str(small)) as there:
            with pytest.raises(TargetFailure, match=r"no space left there .*validate\.device_folder"):
                there.put(large)
            there.put(Path(__file__))  # the half that had arrived is gone
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize(("change", "message"), [
    ("data = data[:-1] + bytes([data[-1] ^ 1])", "altered on the way to ssh://.* expected SHA-256"),
    ("data = data[:1000]", r"expected [\d,]+ bytes to arrive .* found 1000; check the link"),
])
def test_an_artifact_that_was_altered_in_transit_is_not_run(
    board: Board, target: Callable[..., SshTarget], master_bundle: Path, tmp_path: Path, change: str, message: str
) -> None:
    """A client in between that alters what is sent to a .tflite file."""
    client = tmp_path / "altering_ssh.py"
    client.write_text(
        "import subprocess, sys\n"
        f"command = {board.ssh_command.split()!r} + sys.argv[1:]\n"
        "if '.tflite' in sys.argv[-1] and 'cat >' in sys.argv[-1]:\n"
        "    data = sys.stdin.buffer.read()\n"
        f"    {change}\n"
        "    sys.exit(subprocess.run(command, input=data).returncode)\n"
        "sys.exit(subprocess.run(command).returncode)\n"
    )
    with target(ssh=[sys.executable, str(client)]) as there, pytest.raises(TargetFailure, match=message):
        loaded(there, master_bundle / "int8.tflite").close()


def test_outputs_that_were_altered_in_transit_are_not_used(
    target: Callable[..., SshTarget], master_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_get = SshTarget.get

    def get(self: SshTarget, there: str, local: Path) -> None:
        real_get(self, there, local)
        local.write_bytes(local.read_bytes()[:-1] + b"\x55")

    monkeypatch.setattr(SshTarget, "get", get)
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((2, 8, 8, 1), np.int8))
    with target() as there, pytest.raises(TargetFailure, match="its outputs were altered on the way from ssh://"), Pool(
        "row", runtime="litert", path=master_bundle / "int8.tflite", options={"threads": 1}, size=1,
        timeout_seconds=60, folder=tmp_path, target=there,
    ) as pool:
        list(pool.run([(inputs,)]))


def test_a_runner_that_is_killed_is_a_crash_and_not_a_broken_link(
    board: Board, target: Callable[..., SshTarget], master_bundle: Path, tmp_path: Path, place: Path
) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((1, 8, 8, 1), np.int8))
    with target() as there:
        with loaded(there, master_bundle / "int8.tflite") as worker:
            worker.send("time", inputs=[there.put(inputs)], runs=10**9, seconds=600, discarded=1)
            (runner,) = runners(board)
            os.kill(runner, signal.SIGKILL)
            with pytest.raises(RuntimeFailure, match=r"row: crashed \(SIGKILL\) while timing inferences") as caught:
                receive(worker._inbox, timeout_seconds=60, waiting=[worker])
            assert not isinstance(caught.value, TargetFailure)
        with loaded(there, master_bundle / "int8.tflite") as worker:  # the next row goes on
            assert worker.ask("memory")["peak_memory_bytes"] > 0
    assert list(place.iterdir()) == []


def test_a_link_that_is_cut_is_told_and_leaves_nothing_on_the_board(
    board: Board, target: Callable[..., SshTarget], master_bundle: Path, tmp_path: Path, place: Path
) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((1, 8, 8, 1), np.int8))
    with target() as there, loaded(there, master_bundle / "int8.tflite") as worker:
        worker.send("time", inputs=[there.put(inputs)], runs=10**9, seconds=600, discarded=1)
        (runner,) = runners(board)
        board.cut()
        with pytest.raises(TargetFailure, match=r"row: ssh://.*: the link was cut.* while timing inferences"):
            receive(worker._inbox, timeout_seconds=60, waiting=[worker])
        assert becomes_true(lambda: list(place.iterdir()) == [])
        assert becomes_true(lambda: command_line(runner) == "")


def test_a_process_that_starts_just_after_the_cut_is_told_the_same(
    board: Board, target: Callable[..., SshTarget], place: Path
) -> None:
    """Its own connection stands, but the folder went with the keeper: its command fails there, not the link."""
    with target() as there:
        board.cut()
        assert becomes_true(lambda: list(place.iterdir()) == [])
        with Worker("row", timeout_seconds=60, target=there) as worker, pytest.raises(
            TargetFailure, match=r"row: ssh://.*: the link was cut.* while"
        ):
            worker.ask("pin", cpus=[0])


def test_our_own_end_leaves_nothing_on_the_board(
    board: Board, place: Path, master_bundle: Path, tmp_path: Path
) -> None:
    """This side is killed, so nothing of it can clean up."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom edgeship.validate.targets.ssh import SshTarget\n"
        "with SshTarget(sys.argv[1], ssh=sys.argv[2].split(), python=sys.executable, folder=sys.argv[3]) as there:\n"
        "    there.put(Path(sys.argv[4])); print('ready', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, board.url, board.ssh_command, str(place), str(master_bundle / "int8.tflite")],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    assert list(place.iterdir()) != []
    process.kill()
    process.wait()
    assert becomes_true(lambda: list(place.iterdir()) == [])


@pytest.mark.parametrize(("code", "message"), [
    ("print('hello')", "expected one JSON answer while loading the file, found 'hello'"),
    ("import sys; sys.stdout.buffer.write(bytes(range(256)) + b'\\n')", "expected one JSON answer"),
    ("print('{\"ok\": 7}')", "expected one JSON answer"),
    ("print('{\"ended\": true, \"ok\": 1}')", "expected one JSON answer"),
    ("print('[' * 100000)", "expected one JSON answer"),
])
def test_a_device_that_answers_garbage(
    target: Callable[..., SshTarget], master_bundle: Path, tmp_path: Path, place: Path, code: str, message: str
) -> None:
    python = python_with(
        tmp_path, "numpy",
        f"import sys\nif 'supervise' in sys.argv:\n    sys.stdin.readline()\n    {code}\n    sys.stdout.flush()\n"
        "    sys.exit(0)\n",
    )
    with target(python=python) as there, pytest.raises(RuntimeFailure, match=message):
        loaded(there, master_bundle / "int8.tflite")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("code", ["print('not a keeper')", "print('{\"ok\": 3}')", "print('{\"ok\": {}}'[::-1])"])
def test_a_keeper_that_answers_garbage(
    target: Callable[..., SshTarget], tmp_path: Path, place: Path, code: str
) -> None:
    python = python_with(tmp_path, "numpy", f"import sys\n{code}\nsys.stdout.flush()\nsys.exit(0)\n")
    with pytest.raises(TargetFailure, match=r"the runner did not start there \(.*expected one line of JSON"), \
            target(python=python):
        pass


@pytest.mark.parametrize(("code", "message"), [
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"row: crashed \(SIGSEGV\) while loading the file"),
    ("import time; time.sleep(600)", "row: hung while loading the file: no answer for 2 s"),
])
def test_a_runtime_that_crashes_or_hangs_over_there(
    board: Board, target: Callable[..., SshTarget], master_bundle: Path, tmp_path: Path, place: Path,
    code: str, message: str,
) -> None:
    python = python_with(tmp_path, "ai_edge_litert", code)
    with target(python=python) as there, pytest.raises(RuntimeFailure, match=message) as caught:
        # Starting Python with numpy there takes part of the time, so the hang alone is timed.
        worker = Worker("row", timeout_seconds=60 if "crash" in message else 2, target=there, runtime="litert")
        with worker:
            artifact = there.put(master_bundle / "int8.tflite")
            worker.ask("load", runtime="litert", path=artifact, options={"threads": 1})
    assert not isinstance(caught.value, TargetFailure)
    assert list(place.iterdir()) == []
    assert becomes_true(lambda: runners(board) == [])  # the hung one is ended too


@pytest.mark.parametrize(("url", "parsed"), [
    ("ssh://board", ("board", None)), ("ssh://pi@board:2222", ("pi@board", 2222)),
    ("ssh://pi@[::1]:22", ("pi@::1", 22)),
])
def test_urls(url: str, parsed: tuple[str, int | None]) -> None:
    assert parse_url(url) == parsed


@pytest.mark.parametrize("url", [
    "ssh://", "ssh://-oProxyCommand=x", "ssh://-l@board", "ssh://pi:secret@board", "ssh://board/path",
    "ssh://board:port", "ssh:board",
])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"expected ssh://user@host\[:port\]"):
        parse_url(url)
