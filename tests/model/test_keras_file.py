"""Files that are no saved model, or one that is built to break the reader: one message each, and the process lives."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.errors import ModelError
from edgeship.model import hdf5_file
from edgeship.model.keras_file import (
    CONFIG,
    LARGEST_CONFIG_BYTES,
    METADATA,
    WEIGHTS,
    load_keras_model,
    read_model_config,
)
from tests.support.hostile_models import network, put, rewrite, with_byte_code

FUZZED_FILES = 200  # in all; half of them zip, half HDF5


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    for suffix in ("keras", "h5"):
        network().save(folder / f"plain.{suffix}")
    return folder


def parts_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path: Path, parts: list[tuple[str, bytes]], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return path


def test_the_content_decides_and_not_the_name(saved: Path, tmp_path: Path) -> None:
    expected = load_keras_model(saved / "plain.keras").get_config()
    for source, name in (("plain.keras", "x.h5"), ("plain.h5", "x.keras"), ("plain.h5", "x")):
        path = Path(shutil.copy(saved / source, tmp_path / name))
        assert [layer["config"]["name"] for layer in read_model_config(path)["config"]["layers"]][2] == "target"
        assert load_keras_model(path).get_config() == expected


def test_a_configuration_is_read_without_a_model(saved: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for suffix in ("keras", "h5"):
        with_byte_code(marker)["plain"].save(tmp_path / f"payload.{suffix}")
        marker.unlink()
        names = [layer["class_name"] for layer in read_model_config(tmp_path / f"payload.{suffix}")["config"]["layers"]]
        assert "Lambda" in names and not marker.exists()


def test_a_file_that_is_two_files_is_one_of_them(saved: Path, tmp_path: Path) -> None:
    """An HDF5 file with a zip behind it is HDF5, whatever zipfile would say; what stands before is what is read."""
    marker = tmp_path / "marker"
    with_byte_code(marker)["plain"].save(tmp_path / "payload.h5")
    with_byte_code(marker)["plain"].save(tmp_path / "payload.keras")
    marker.unlink()
    both = tmp_path / "both.keras"
    both.write_bytes((tmp_path / "payload.h5").read_bytes() + (saved / "plain.keras").read_bytes())
    assert zipfile.is_zipfile(both)
    with pytest.raises(ModelError, match="holds Python code"):
        load_keras_model(both)
    both.write_bytes((saved / "plain.h5").read_bytes() + (tmp_path / "payload.keras").read_bytes())
    assert load_keras_model(both).name == "small"
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file.attrs["model_config"] = "{}"
    for start in (b"", b"PK\x03\x04"):
        content = bytearray((tmp_path / "block.h5").read_bytes())
        content[:len(start)] = start
        both.write_bytes(content)
        with pytest.raises(ModelError, match=r"both\.keras: not a model file"):
            load_keras_model(both)
    assert not marker.exists()


def test_zip_files_that_grow_or_say_two_things_are_refused(saved: Path, tmp_path: Path) -> None:
    parts = parts_of(saved / "plain.keras")
    path = tmp_path / "odd.keras"
    for odd, message in (
        ([*parts.items(), (CONFIG, b"{}")], "config.json is in it more than once"),
        ([*parts.items(), ("../outside.py", b"")], "found '../outside.py' too"),
        ([*parts.items(), ("assets/vocabulary.txt", b"")], "layers that keep files of their own"),
        ([item for item in parts.items() if item[0] != CONFIG], r"not a model file .*config\.json"),
        ([item for item in parts.items() if item[0] != WEIGHTS], r"not a model file .*model\.weights\.h5"),
        ([*((n, c) for n, c in parts.items() if n != CONFIG), (CONFIG, b"[]")], "its configuration is a list"),
        ([*((n, c) for n, c in parts.items() if n != WEIGHTS), (WEIGHTS, b"none")], "the HDF5 in it is not"),
        ([*((n, c) for n, c in parts.items() if n != CONFIG), (CONFIG, b" " * (LARGEST_CONFIG_BYTES + 1))],
         "config.json: expected at most 33,554,432 bytes, found 33,554,433"),
    ):
        with pytest.warns(UserWarning, match="Duplicate") if "once" in message else pytest.MonkeyPatch.context():
            zipped(path, list(odd))
        with pytest.raises(ModelError, match=message):
            load_keras_model(path)
    zipped(path, list(parts.items()), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="is compressed, which Keras 2 never does"):
        load_keras_model(path)
    assert not (tmp_path.parent / "outside.py").exists()


def weights_file(path: Path, make) -> bytes:
    with h5py.File(path, "w") as file:
        make(file)
    return path.read_bytes()


def test_numbers_that_lie_elsewhere_or_grow_are_refused_in_both_forms(saved: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4000))
    weights_file(tmp_path / "other.h5", lambda file: file.create_dataset("w", data=np.zeros(4)))

    def virtual(file):
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "w", (4,))
        file.create_virtual_dataset("w", layout)

    def nested(file):
        for _ in range(70):
            file = file.create_group("g")

    def circle(file):
        group = file.create_group("g")
        group["again"] = group

    def texts(file):
        file.create_dataset("w", data=["text"], dtype=h5py.string_dtype())

    def repeated(file):
        file.create_dataset("w", data=np.zeros(10_000))
        for number in range(50):
            file[f"again{number}"] = file["w"]

    here = "expected its numbers in the file"
    for name, make, message in (
        ("external", lambda file: file.create_dataset("w", (1000,), "f4", external=[(str(secret), 0, 4000)]), here),
        ("virtual", virtual, here),
        ("bomb", lambda file: file.create_dataset("w", data=np.zeros(10_000_000), compression="gzip"), here),
        ("empty", lambda file: file.create_dataset("w", (1 << 40,), "f4", chunks=(1024,)), here),
        ("repeated", repeated, here),
        ("link", lambda file: file.update({"w": h5py.ExternalLink(str(tmp_path / "other.h5"), "w")}), "a link"),
        ("soft", lambda file: file.update({"w": h5py.SoftLink("/elsewhere")}), "found a link to another place"),
        ("nested", nested, "at most 64 within each other"),
        ("circle", circle, "at most 64 within each other"),
        ("texts", texts, "w: expected numbers, found object"),
        ("type", lambda file: file.update({"w": np.dtype("f4")}), "found a named type"),
    ):
        content = weights_file(tmp_path / f"{name}.h5", make)
        parts = {**parts_of(saved / "plain.keras"), WEIGHTS: content}
        for path in (tmp_path / f"{name}.h5", zipped(tmp_path / f"{name}.keras", list(parts.items()))):
            with pytest.raises(ModelError, match=rf"{path.name}: the HDF5 in it is not as .* it .*{message}"):
                load_keras_model(path)


def test_a_library_that_crashes_or_hangs_is_a_message(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child.py"
    monkeypatch.setattr(hdf5_file.hdf5_copy, "__file__", str(child))
    for text, message in (
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "the HDF5 library crashed on it with SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "the HDF5 library did not come to an end with it"),
        ("raise MemoryError('no more')", "it could not be read: MemoryError: no more"),
    ):
        child.write_text(text)
        with pytest.raises(ModelError, match=message):
            load_keras_model(saved / "plain.h5")
    child.write_text("import signal; signal.pause()")
    monkeypatch.setattr(hdf5_file, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(ModelError, match="the HDF5 library was not done with it after 0 s"):
        load_keras_model(saved / "plain.h5")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_layers_that_declare_more_than_the_file_holds_are_refused(suffix: str, saved: Path, tmp_path: Path) -> None:
    """Before the memory is taken: 200 GB here."""
    path = Path(shutil.copy(saved / f"plain.{suffix}", tmp_path / f"large.{suffix}"))
    entry = {"class_name": "Dense", "module": "keras.layers", "config": {"units": 10**10}, "registered_name": None}
    if suffix == "h5":
        entry.pop("module")
    with pytest.raises(ModelError, match=r"its layers have 160,\d{3},\d{3},\d{3} bytes of weights or more"):
        load_keras_model(rewrite(path, put(entry)))


def test_what_is_no_whole_model_is_told_apart(tmp_path: Path) -> None:
    model = network()
    for name in ("weights.h5", "model.weights.h5"):
        model.save_weights(tmp_path / name)
        with pytest.raises(ModelError, match=rf"/{name}: it has weights and no layers \(save_weights was used\)"):
            load_keras_model(tmp_path / name)
    model.export(tmp_path / "folder")
    with pytest.raises(ModelError, match=r"folder: a folder, expected a \.keras or .h5 file"):
        load_keras_model(tmp_path / "folder")
    with pytest.raises(ModelError, match=r"none\.keras: there is no such file"):
        load_keras_model(tmp_path / "none.keras")


def test_nested_models_keep_their_weights(tmp_path: Path) -> None:
    parts = [layers.Input((6, 6, 4)), layers.Conv2D(4, 3), layers.BatchNormalization()]
    inner = tf_keras.Sequential(parts, name="inner")
    model = network(inner, layers.LeakyReLU(0.3))
    model.compile("adam", "mse")
    for suffix in ("keras", "h5"):
        model.save(tmp_path / f"model.{suffix}")
        loaded = load_keras_model(tmp_path / f"model.{suffix}")
        for ours, theirs in zip(loaded.weights, model.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def mutated(content: bytes, other: bytes, generator: random.Random) -> bytes:
    """Bits flipped, the end cut off, a piece of another file put in, or a piece moved."""
    changed = bytearray(content)
    kind = generator.choice(("flip", "flip", "cut", "splice", "move"))
    start = generator.randrange(len(changed))
    if kind == "flip":
        for _ in range(generator.choice((1, 4, 64))):
            changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    elif kind == "cut":
        del changed[start:]
    elif kind == "splice":
        length = generator.randrange(1, 512)
        at = generator.randrange(len(other))
        changed[start:start + length] = other[at:at + length]
    else:
        length = generator.randrange(1, 512)
        piece = changed[start:start + length]
        del changed[start:start + length]
        at = generator.randrange(len(changed) + 1)
        changed[at:at] = piece
    return bytes(changed)


def test_fuzzed_files_neither_run_code_nor_end_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All start from models whose byte code leaves a marker, so that none may be built."""
    # Some make the HDF5 library run in circles. On a slow machine others end by this as well, refused all the same.
    monkeypatch.setattr(hdf5_file, "TIMEOUT_SECONDS", 5.0)
    marker = tmp_path / "marker"
    contents = {}
    for suffix in ("keras", "h5"):
        with_byte_code(marker)["plain"].save(tmp_path / f"payload.{suffix}")
        contents[suffix] = (tmp_path / f"payload.{suffix}").read_bytes()
    marker.unlink()
    generator = random.Random(7)

    def refuse(number: int, content: bytes) -> str:
        path = tmp_path / f"fuzzed{number}"
        path.write_bytes(content)
        with pytest.raises(ModelError) as found:
            load_keras_model(path)
        return str(found.value)

    pairs = [("keras", "h5"), ("h5", "keras")] * (FUZZED_FILES // 2)
    files = [mutated(contents[one], contents[other], generator) for one, other in pairs]
    with ThreadPoolExecutor(2) as pool:
        messages = list(pool.map(refuse, range(len(files)), files))
    assert all(message.startswith(str(tmp_path)) for message in messages)
    assert not marker.exists()
    # The mutations are of many kinds: some break the zip, some the HDF5 file, some leave the code where it is.
    assert any("holds Python code" in message for message in messages)
    assert any("the HDF5 in it is not" in message for message in messages)
    assert any("not a model file" in message for message in messages)


def test_the_parts_of_the_test_are_those_of_a_keras_file(saved: Path) -> None:
    assert set(parts_of(saved / "plain.keras")) == {CONFIG, METADATA, WEIGHTS}
    assert json.loads(parts_of(saved / "plain.keras")[METADATA])["keras_version"].startswith("2.")
    assert io.BytesIO(parts_of(saved / "plain.keras")[WEIGHTS]).read(8) == hdf5_file.MAGIC
