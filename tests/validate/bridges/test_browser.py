"""The bridge to a real browser; what needs no browser is tested without."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from edgeship.core.errors import RuntimeFailure
from edgeship.validate.bridges.browser import PageError, Session, serve
from edgeship.validate.bridges.browser_server import PageServer
from edgeship.validate.bridges.signature import places_in_file
from edgeship.validate.process.client import Worker, receive
from edgeship.validate.targets.browser_files import find_chromium, find_modules
from tests.support import two_ends
from tests.support.targets import needs_browser

COMMAND = (sys.executable, "-P", "-m", "edgeship.validate.bridges.browser")
PATIENCE_SECONDS = 120
MANY = 24_000  # 6 MB of images: two pieces
ENDLESS = 1_000_000  # images: work for longer than a second, on any machine


def bridge(label: str = "x on browser", command: tuple[str, ...] = COMMAND) -> Worker:
    return Worker(label, timeout_seconds=PATIENCE_SECONDS, command=command)


def load(worker: Worker, runtime: str, path: Path, threads: int = 1, **more: Any) -> dict[str, Any]:
    return worker.ask("load", runtime=runtime, path=str(path), options={"threads": threads}, **more)


def run(worker: Worker, images: np.ndarray, folder: Path) -> np.ndarray:
    """The outputs, after checking the hash that came with them."""
    np.save(folder / "images.npy", images)
    answer = worker.ask("run", inputs=[str(folder / "images.npy")], outputs=[str(folder / "outputs.npy")])
    assert answer["sha256"] == [hashlib.sha256((folder / "outputs.npy").read_bytes()).hexdigest()]
    outputs: np.ndarray = np.load(folder / "outputs.npy", allow_pickle=False)
    return outputs


def run_native(runtime: str, path: Path, images: np.ndarray, folder: Path) -> np.ndarray:
    with Worker("x on cpu", timeout_seconds=PATIENCE_SECONDS) as worker:
        load(worker, runtime, path)
        return run(worker, images, folder)


# ---- ONNX Runtime Web


@pytest.fixture(scope="module")
def onnx_file(tiny_bundle: Path) -> Path:
    return tiny_bundle / "int8-qat.onnx"


@pytest.fixture(scope="module")
def onnx_worker(onnx_file: Path) -> Iterator[tuple[Worker, dict[str, Any]]]:
    with bridge() as worker:
        yield worker, load(worker, "onnxruntime-web", onnx_file)


def golden_integers(bundle: Path, file: str) -> np.ndarray:
    """The golden images on the artifact's own grid."""
    artifacts = json.loads((bundle / "manifest.json").read_text())["artifacts"]
    image = next(item for item in artifacts if item["file"] == file)["inputs"][0]
    with np.load(bundle / "golden.npz") as golden:
        steps = np.round(golden["inputs"] / image["scale"]) + image["zero_point"]
    return np.clip(steps, 0, 255).astype(np.uint8)


@needs_browser
def test_what_a_browser_says_of_a_model_and_of_itself(onnx_worker: tuple[Worker, dict[str, Any]]) -> None:
    _, loaded = onnx_worker
    (image,), (probabilities,) = loaded["inputs"], loaded["outputs"]
    assert (image["dtype"], image["shape"]) == ("uint8", [1, 16, 16, 1])
    assert (image["scale"], image["zero_point"]) == (None, None)
    assert (probabilities["dtype"], probabilities["shape"]) == ("uint8", [1, 10])
    assert loaded["load_ms"] > 0
    assert set(loaded["versions"]) == {"onnxruntime-web", "chromium"}
    assert loaded["facts"]["cross_origin_isolated"] is True  # else: no threads, coarse clocks
    assert "Chrome" in loaded["facts"]["user_agent"]
    assert loaded["facts"]["hardware_concurrency"] >= 1


@needs_browser
def test_onnxruntime_web_gives_the_native_answers(
    onnx_worker: tuple[Worker, dict[str, Any]], onnx_file: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    golden = golden_integers(tiny_bundle, onnx_file.name)
    noise = np.random.default_rng(0).integers(0, 256, (100, 16, 16, 1)).astype(np.uint8)
    images = np.concatenate([golden, noise])
    web = run(onnx_worker[0], images, tmp_path)
    native = run_native("onnxruntime", onnx_file, images, tmp_path)
    # Sums of products are exact integers in both. What may differ is the float32 arithmetic that takes a sum (or
    # a mean, or the softmax) to the output's grid: where that lands within a rounding error of a half, either
    # neighbour is right, and those are 1 step apart. It is rare: a rounding error is about 1e-5 of a step.
    steps = np.abs(web.astype(int) - native.astype(int))
    assert web.shape == native.shape and web.dtype == native.dtype == np.uint8
    assert steps.max() <= 1
    assert np.mean(steps > 0) <= 0.01
    assert len(np.unique(web[len(golden):].argmax(axis=1))) > 1  # the answers do depend on the images


@needs_browser
def test_many_images_keep_their_order(
    onnx_worker: tuple[Worker, dict[str, Any]], tmp_path: Path
) -> None:
    worker, _ = onnx_worker
    few = np.random.default_rng(1).integers(0, 256, (96, 16, 16, 1)).astype(np.uint8)
    expected = run(worker, few, tmp_path)
    outputs = run(worker, np.tile(few, (MANY // len(few), 1, 1, 1)), tmp_path)
    assert np.array_equal(outputs, np.tile(expected, (MANY // len(few), 1)))


@needs_browser
def test_times_are_whole_nanoseconds_and_the_first_one_stays(
    onnx_worker: tuple[Worker, dict[str, Any]], tmp_path: Path
) -> None:
    worker, _ = onnx_worker
    np.save(tmp_path / "images.npy", np.zeros((2, 16, 16, 1), np.uint8))
    request = {"inputs": [str(tmp_path / "images.npy")], "discarded": 2}
    answer = worker.ask("time", **request, runs=20, seconds=60)
    assert len(answer["samples_ns"]) == 20
    assert all(isinstance(sample, int) and sample >= 0 for sample in answer["samples_ns"])
    assert sum(answer["samples_ns"]) > 0
    again = worker.ask("time", **request, runs=10**9, seconds=0.05)
    assert again["first_ms"] == answer["first_ms"] > 0
    assert 1 <= len(again["samples_ns"]) < 10**9


# ---- LiteRT.js


@pytest.fixture(scope="module")
def tflite_files(master_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three forms of one network: float, int8 between float inputs and outputs, and float with any batch."""
    import tensorflow as tf
    import tf_keras

    folder = tmp_path_factory.mktemp("tflite")
    model = tf_keras.models.load_model(master_bundle / "float.keras")
    fixed = tf_keras.Sequential([tf_keras.layers.Input((8, 8, 1), batch_size=1), *model.layers])
    samples = np.random.default_rng(0).uniform(-1, 1, (50, 1, 8, 8, 1)).astype(np.float32)
    files = {}
    for name, source in (("float", fixed), ("integer", fixed), ("any-batch", model)):
        converter = tf.lite.TFLiteConverter.from_keras_model(source)
        if name == "integer":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([sample] for sample in samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        files[name] = folder / f"{name}.tflite"
        files[name].write_bytes(converter.convert())
    return files


@needs_browser
@pytest.mark.parametrize(("name", "threads", "tolerance"), [
    # A few float32 roundings of probabilities, whose sums are taken in another order.
    ("float", 2, 1e-6),
    # Exact sums, then the same float32 requantization but for its own roundings: one step of a 1/256 grid.
    ("integer", 1, 1 / 256),
])
def test_litert_web_gives_the_native_answers(
    tflite_files: dict[str, Path], tmp_path: Path, name: str, threads: int, tolerance: float
) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (100, 8, 8, 1)).astype(np.float32)
    with bridge() as worker:
        loaded = load(worker, "litert-web", tflite_files[name], threads)
        web = run(worker, images, tmp_path)
    native = run_native("litert", tflite_files[name], images, tmp_path)
    assert loaded["inputs"][0]["dtype"] == "float32"
    assert loaded["versions"]["@litertjs/core"]
    assert web.shape == native.shape == (100, 3) and web.dtype == np.float32
    assert np.abs(web - native).max() <= tolerance
    assert np.ptp(web) > 0.1  # the answers do depend on the images


@needs_browser
def test_litert_web_refuses_integer_inputs_with_advice(master_bundle: Path) -> None:
    with bridge() as worker, pytest.raises(
        RuntimeFailure, match=r"while loading the file: Element type INT8 is not supported; .*export\.tflite_io = "
    ):
        load(worker, "litert-web", master_bundle / "int8.tflite")


@needs_browser
def test_litert_web_refuses_any_batch_with_advice(tflite_files: dict[str, Path], tmp_path: Path) -> None:
    with bridge() as worker:
        load(worker, "litert-web", tflite_files["any-batch"])
        with pytest.raises(RuntimeFailure, match=r"Float32\[-1.*batch of 1 only: export with export\.tflite_io"):
            run(worker, np.zeros((1, 8, 8, 1), np.float32), tmp_path)


@needs_browser
@pytest.mark.parametrize(("runtime", "message"), [
    ("onnxruntime-web", "protobuf parsing failed"),
    ("litert-web", "Failed to load model from buffer"),
])
def test_a_file_that_is_no_model_is_an_error(tmp_path: Path, runtime: str, message: str) -> None:
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(4096))
    with bridge() as worker, pytest.raises(RuntimeFailure, match=f"while loading the file: .*{message}"):
        load(worker, runtime, tmp_path / "noise")


# ---- Ends: whoever is killed, neither a process nor a folder stays


PROFILE = "--user-data-dir="


def arguments(process: psutil.Process) -> list[str]:
    """Its command line; empty for one that has just ended."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def is_renderer(process: psutil.Process) -> bool:
    return "--type=renderer" in arguments(process)


def is_main(process: psutil.Process) -> bool:
    found = arguments(process)
    return any(item.startswith(PROFILE) for item in found) and not any(item.startswith("--type=") for item in found)


def start_long_run(worker: Worker, model: Path, folder: Path) -> tuple[list[psutil.Process], Path]:
    """A browser in the middle of its work: its processes and its profile."""
    load(worker, "onnxruntime-web", model)
    processes = psutil.Process(worker._process.pid).children(recursive=True)
    profiles = [item for process in processes for item in arguments(process) if item.startswith(PROFILE)]
    profile = Path(profiles[0].removeprefix(PROFILE))
    assert profile.is_dir()
    np.save(folder / "images.npy", np.zeros((ENDLESS, 8, 8, 1), np.uint8))
    worker.send("run", inputs=[str(folder / "images.npy")], outputs=[str(folder / "outputs.npy")])
    _, line = worker._inbox.get(timeout=PATIENCE_SECONDS)
    assert 0 < json.loads(line or "{}")["progress"] < ENDLESS
    return processes, profile


def check_nothing_is_left(processes: list[psutil.Process], profile: Path) -> None:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)
    assert not alive
    deadline_s = time.monotonic() + PATIENCE_SECONDS
    while profile.exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not profile.exists()


@needs_browser
@pytest.mark.parametrize(("victim", "message"), [
    (is_renderer, "while running inferences: the page's process crashed or was killed"),
    (is_main, r"while running inferences: Chromium was killed \(SIGKILL\)"),
], ids=["page", "chromium"])
def test_a_browser_that_dies_is_noticed(master_bundle: Path, tmp_path: Path, victim: Any, message: str) -> None:
    with bridge() as worker:
        processes, profile = start_long_run(worker, master_bundle / "int8.onnx", tmp_path)
        victims = [process for process in processes if victim(process)]
        assert victims
        for process in victims:
            process.kill()
        with pytest.raises(RuntimeFailure, match=message):
            receive(worker._inbox, timeout_seconds=PATIENCE_SECONDS, waiting=[worker])
    check_nothing_is_left(processes, profile)


@needs_browser
@pytest.mark.parametrize("how", ["stdin closes", signal.SIGTERM, signal.SIGKILL])
def test_a_bridge_that_ends_takes_its_browser_along(master_bundle: Path, tmp_path: Path, how: Any) -> None:
    with bridge() as worker:
        processes, profile = start_long_run(worker, master_bundle / "int8.onnx", tmp_path)
        if how == "stdin closes":
            assert worker._process.stdin is not None
            worker._process.stdin.close()
        else:
            os.kill(worker._process.pid, how)
        worker._process.wait(PATIENCE_SECONDS)
        check_nothing_is_left(processes, profile)


# ---- Without a browser


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    with bridge() as worker, pytest.raises(
        RuntimeFailure, match=rf"model\.onnx: arrived altered: expected SHA-256 0{{64}}, found {found}"
    ):
        load(worker, "onnxruntime-web", tmp_path / "model.onnx", sha256="0" * 64)


@pytest.mark.parametrize(("arguments", "message"), [
    (("--chromium", "nowhere/chromium"), r"No browser 'chromium' \(at nowhere/chromium .*apt install chromium"),
    (("--chromium", sys.executable, "--modules", "nowhere"),
     r"No npm module 'onnxruntime-web' \(not in nowhere\).*edgeship setup browser"),
])
def test_a_missing_part_is_named_with_how_to_get_it(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with bridge(command=(*COMMAND, *arguments)) as worker, pytest.raises(RuntimeFailure, match=message):
        load(worker, "onnxruntime-web", tmp_path / "model.onnx")


def test_a_browser_that_cannot_run_is_an_error(tmp_path: Path) -> None:
    for module in ("onnxruntime-web",):
        (tmp_path / module).mkdir()
        (tmp_path / module / "package.json").write_text('{"version": "1"}')
    fake = tmp_path / "chromium"
    fake.write_text("#!/bin/sh\necho 'No usable sandbox!' >&2\nexit 7\n")
    fake.chmod(0o755)
    command = (*COMMAND, "--chromium", str(fake), "--modules", str(tmp_path))
    with bridge(command=command) as worker, pytest.raises(
        RuntimeFailure, match="Chromium ended with exit code 7; its last words: No usable sandbox!"
    ):
        load(worker, "onnxruntime-web", fake)


def test_where_chromium_and_the_modules_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGESHIP_CHROMIUM", "EDGESHIP_BROWSER_MODULES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("EDGESHIP_CACHE", str(tmp_path))
    assert find_chromium() is None
    assert find_modules() is None
    for name in ("google-chrome", "chromium", "another"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "browser" / "node_modules").mkdir(parents=True)
    assert find_chromium() == tmp_path / "chromium"
    assert find_modules() == tmp_path / "browser" / "node_modules"
    monkeypatch.setenv("EDGESHIP_CHROMIUM", str(tmp_path / "another"))
    monkeypatch.setenv("EDGESHIP_BROWSER_MODULES", str(tmp_path / "none"))
    assert find_chromium() == tmp_path / "another"
    assert find_modules() is None


@pytest.fixture
def session() -> Session:
    """With a model of float32 (any batch, 8, 8, 1) images, but no browser."""
    made = Session(lambda message: None, queue.SimpleQueue(), chromium=None, modules=None)
    made._browser = object()  # type: ignore[assignment]
    made._inputs = [{"name": "image", "dtype": "float32", "shape": [-1, 8, 8, 1]}]
    return made


@pytest.mark.parametrize("images", [
    np.zeros((2, 8, 8, 1), np.uint8), np.zeros((2, 8, 8, 1), ">f4"), np.zeros((2, 8, 8, 3), np.float32),
    np.zeros((8, 8, 1), np.float32),
])
def test_images_that_do_not_fit_are_refused(session: Session, tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(ValueError, match=r"images\.npy: expected .* float32 .* of shape \(any, 8, 8, 1\), found"):
        session.do_run(inputs=[str(tmp_path / "images.npy")], outputs=[])


def test_no_images_are_refused(session: Session, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((0, 8, 8, 1), np.float32))
    with pytest.raises(ValueError, match=r"expected the same number of examples for each input, one or more; found"):
        session.do_run(inputs=[str(tmp_path / "images.npy")], outputs=[])


def test_altered_images_are_refused(session: Session, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((1, 8, 8, 1), np.float32))
    with pytest.raises(Exception, match=r"images\.npy: arrived altered"):
        session.do_run(inputs=[str(tmp_path / "images.npy")], outputs=[], sha256=["0" * 64])


def test_what_a_browser_does_not_tell_is_none(session: Session) -> None:
    assert session.do_memory() == {"peak_memory_bytes": None}
    assert session.do_plan() == {"plan": None, "notes": ["a browser does not tell which operations ran as integers"]}


def test_an_error_of_the_page_keeps_its_name_and_is_one_line(session: Session) -> None:
    def fail() -> None:
        raise PageError("RangeError", "out of\n memory")

    session.do_plan = fail  # type: ignore[method-assign,assignment]
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    requests.put(b'{"do": "plan"}')
    sent: list[dict[str, Any]] = []
    with pytest.raises(PageError):
        serve(session, requests, sent.append)
    assert sent == [{"error": {"type": "RangeError", "message": "out of memory"}}]


# ---- Several inputs and outputs


def run_all(worker: Worker, folder: Path, *arrays: np.ndarray, outputs: int) -> list[np.ndarray]:
    paths = [folder / f"in-{number}.npy" for number in range(len(arrays))]
    for path, values in zip(paths, arrays, strict=True):
        np.save(path, values)
    made = [str(folder / f"out-{number}.npy") for number in range(outputs)]
    worker.ask("run", inputs=list(map(str, paths)), outputs=made)
    return [np.load(path) for path in made]


@needs_browser
@pytest.mark.parametrize(("runtime", "content"), [
    ("litert-web", two_ends.tflite_file), ("onnxruntime-web", two_ends.onnx_file),
])
def test_each_input_and_output_in_the_files_own_order(
    runtime: str, content: Callable[[], bytes], tmp_path: Path
) -> None:
    """LiteRT.js has them in the signature's order, which is the other way round."""
    path = tmp_path / "two-ends"
    path.write_bytes(content())
    inputs = two_ends.examples(5)
    with bridge() as worker:
        loaded = load(worker, runtime, path)
        found = run_all(worker, tmp_path, *inputs, outputs=2)
        timed = worker.ask(
            "time", inputs=[str(tmp_path / f"in-{number}.npy") for number in range(2)], runs=3, seconds=60, discarded=1
        )
    assert [item["dtype"] for item in loaded["inputs"]] == ["float32", "int32"]
    assert [tuple(item["shape"]) for item in loaded["outputs"]] == [two_ends.SCORES, two_ends.MAP]
    assert len(timed["samples_ns"]) == 3
    # A sum of 60 products of numbers below 4: float32 rounds each to 2^-24 of it at most.
    for values, wanted in zip(found, two_ends.expected(*inputs), strict=True):
        assert values.shape == wanted.shape and np.abs(values - wanted).max() < 60 * 8 * 2.0**-24


def test_a_signature_that_leaves_out_an_input_is_refused() -> None:
    with pytest.raises(ValueError, match="each of the file's 2 inputs once, found a_words; export the model with"):
        places_in_file(two_ends.tflite_file(), inputs=["a_words"], outputs=["a_map", "z_scores"])


# ---- The server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("served")
    modules = folder / "node_modules"
    for name in ("onnxruntime-web/dist/ort.mjs", "onnxruntime-web/package.json", "other/index.js"):
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).write_text("export {};")
    (folder / "secret.js").write_text("secret")
    (modules / "onnxruntime-web" / "link.js").symlink_to(folder / "secret.js")
    made = PageServer(modules, queue.SimpleQueue())
    yield made
    made.shutdown()
    made.server_close()


def fetch(server: PageServer, path: str, method: str = "GET", **more: Any) -> tuple[int, bytes, dict[str, str]]:
    """Without the clean-up of paths that browsers and most clients do."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE_SECONDS)
    connection.request(method, path, **more)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, dict(answer.getheaders())


@pytest.mark.parametrize(("path", "content_type"), [
    ("page/index.html", "text/html"), ("page/runner.js", "text/javascript"),
    ("modules/onnxruntime-web/dist/ort.mjs", "text/javascript"),
])
def test_the_page_and_its_modules_are_served_isolated(server: PageServer, path: str, content_type: str) -> None:
    status, content, headers = fetch(server, f"/{server.token}/{path}")
    assert status == 200 and content
    assert headers["Content-Type"] == content_type
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"


@pytest.mark.parametrize("path", [
    "page/../browser.py", "page/../browser_page/../client.py", "page/%2e%2e/browser.py", "page//etc/passwd",
    "page/../browser_page", "page/", "page/%00.js", "page/none.js",
    "modules/../secret.js", "modules/onnxruntime-web/../../secret.js", "modules/onnxruntime-web/%2e%2e/other/index.js",
    "modules/other/index.js", "modules/onnxruntime-web/link.js", "modules/onnxruntime-web/package.json",
    "modules//etc/passwd", "modules/onnxruntime-web//etc/passwd", "unknown", "",
])
def test_nothing_else_is_served(server: PageServer, path: str) -> None:
    status, content, _ = fetch(server, f"/{server.token}/{path}")
    assert (status, content) == (404, b"")


@pytest.mark.parametrize("token", ["", "guess", "%ff%fe", "%c3%a4", "guess/model"])
def test_without_the_token_there_is_nothing(server: PageServer, token: str) -> None:
    server.model = b"the model"
    assert fetch(server, f"/{token}/model")[:2] == (404, b"")
    assert fetch(server, f"/{token}/answer", "POST", body=b'{"ok": {}}')[:2] == (404, b"")
    assert server.events.empty()
    assert fetch(server, f"/{server.token}/model")[:2] == (200, b"the model")


def test_a_body_beyond_the_limit_is_refused(server: PageServer) -> None:
    status, *_ = fetch(server, f"/{server.token}/outputs", "POST", headers={"Content-Length": str(10**9)})
    assert status == 413
    assert not server.outputs
