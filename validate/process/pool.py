"""Workers with the same model: one for a small test set, and every core for a large one.

The first worker begins with the inputs. Once it is plain that what waits takes it longer than others need to start, the
others are started. So a small test set costs one start, which takes seconds on an emulated processor, and a large one
is worked on from the first moment. Each answer is one worker's alone: how many there are changes no figure.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgeship.core.errors import RuntimeFailure, TargetFailure
from edgeship.core.files import sha256_of_file
from edgeship.validate.process.client import Inbox, Worker, receive
from edgeship.validate.targets.target import Target

# Starts that the waiting inputs must outlast: while the others start the first worker does half of them, and shares the
# other half.
WORTH_STARTS = 2


class NotMeasured(Exception):
    """The runtime's tool does not give outputs; the text says why."""


class Pool:
    """Up to `size` processes that loaded one file. Use it in `with`. Raises RuntimeFailure like Worker does."""

    def __init__(
        self,
        label: str,
        *,
        runtime: str,
        path: Path,
        options: dict[str, Any],
        size: int,
        timeout_seconds: float,
        folder: Path,
        target: Target,
        sha256: str | None = None,
    ) -> None:
        """`path` is the file's on this machine; with `sha256` the target checks what arrived."""
        self.label = label
        self._threads: int = options["threads"]
        self._target, self._path, self._runtime = target, path, runtime
        self._options = options
        self._request = {"runtime": runtime, "options": options, "sha256": sha256}
        self._size, self._timeout_seconds, self._folder = size, timeout_seconds, folder
        self._inbox: Inbox = queue.SimpleQueue()
        self._workers: list[Worker] = []
        self._loading: set[Worker] = set()  # those of the workers that have not answered yet
        self._start_seconds = 0.0
        self._there = ""  # the file on the target
        self.loaded: dict[str, Any] = {}

    def __enter__(self) -> Pool:
        try:
            self._start()
        except BaseException:
            self._end(at_once=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(at_once=kind is not None)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Ask the first worker."""
        while self._loading:  # their answers come through the same inbox
            self._loading.discard(self._receive()[0])
        return self._workers[0].ask(do, **arguments)

    def run(self, inputs: Sequence[tuple[Path, ...]]) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
        """Yield (index, outputs) of each batch of inputs, in the order in which they are done. Raises NotMeasured.

        A batch is one .npy file per input of the model, in the model's order; its outputs are one array per output, of
        shape (examples, ...) and the artifact's own dtype.
        """
        waiting = deque(enumerate(inputs))
        busy: dict[Worker, _Errand] = {}
        for worker in self._workers:
            if worker not in self._loading:
                self._next(worker, waiting, busy)
        began, done = time.monotonic(), 0
        while busy:
            worker, answer = self._receive(*busy)
            if worker in self._loading:
                self._loading.discard(worker)
                self._next(worker, waiting, busy)
                continue
            errand = busy.pop(worker)
            if "not_measured" in answer:
                raise NotMeasured(str(answer["not_measured"]))
            outputs = self._read(errand, answer)
            self._next(worker, waiting, busy)
            done += 1
            if len(self._workers) < self._size and are_worth_starting(
                waiting=len(waiting), seconds_each=(time.monotonic() - began) / done, start_seconds=self._start_seconds
            ):
                while len(self._workers) < self._size:
                    self._load(self._new_worker())
            yield errand.index, outputs

    def _start(self) -> None:
        """Start the first worker, and wait until it has loaded the file."""
        self._there = self._target.put(self._path)
        began = time.monotonic()
        self._load(worker := self._new_worker())
        _, self.loaded = self._receive()
        self._loading.discard(worker)
        self._start_seconds = time.monotonic() - began

    def _new_worker(self) -> Worker:
        worker = Worker(
            self.label, timeout_seconds=self._timeout_seconds, threads=self._threads, inbox=self._inbox,
            target=self._target, runtime=self._runtime,
        )
        self._workers.append(worker)
        return worker

    def _load(self, worker: Worker) -> None:
        """Ask a worker to load the file."""
        worker.send("load", path=self._there, **self._request)
        self._loading.add(worker)

    def _receive(self, *busy: Worker) -> tuple[Worker, dict[str, Any]]:
        return receive(self._inbox, timeout_seconds=self._timeout_seconds, waiting=[*busy, *self._loading])

    def _end(self, *, at_once: bool) -> None:
        for worker in self._workers:
            worker.close(at_once=at_once or worker in self._loading)

    def _next(self, worker: Worker, waiting: deque[tuple[int, tuple[Path, ...]]], busy: dict[Worker, _Errand]) -> None:
        if not waiting:
            return
        index, paths = waiting.popleft()
        # A maker's tool tells nothing of the model, but is told.
        outputs = self.loaded["outputs"] or self._options["outputs"]
        local = [self._folder / f"outputs-{index}-{number}.npy" for number in range(len(outputs))]
        errand = _Errand(
            index=index, inputs=[self._target.put(path) for path in paths],
            outputs=[self._target.new_path(path.name) or str(path) for path in local], local=local,
        )
        busy[worker] = errand
        sent = errand.inputs != [str(path) for path in paths]
        sha256 = [sha256_of_file(path) for path in paths] if sent else None
        worker.send("run", inputs=errand.inputs, outputs=errand.outputs, sha256=sha256)

    def _read(self, errand: _Errand, answer: dict[str, Any]) -> tuple[np.ndarray, ...]:
        """Return the outputs, brought back; what was sent for this errand is removed on the target."""
        hashes = answer.get("sha256")
        if not isinstance(hashes, list) or len(hashes) != len(errand.local):
            raise RuntimeFailure(f"{self.label}: expected {len(errand.local)} hashes of its outputs, found {hashes!r}")
        outputs = tuple(
            self._bring(there, local, digest)
            for there, local, digest in zip(errand.outputs, errand.local, hashes, strict=True)
        )
        if errand.outputs != [str(local) for local in errand.local]:
            for there in (*errand.outputs, *errand.inputs):
                self._target.remove(there)
        return outputs

    def _bring(self, there: str, local: Path, sha256: str) -> np.ndarray:
        """Return the array of a file on the target. Raises TargetFailure, RuntimeFailure."""
        self._target.get(there, local)
        try:
            if sha256_of_file(local) != sha256:
                raise TargetFailure(
                    f"{self.label}: its outputs were altered on the way from {self._target.name}; check the link"
                )
            outputs: np.ndarray = np.load(local, allow_pickle=False)
            local.unlink()
        # A damaged header may claim more than any memory holds.
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise RuntimeFailure(f"{self.label}: its outputs could not be read ({error})") from error
        return outputs


def are_worth_starting(*, waiting: int, seconds_each: float, start_seconds: float) -> bool:
    """Return whether further workers save time: whether the waiting inputs take one worker longer than starts do."""
    return waiting * seconds_each > WORTH_STARTS * start_seconds


@dataclass(frozen=True, kw_only=True)
class _Errand:
    """One batch on its way; `inputs` and `outputs` are paths on the target, one per tensor."""

    index: int
    inputs: list[str]
    outputs: list[str]
    local: list[Path]
