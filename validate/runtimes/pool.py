"""Several workers with the same model, so that a large test set uses every core."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgeship.errors import RuntimeFailure
from validate.runtimes.client import Inbox, Worker, receive


class Pool:
    """`size` processes that loaded one file. Use it in `with`. Raises RuntimeFailure like Worker does."""

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
    ) -> None:
        self.label = label
        self._threads: int = options["threads"]
        self._request = {"runtime": runtime, "path": str(path), "options": options}
        self._size, self._timeout_seconds, self._folder = size, timeout_seconds, folder
        self._inbox: Inbox = queue.SimpleQueue()
        self._workers: list[Worker] = []
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
        return self._workers[0].ask(do, **arguments)

    def run(self, inputs: Sequence[Path]) -> Iterator[tuple[int, np.ndarray]]:
        """(index, outputs) of each .npy file of inputs, in the order in which they are done.

        Outputs have shape (images, classes) and the artifact's own dtype.
        """
        waiting = deque(enumerate(inputs))
        busy: dict[Worker, tuple[int, Path]] = {}
        for worker in self._workers:
            self._next(worker, waiting, busy)
        while busy:
            worker, _ = receive(self._inbox, timeout_seconds=self._timeout_seconds, waiting=list(busy))
            index, path = busy.pop(worker)
            outputs = self._read(path)
            self._next(worker, waiting, busy)
            yield index, outputs

    def _start(self) -> None:
        for _ in range(self._size):
            self._workers.append(Worker(
                self.label, timeout_seconds=self._timeout_seconds, threads=self._threads, inbox=self._inbox
            ))
        for worker in self._workers:
            worker.send("load", **self._request)
        for _ in self._workers:
            _, self.loaded = receive(
                self._inbox, timeout_seconds=self._timeout_seconds, waiting=self._workers
            )

    def _end(self, *, at_once: bool) -> None:
        for worker in self._workers:
            worker.close(at_once=at_once)

    def _next(
        self, worker: Worker, waiting: deque[tuple[int, Path]], busy: dict[Worker, tuple[int, Path]]
    ) -> None:
        if not waiting:
            return
        index, path = waiting.popleft()
        outputs = self._folder / f"outputs-{index}.npy"
        busy[worker] = (index, outputs)
        worker.send("run", inputs=str(path), outputs=str(outputs))

    def _read(self, path: Path) -> np.ndarray:
        try:
            outputs: np.ndarray = np.load(path, allow_pickle=False)
            path.unlink()
        except (OSError, ValueError) as error:
            raise RuntimeFailure(f"{self.label}: its outputs could not be read ({error})") from error
        return outputs
