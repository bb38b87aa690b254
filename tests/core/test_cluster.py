"""TF_CONFIG: what is read from it, what is refused, and the wait for the other workers."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from edgeship.core.cluster import Cluster, read_cluster
from edgeship.core.errors import ConfigError, RuntimeFailure


def tf_config(cluster, kind="worker", index=0) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


TWO = {"worker": ["a:1", "b:2"]}


def test_workers_and_chief():
    assert read_cluster("multi-worker", tf_config(TWO, index=1)) == Cluster(addresses=("a:1", "b:2"), index=1)
    with_chief = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    assert read_cluster("multi-worker", tf_config(with_chief, "chief")) == Cluster(
        addresses=("c:3", "a:1", "b:2"), index=0
    )
    found = read_cluster("multi-worker", tf_config(with_chief, index=1))
    assert found is not None
    assert (found.index, found.name) == (2, "worker 2 of 3")
    assert read_cluster("multi-worker", tf_config(TWO, index="1")).index == 1  # some cluster managers write strings


def test_without_a_cluster_each_process_is_alone():
    assert read_cluster("none", {}) is None
    assert read_cluster("mirrored", {"TF_CONFIG": ""}) is None
    assert read_cluster("none", tf_config({"worker": ["a:1"]})) is None  # one worker is no cluster


@pytest.mark.parametrize(
    ("strategy", "environment", "message"),
    [
        ("multi-worker", {}, r"TF_CONFIG: expected the workers' addresses .*, found none; set it to \{"),
        ("none", tf_config(TWO), "TF_CONFIG names 2 workers, but train.strategy is 'none': each would train"),
        ("mirrored", tf_config(TWO), "TF_CONFIG names 2 workers, but train.strategy is 'mirrored'"),
        ("none", {"TF_CONFIG": "{"}, "TF_CONFIG: expected JSON with cluster.worker, .* found '\\{'"),
        ("multi-worker", {"TF_CONFIG": "{}"}, r"TF_CONFIG: expected JSON .*KeyError: 'cluster'"),
        ("multi-worker", tf_config({"worker": "a:1"}), "TF_CONFIG: expected JSON .* a list of addresses was expected"),
        ("multi-worker", tf_config(TWO | {"ps": ["c:1"]}), "expected tasks of type chief and worker, found ps; remove"),
        ("multi-worker", tf_config(TWO, "evaluator"), "expected tasks of type chief and worker, found evaluator"),
        ("multi-worker", tf_config(TWO, index=2), r"expected one chief .* workers \['a:1', 'b:2'\], .* task index 2"),
        ("multi-worker", tf_config(TWO | {"chief": ["c:1", "d:1"]}), "expected one chief at most .* found 2 chiefs"),
        ("multi-worker", tf_config({"worker": ["a"]}), "expected addresses as host:port, found 'a'"),
    ],
)
def test_refused(strategy, environment, message):
    with pytest.raises(ConfigError, match=message):
        read_cluster(strategy, environment)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_workers_meet():
    addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(3))
    threads = [
        threading.Thread(target=Cluster(addresses=addresses, index=index).meet, kwargs={"timeout_seconds": 30})
        for index in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    # The ports are free again for what comes next.
    socket.create_server(("127.0.0.1", int(addresses[0].rpartition(":")[2]))).close()


def test_a_worker_that_does_not_come_is_named():
    addresses = (f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    message = rf"worker 0 of 2: worker 1 \({addresses[1]}\) was not there within 0\.3 s"
    with pytest.raises(RuntimeFailure, match=message):
        Cluster(addresses=addresses, index=0).meet(timeout_seconds=0.3)


def test_a_taken_port_is_named():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"this worker's port {port} .* cannot be used"):
            Cluster(addresses=(f"127.0.0.1:{port}", "127.0.0.1:1"), index=0).meet(timeout_seconds=1)
