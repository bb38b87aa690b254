from __future__ import annotations

import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy

from edgeship.core.config import KERAS_WEIGHTS, TORCH_WEIGHTS
from edgeship.core.errors import ModelError
from edgeship.model.checkpoint import READERS, read_checkpoint
from edgeship.model.checkpoint_keras import keras_name
from edgeship.model.checkpoint_tensors import KERAS, TORCH
from edgeship.model.resnet import build_resnet
from tests.support.torch_files import (
    Storage,
    Tensor,
    save_legacy,
    save_pickle_in_zip,
    save_zip,
    state_dict,
    tensor,
    training_arguments,
)

ARRAYS = {
    "conv1.weight": np.arange(2 * 3 * 7 * 7, dtype=np.float32).reshape(2, 3, 7, 7),
    "fc.bias": np.array([-0.5, 1e-30], np.float64),
    "bn1.weight": np.array([0.5, -3.0], np.float16),
    "bn1.num_batches_tracked": np.array(77, np.int64),
}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def run_if_unpickled(marker: Path) -> bytes:
    """A pickle that makes a folder where Python's own reader loads it."""

    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    return pickle.dumps(Runs(), 2)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_torch_files_give_the_numbers_that_were_saved(tmp_path, save):
    save(tmp_path / "model.pth", state_dict(ARRAYS))
    checkpoint = read_checkpoint(tmp_path / "model.pth")
    assert (checkpoint.layout, checkpoint.notes, checkpoint.layers) == (TORCH, (), None)
    assert_same(checkpoint.tensors, ARRAYS)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_views_of_one_storage_are_told_apart(tmp_path, save):
    storage = Storage(np.arange(24, dtype=np.float32))
    save(tmp_path / "model.pt", {
        "rows": Tensor(storage, 0, (2, 3), (3, 1)), "turned": Tensor(storage, 6, (3, 2), (1, 3)),
        "last": Tensor(storage, 23, (1,), (1,)), "none": Tensor(storage, 0, (0, 3), (3, 1)),
        "other": tensor(np.ones(2)),
    })
    found = read_checkpoint(tmp_path / "model.pt").tensors
    np.testing.assert_array_equal(found["rows"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["turned"], [[6, 9], [7, 10], [8, 11]])
    np.testing.assert_array_equal(found["last"], [23])
    assert found["none"].shape == (0, 3)
    np.testing.assert_array_equal(found["other"], [1, 1])


def test_bfloat16_is_widened_exactly(tmp_path):
    bits = np.array([0x3F80, 0xC000, 0x3E01], np.uint16)  # 1, -2, and 2**-3 + 2**-10
    expected = np.array([1, -2, 2**-3 + 2**-10], np.float32)
    save_zip(tmp_path / "model.pth", state_dict({"weight": bits}))
    assert_same(read_checkpoint(tmp_path / "model.pth").tensors, {"weight": expected})
    header = b'{"weight":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
    assert_same(read_checkpoint(tmp_path / "model.safetensors").tensors, {"weight": expected})


def test_weights_beside_other_training_state_are_found_and_the_choice_is_told(tmp_path):
    tree = {
        "epoch": 3, "args": training_arguments(), "optimizer": {"state": {0: {"momentum": tensor(np.ones(5))}}},
        "state_dict_ema": state_dict({"bn1.weight": np.zeros(2)}), "state_dict": state_dict(ARRAYS),
    }
    save_zip(tmp_path / "last.pth", tree)
    checkpoint = read_checkpoint(tmp_path / "last.pth")
    assert_same(checkpoint.tensors, ARRAYS)
    assert checkpoint.notes == ("the file's 'state_dict' is taken, not 'state_dict_ema'",)


def test_safetensors_files_give_the_numbers_that_were_saved(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "model.safetensors")
    checkpoint = read_checkpoint(tmp_path / "model.safetensors")
    assert checkpoint.layout == TORCH
    assert_same(dict(sorted(checkpoint.tensors.items())), dict(sorted(ARRAYS.items())))


@pytest.mark.parametrize("name", ["whole.h5", "weights.h5", "whole.keras"])
def test_keras_files_give_the_numbers_that_were_saved(tmp_path, name):
    model = build_resnet(input_shape=(16, 16, 1), classes=3, stage_sizes=(1, 1), width=4, se_ratio=2)
    (model.save if name.startswith("whole") else model.save_weights)(tmp_path / name)
    checkpoint = read_checkpoint(tmp_path / name)
    assert checkpoint.layout == KERAS
    assert len(checkpoint.tensors) == len(model.weights)
    for weight in model.weights:
        np.testing.assert_array_equal(checkpoint.tensors[keras_name(weight.name)], weight.numpy())
    layers = checkpoint.layers
    assert layers is None if name == "weights.h5" else layers["stage2_unit1"]["se_ratio"] == 2


def test_a_pickle_that_runs_something_is_refused_and_runs_nothing(tmp_path):
    marker = tmp_path / "ran"
    hostile = run_if_unpickled(marker)
    pickle.loads(hostile)
    assert marker.is_dir()
    marker.rmdir()
    save_pickle_in_zip(tmp_path / "zip.pth", hostile)
    legacy = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    (tmp_path / "legacy.pth").write_bytes(legacy + hostile)
    for name in ("zip.pth", "legacy.pth"):
        with pytest.raises(ModelError, match=rf"{name}: not weights alone: it asks for posix\.mkdir, .* nothing of it"):
            read_checkpoint(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "it asks for builtins.eval"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.", "it asks for os.system"),
        (b"(i__main__\nThing\n.", "it holds the operation INST"),
        (b"\x82\x01.", "it holds the operation EXT1"),
        (b"ccollections\nOrderedDict\n}b.", "it sets the state of Name"),
        (b"ccollections\nOrderedDict\n(K\x01K\x02u.", "it sets items of Name"),
        (b"ctorch\nFloatStorage\n)R.", "it calls torch.FloatStorage"),
        (b"K\x01)R.", "it calls int"),
        (b"}]K\x01s.", "neither text nor a number"),
        (b"K\x01K\x02a.", "it appends to int"),
        (b"(X\x07\x00\x00\x00storagectorch\nHTMLStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.",
         "numbers stored as torch.HTMLStorage; expected one of DoubleStorage"),
        (b"X\x06\x00\x00\x00moduleQ.", "a persistent id that is no storage"),
        (b"}.", "no state dict"),
        (b"}X\x05\x00\x00\x00epochK\x03s.", "the entry 'epoch' is int and no tensor"),
        # The memo of a reader that is an array would take 32 GB here.
        (b"]r\xff\xff\xff\x7f.", "no state dict"),
        (b"X\xff\xff\xff\x7fabc.", "not a whole file of torch.save"),
        (b"K\x01", "not a whole file of torch.save"),
        (b"", "not a whole file of torch.save"),
        (b"t.", "not a whole file of torch.save"),
    ],
)
def test_whatever_is_not_data_is_refused_by_name(tmp_path, pickled, message):
    save_pickle_in_zip(tmp_path / "model.pth", pickled)
    with pytest.raises(ModelError, match=message):
        read_checkpoint(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (3, 3), (3, 1)), (5, (2,), (1,)), (-1, (2,), (1,)), (0, (2, 2), (-1, 1)), (0, (2,), (1, 1)),
        (0, (1 << 40, 1 << 20), (0, 0)),  # repeats one number
    ],
)
def test_a_tensor_reaches_no_further_than_its_storage(tmp_path, offset, shape, strides):
    storage = Storage(np.arange(6, dtype=np.float32))
    save_zip(tmp_path / "model.pth", {"weight": Tensor(storage, offset, shape, strides)})
    with pytest.raises(ModelError, match="not weights alone: a tensor of size"):
        read_checkpoint(tmp_path / "model.pth")


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_a_storage_that_is_shorter_than_the_pickle_says(tmp_path, save):
    storage = Storage(np.arange(6, dtype=np.float32))
    storage.elements = 600
    save(tmp_path / "model.pth", {"weight": Tensor(storage, 0, (600,), (1,))})
    with pytest.raises(ModelError, match="storage 0: expected 2400 bytes, found 24"):
        read_checkpoint(tmp_path / "model.pth")


def test_files_of_torch_that_are_no_state_dict_are_named(tmp_path):
    save_zip(tmp_path / "compressed.pth", state_dict(ARRAYS), compression=zipfile.ZIP_DEFLATED)
    save_zip(tmp_path / "big.pth", state_dict(ARRAYS), byteorder="big")
    save_zip(tmp_path / "complex.pth", state_dict({"weight": np.zeros(2, np.complex64)}))
    save_zip(tmp_path / "script.pt", state_dict(ARRAYS))
    with zipfile.ZipFile(tmp_path / "script.pt", "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("notes.txt", "nothing of the kind")
    for name, message in {
        "compressed.pth": r"its entry archive/.* is compressed, which torch never does",
        "big.pth": "its numbers are stored big-endian",
        "complex.pth": "numbers stored as torch.ComplexFloatStorage",
        "script.pt": "a TorchScript program",
        "other.pt": "a zip file with 0 entries NAME/data.pkl",
    }.items():
        with pytest.raises(ModelError, match=message):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "model.safetensors", "whole.h5", "whole.keras"])
def test_a_file_that_was_cut_off_is_named(tmp_path, name):
    path = tmp_path / name
    if name == "zip.pth":
        save_zip(path, state_dict(ARRAYS))
    elif name == "legacy.pth":
        save_legacy(path, state_dict(ARRAYS))
    elif name == "model.safetensors":
        safetensors.numpy.save_file(ARRAYS, path)
    else:
        build_resnet(input_shape=(16, 16, 1), classes=3, stage_sizes=(1,), width=4).save(path)
    content = path.read_bytes()
    for length in (0, 3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match=f"{name}: (not a|the HDF5 in it is not as)"):
            read_checkpoint(path)


def test_number_types_that_float32_cannot_hold_are_named(tmp_path):
    header = b'{"conv1.weight":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(ModelError, match=r"conv1\.weight is stored as F8_E4M3; expected one of F64, F32"):
        read_checkpoint(tmp_path / "model.safetensors")


def test_h5_files_that_point_elsewhere_or_grow_are_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4000))
    makers = {
        "external": lambda group: group.create_dataset("w:0", (1000,), "f4", external=[(str(secret), 0, 4000)]),
        "compressed": lambda group: group.create_dataset("w:0", data=np.zeros(10_000), compression="gzip"),
        "empty": lambda group: group.create_dataset("w:0", (1 << 40,), "f4", chunks=(1024,)),
    }
    for name, make in makers.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.attrs["layer_names"] = ["l"]
            make(file.create_group("l"))
        with pytest.raises(ModelError, match=r"l/w:0: expected its numbers in the file"):
            read_checkpoint(tmp_path / f"{name}.h5")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file.attrs["layer_names"] = ["l"]
        file.create_group("l")["w:0"] = h5py.ExternalLink(str(tmp_path / "external.h5"), "/l/w:0")
    with pytest.raises(ModelError, match=r"l/w:0: expected its numbers in the file, found a link to another place"):
        read_checkpoint(tmp_path / "link.h5")


def test_keras_files_without_names_are_sent_back(tmp_path):
    model = build_resnet(input_shape=(16, 16, 1), classes=3, stage_sizes=(1,), width=4)
    model.save_weights(tmp_path / "resnet.weights.h5")
    with pytest.raises(ModelError, match=r"resnet\.weights\.h5: its weights have no names .* save the whole model as"):
        read_checkpoint(tmp_path / "resnet.weights.h5")


def test_files_that_are_not_there_or_of_another_kind_are_named(tmp_path):
    assert tuple(READERS) == TORCH_WEIGHTS + KERAS_WEIGHTS
    (tmp_path / "model.ckpt").write_bytes(b"")
    (tmp_path / "old.pth").write_bytes(b"nothing of the kind, but long enough to be something else")
    for name, message in {
        "none.pth": "model.weights: .*none.pth: there is no such file",
        "model.ckpt": r"expected one of \.safetensors, \.pth, \.pt, \.bin, \.h5, \.keras, found '\.ckpt'",
        "old.pth": "old.pth: not a whole file of torch.save",
    }.items():
        with pytest.raises(ModelError, match=message):
            read_checkpoint(tmp_path / name)


def test_the_tar_form_is_named(tmp_path):
    with tarfile.open(tmp_path / "oldest.pth", "w") as archive:
        archive.add(__file__, "pickle")
    with pytest.raises(ModelError, match=r"the tar form of before torch 0\.4; load it with torch and save it again"):
        read_checkpoint(tmp_path / "oldest.pth")
