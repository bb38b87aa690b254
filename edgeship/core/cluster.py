"""The machines that train together, from TF_CONFIG, and the wait until all of them are there. No TensorFlow.

TF_CONFIG is what TensorFlow's own multi-worker strategy reads and what cluster managers set:
`{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}`, with an optional "chief" beside
"worker" (tensorflow.org, "Distributed training with TensorFlow", section on TF_CONFIG).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeship.core.errors import ConfigError, RuntimeFailure
from edgeship.core.progress import say

VARIABLE = "TF_CONFIG"
MULTI_WORKER = "multi-worker"
JOBS = ("chief", "worker")  # the chief comes first where there is one
VISIT_SECONDS, RETRY_SECONDS = 2.0, 0.2
LONGEST_NAME = 8  # digits of a worker's index


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """All workers' addresses, the chief's first, and which one this process is."""

    addresses: tuple[str, ...]
    index: int

    @property
    def name(self) -> str:
        """What messages call this worker."""
        return f"worker {self.index} of {len(self.addresses)}"

    def meet(self, *, timeout_seconds: float) -> None:
        """Return when every worker has been there: TensorFlow waits for them for ever, and cannot be interrupted.

        Raises:
            ConfigError: this worker's own port is taken.
            RuntimeFailure: a worker was not there in time.
        """
        if len(self.addresses) == 1:
            return
        say(f"{self.name}: waiting for the others, {timeout_seconds:g} s at most")
        others = set(range(len(self.addresses))) - {self.index}
        deadline = time.monotonic() + timeout_seconds
        reached: set[int] = set()
        with _MeetingPoint(self.addresses[self.index]) as door:
            # To be left only when all have been here, else the last ones would find it closed.
            while missing := (others - reached) | (others - door.visitors):
                reached |= {index for index in others - reached if _visit(self.addresses[index], self.index)}
                if time.monotonic() > deadline:
                    index = min(missing)
                    raise RuntimeFailure(
                        f"{self.name}: worker {index} ({self.addresses[index]}) was not there within "
                        f"{timeout_seconds:g} s (train.worker_timeout_seconds); start the same command there, with the "
                        "same TF_CONFIG but for its task's index"
                    )
                time.sleep(RETRY_SECONDS)


def read_cluster(strategy: str, environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster of TF_CONFIG for `train.strategy`; None where each process trains for itself.

    Raises:
        ConfigError: TF_CONFIG is missing, damaged or names other tasks than workers; or it names several workers and
            the strategy would let each of them train the whole network and write the same files.
    """
    text = environment.get(VARIABLE, "")
    if not text:
        if strategy == MULTI_WORKER:
            raise ConfigError(
                f"{VARIABLE}: expected the workers' addresses (train.strategy is {MULTI_WORKER!r}), found none; set it "
                'to {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
            )
        return None
    cluster = _parse(text)
    if strategy == MULTI_WORKER:
        return cluster
    if len(cluster.addresses) > 1:
        raise ConfigError(
            f"{VARIABLE} names {len(cluster.addresses)} workers, but train.strategy is {strategy!r}: each would train "
            f"the whole network and write the same files; set train.strategy = {MULTI_WORKER!r}, or unset {VARIABLE}"
        )
    return None


def _parse(text: str) -> Cluster:
    try:
        document = json.loads(text)
        jobs = document["cluster"]
        kind, index = document["task"]["type"], int(document["task"]["index"])
        by_job = {job: [str(address) for address in _list(jobs[job])] for job in jobs}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{VARIABLE}: expected JSON with cluster.worker, task.type and task.index, found {text[:200]!r} "
            f"({type(error).__name__}: {error}); correct it"
        ) from error
    if others := sorted({*by_job, kind} - set(JOBS)):
        raise ConfigError(
            f"{VARIABLE}: expected tasks of type {' and '.join(JOBS)}, found {', '.join(others)}; remove them"
        )
    chiefs = by_job.get("chief", [])
    if len(chiefs) > 1 or not 0 <= index < len(by_job.get(kind, [])):
        raise ConfigError(
            f"{VARIABLE}: expected one chief at most and a task among the {kind}s "
            f"{by_job.get(kind, [])}, found {len(chiefs)} chiefs and task index {index}; correct it"
        )
    addresses = (*chiefs, *by_job.get("worker", []))
    for address in addresses:
        if not address.rpartition(":")[0] or not address.rpartition(":")[2].isdigit():
            raise ConfigError(f"{VARIABLE}: expected addresses as host:port, found {address!r}; correct it")
    return Cluster(addresses=addresses, index=index + (len(chiefs) if kind == "worker" else 0))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"a list of addresses was expected, not {value!r}")
    return value


class _MeetingPoint:
    """A worker's own port, and which of the others have knocked at it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.visitors: set[int] = set()
        self.ended = threading.Event()

    def __enter__(self) -> _MeetingPoint:
        port = _port(self.address)
        try:
            self.server = socket.create_server(("", port))
        except OSError as error:
            raise ConfigError(
                f"{VARIABLE}: this worker's port {port} ({self.address}) cannot be used ({error.strerror or error}); "
                "end what uses it, or choose another"
            ) from error
        self.server.settimeout(RETRY_SECONDS)
        self.thread = threading.Thread(target=self._receive, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        self.server.close()

    def _receive(self) -> None:
        while not self.ended.is_set():
            try:
                visitor, _ = self.server.accept()
                with visitor:
                    visitor.settimeout(VISIT_SECONDS)
                    name = visitor.recv(LONGEST_NAME)
            except OSError:  # nobody came, or hung up
                continue
            if name.isdigit():  # anybody may knock at an open port
                self.visitors.add(int(name))


def _visit(address: str, index: int) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        with socket.create_connection((host, _port(address)), timeout=VISIT_SECONDS) as visit:
            visit.sendall(str(index).encode())
    except OSError:
        return False
    return True


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
