"""Preprocessing and labels inside the artifacts: what is written, that the model stays the same, hostile files."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert import schema_py_generated as schema
from rich.console import Console

from edgeship.core.artifact import Artifact, Manifest, Preprocessing, TensorSpec, manifest_from_json
from edgeship.core.errors import ExportError
from edgeship.core.integers import quantize
from edgeship.data import preprocess
from edgeship.export.metadata import with_metadata
from edgeship.export.proof.golden import specs_and_outputs
from edgeship.export.tflite.metadata import with_tflite_metadata
from edgeship.export.tflite.names import pack
from edgeship.graph import graph_from_bytes, tflite_metadata
from edgeship.graph.tflite import metadata_entry
from edgeship.graph.tflite_metadata import STANDARD_ENTRY, TfliteMetadata, read_tflite_metadata
from edgeship.inspect.inspection import (
    LABELS_KEY,
    PREPROCESSING_KEY,
    Inspection,
    inspect_file,
    inspection_to_dict,
    render,
)

RGB = Preprocessing(
    image_size=16, channels=3, channel_order="RGB", interpolation="bilinear",
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
)
IMAGE = TensorSpec(name="image", shape=(1, 16, 16, 3), dtype="int8", scale=0.02, zero_point=-14)
CLASSES = TensorSpec(name="probabilities", shape=(1, 10), dtype="int8", scale=1 / 256, zero_point=-128)

ADD_AGAIN = """
import hashlib, sys
from pathlib import Path
from edgeship.core.artifact import manifest_from_json
from edgeship.export.metadata import with_metadata
folder = Path(sys.argv[1])
manifest = manifest_from_json((folder / "manifest.json").read_text(), where=folder)
for artifact in manifest.artifacts:
    if not (folder / artifact.file).exists():
        continue
    content = with_metadata(
        (folder / artifact.file).read_bytes(), format=artifact.format, preprocessing=manifest.preprocessing,
        labels=manifest.labels, inputs=artifact.inputs, outputs=artifact.outputs,
    )
    print(artifact.name, hashlib.sha256(content).hexdigest())
"""


@pytest.fixture(scope="session")
def manifest(tiny_bundle: Path) -> Manifest:
    path = tiny_bundle / "manifest.json"
    return manifest_from_json(path.read_text(), where=path)


@pytest.fixture(scope="session")
def plain(tiny_bundle: Path, manifest: Manifest) -> dict[str, bytes]:
    """Artifact name -> its bytes without metadata."""
    return {
        artifact.name: REMOVERS[artifact.format]((tiny_bundle / artifact.file).read_bytes())
        for artifact in manifest.artifacts if artifact.format in REMOVERS
    }


@pytest.fixture(scope="session")
def contents(plain: dict[str, bytes], manifest: Manifest) -> dict[str, bytes]:
    """Artifact name -> its bytes with metadata."""
    return {
        artifact.name: add(plain[artifact.name], artifact, manifest)
        for artifact in manifest.artifacts if artifact.name in plain
    }


def without_tflite_metadata(content: bytes) -> bytes:
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    ours = {STANDARD_ENTRY.encode(), PREPROCESSING_KEY.encode(), LABELS_KEY.encode()}
    first = min((entry.buffer for entry in file.metadata if entry.name in ours), default=len(file.buffers))
    file.metadata = [entry for entry in file.metadata if entry.name not in ours]
    assert all(entry.buffer < first for entry in file.metadata)  # ours are the last ones
    del file.buffers[first:]
    return pack(file)


def without_onnx_metadata(content: bytes) -> bytes:
    model = onnx.ModelProto.FromString(content)
    del model.metadata_props[:]
    return model.SerializeToString(deterministic=True)


REMOVERS = {"tflite": without_tflite_metadata, "onnx": without_onnx_metadata}


def add(content: bytes, artifact: Artifact, manifest: Manifest) -> bytes:
    return with_metadata(
        content, format=artifact.format, preprocessing=manifest.preprocessing, labels=manifest.labels,
        inputs=artifact.inputs, outputs=artifact.outputs,
    )


def inspected(tmp_path: Path, content: bytes, name: str = "model.tflite") -> Inspection:
    (tmp_path / name).write_bytes(content)
    return inspect_file(tmp_path / name)


def shown(inspection: Inspection) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(render(inspection))
    return stream.getvalue()


# What is written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype", "zero_point"), [
    ("int8-qat.tflite", "int8", -128), ("int8-qat.onnx", "uint8", 0), ("int8-qat-s8s8.onnx", "int8", -128),
    ("float32.tflite", "float32", None), ("float32.onnx", "float32", None),
])
def test_every_format_says_the_same(contents, manifest, tmp_path, name, dtype, zero_point):
    inspection = inspected(tmp_path, contents[name], name)
    artifact = next(artifact for artifact in manifest.artifacts if artifact.name == name)
    assert inspection.labels == manifest.labels == tuple("0123456789")
    assert inspection.preprocessing == {
        "image_size": 16, "channels": 1, "channel_order": "gray", "layout": "NHWC",
        "resize": "central square, bilinear with antialiasing (Pillow)", "fit": "crop", "antialias": True,
        "mean": [0.0], "std": [1.0],
        "input": {
            "name": "image", "dtype": dtype, "scale": artifact.inputs[0].scale, "zero_point": zero_point,
        },
        "output": {
            "name": "probabilities", "dtype": dtype, "scale": artifact.outputs[0].scale, "zero_point": zero_point,
            "values": "probabilities",
        },
    }


def test_without_normalization_the_int8_input_is_the_pixel_minus_128(contents, tmp_path):
    """The worked example of docs/metadata.md, on all 256 pixel values."""
    said = inspected(tmp_path, contents["int8-qat.tflite"]).preprocessing["input"]
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    integers = np.rint(pixels.astype(np.float32) / 255 / np.float32(said["scale"])) + said["zero_point"]
    np.testing.assert_array_equal(integers, pixels.astype(int) - 128)


def test_what_is_said_is_what_edgeship_does(contents, manifest, tmp_path, tiny_pipeline):
    """The formula in the documentation, with the numbers in the file, gives the integers of `quantize`."""
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)
    for name in ("int8-qat.tflite", "int8-qat.onnx"):
        said = inspected(tmp_path, contents[name], name).preprocessing
        mean, std = (np.asarray(said[key], np.float32) for key in ("mean", "std"))
        real = (images.astype(np.float32) / 255 - mean) / std
        integers = np.rint(real / np.float32(said["input"]["scale"])) + said["input"]["zero_point"]
        spec = next(artifact.inputs[0] for artifact in manifest.artifacts if artifact.name == name)
        expected = quantize(preprocess(images, manifest.preprocessing), spec)
        np.testing.assert_array_equal(integers.astype(said["input"]["dtype"]), expected)


def test_the_standard_metadata(contents, tmp_path):
    inspection = inspected(tmp_path, contents["int8-qat.tflite"])
    assert inspection.tflite_metadata == TfliteMetadata(
        name="edgeship image classifier", image_width=16, image_height=16, color_space="gray",
        mean=(0.0,), std=(255.0,), labels_file="labels.txt", labels=tuple("0123456789"), problem=None,
    )
    assert inspected(tmp_path, contents["int8-qat.onnx"], "m.onnx").tflite_metadata is None


def test_the_standard_normalizes_pixels_of_0_to_255(tiny_bundle):
    content = (tiny_bundle / "int8-qat.tflite").read_bytes()
    standard = read_tflite_metadata(with_metadata(
        content, format="tflite", preprocessing=RGB, labels=("cat", "dog"), inputs=(IMAGE,), outputs=(CLASSES,)
    ))
    assert (standard.color_space, standard.labels) == ("RGB", ("cat", "dog"))
    pixels = np.array([[0, 0, 0], [255, 255, 255], [17, 130, 200]], np.uint8)
    expected = preprocess(np.tile(pixels[:, None, None], (1, 16, 16, 1)), RGB)[:, 0, 0]
    np.testing.assert_allclose((pixels - np.array(standard.mean)) / standard.std, expected, rtol=1e-5)


def test_equal_channels_are_one_value(tiny_bundle):
    """MediaPipe's image classifier refuses one value per channel; the standard lets one stand for all."""
    spec = dataclasses.replace(RGB, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    standard = read_tflite_metadata(with_metadata(
        (tiny_bundle / "int8-qat.tflite").read_bytes(), format="tflite", preprocessing=spec, labels=("cat",),
        inputs=(IMAGE,), outputs=(CLASSES,),
    ))
    assert (standard.mean, standard.std) == ((127.5,), (63.75,))


@pytest.mark.parametrize(("slots", "fields"), [
    (tflite_metadata.ModelSlot, "name description version subgraphs author license files min_parser_version"),
    (tflite_metadata.SubgraphSlot, "name description inputs outputs files"),
    (tflite_metadata.TensorSlot, "name description dimension_names content process_units stats files"),
    (tflite_metadata.ContentSlot, "kind properties range"),
    (tflite_metadata.ImageSlot, "color_space default_size"),
    (tflite_metadata.SizeSlot, "width height"),
    (tflite_metadata.UnitSlot, "kind options"),
    (tflite_metadata.NormalizationSlot, "mean std"),
    (tflite_metadata.FileSlot, "name description kind locale"),
])
def test_slots_follow_the_published_schema(slots, fields):
    """Reader and writer share these numbers, so that only the schema can tell them wrong: its fields, in order."""
    order = fields.split()
    assert [(slot.name.lower(), int(slot)) for slot in slots] == [
        (field, place) for place, field in enumerate(order) if field.upper() in slots.__members__
    ]


def test_labels_are_a_stored_file_behind_the_model(contents, tmp_path):
    (tmp_path / "model.tflite").write_bytes(contents["int8-qat.tflite"])
    with zipfile.ZipFile(tmp_path / "model.tflite") as archive:
        (member,) = archive.infolist()
        assert archive.read(member).decode() == "".join(f"{digit}\n" for digit in range(10))
    # Readers on devices hand out the bytes as they lie in the file.
    assert (member.filename, member.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
    assert member.date_time == (1980, 1, 1, 0, 0, 0)
    assert contents["int8-qat.tflite"][member.header_offset :].startswith(b"PK\3\4")


def test_onnx_properties_are_sorted_and_others_kept(tiny_bundle, manifest, tmp_path):
    artifact = next(artifact for artifact in manifest.artifacts if artifact.name == "int8-qat.onnx")
    model = onnx.load(tiny_bundle / artifact.file)
    model.metadata_props.add(key="zebra", value="striped")
    model.metadata_props.add(key="author", value="somebody")
    content = add(model.SerializeToString(), artifact, manifest)
    changed = onnx.ModelProto.FromString(content)
    assert [item.key for item in changed.metadata_props] == ["author", LABELS_KEY, PREPROCESSING_KEY, "zebra"]
    onnx.checker.check_model(changed, full_check=True)
    found = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).get_modelmeta()
    assert json.loads(found.custom_metadata_map[LABELS_KEY]) == list(manifest.labels)
    assert found.custom_metadata_map["author"] == "somebody"


def test_the_bundle_has_it(contents, tiny_bundle):
    for name, content in contents.items():
        assert (tiny_bundle / name).read_bytes() == content


# The model stays the same ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["int8-qat.tflite", "float32.tflite", "int8-qat.onnx", "float32.onnx"])
def test_the_file_still_loads_and_answers_the_same(contents, tiny_bundle, name):
    with np.load(tiny_bundle / "golden.npz", allow_pickle=False) as golden:
        _, _, (outputs,) = specs_and_outputs(contents[name], format=name.split(".")[1], inputs=(golden["inputs"],))
        np.testing.assert_array_equal(outputs, golden[f"expected/{name}"])


@pytest.mark.parametrize("name", ["int8-qat.tflite", "int8-qat.onnx"])
def test_the_graph_is_the_same(contents, plain, name):
    assert PREPROCESSING_KEY.encode() not in plain[name]
    before = graph_from_bytes(plain[name], where=Path(name))
    after = graph_from_bytes(contents[name], where=Path(name))
    assert [dataclasses.astuple(operation) for operation in before.operations] == [
        dataclasses.astuple(operation) for operation in after.operations
    ]
    assert (before.inputs, before.outputs, list(before.tensors)) == (after.inputs, after.outputs, list(after.tensors))
    for tensor in before.tensors.values():
        other = after.tensors[tensor.name]
        assert (tensor.dtype, tensor.shape, tensor.axis) == (other.dtype, other.shape, other.axis)
        for values, others in zip(
            (tensor.data, tensor.scales, tensor.zero_points), (other.data, other.scales, other.zero_points), strict=True
        ):
            np.testing.assert_array_equal(values, others)


def test_buffers_stay_at_multiples_of_16(contents):
    """Absolute offsets in the file, which kernels map as it is."""
    for name in ("int8-qat.tflite", "float32.tflite"):
        model = schema.Model.GetRootAs(contents[name], 0)
        tables = [model.Buffers(index)._tab for index in range(model.BuffersLength())]
        offsets = [table.Vector(table.Offset(4)) for table in tables if table.Offset(4)]
        assert len(offsets) > 15
        assert [offset % 16 for offset in offsets] == [0] * len(offsets)


def test_the_same_bytes_in_any_process(contents, plain, tiny_bundle, tmp_path):
    (tmp_path / "manifest.json").write_bytes((tiny_bundle / "manifest.json").read_bytes())
    for name, content in plain.items():
        (tmp_path / name).write_bytes(content)
    for seed in ("1", "2"):
        child = subprocess.run(
            [sys.executable, "-c", ADD_AGAIN, str(tmp_path)], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed}, cwd=Path(__file__).parents[2],
        )
        found = dict(line.split() for line in child.stdout.splitlines())
        assert found == {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def test_adding_again_replaces(contents, manifest):
    for artifact in manifest.artifacts:
        if artifact.name not in contents:
            continue
        content = contents[artifact.name]
        assert add(content, artifact, manifest) == content
        shorter = with_metadata(
            content, format=artifact.format, preprocessing=manifest.preprocessing, labels=("zero",),
            inputs=artifact.inputs, outputs=artifact.outputs,
        )
        assert b'"0"' not in shorter
        assert add(shorter, artifact, manifest) == content


# What cannot be written --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "message"), [
    ({"labels": ("cat", "dog\nmouse")}, r"the label 'dog\\nmouse' has a line break"),
    ({"labels": ("cat", "dog\rmouse")}, "has a line break"),
    ({"labels": ("caf\udce9",)}, "is not valid Unicode"),
    ({"inputs": (IMAGE, IMAGE)}, "expected one input, found 2"),
    ({"outputs": ()}, "expected one output, found 0"),
    ({"inputs": (dataclasses.replace(IMAGE, shape=(1, 3, 16, 16)),)}, r"of shape \(1, 16, 16, 3\), found \(1, 3"),
    ({"preprocessing": dataclasses.replace(RGB, interpolation="nearest")}, "expected the interpolation bilinear"),
])
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_refusals(tiny_bundle, format, change, message):
    arguments = {"preprocessing": RGB, "labels": ("cat",), "inputs": (IMAGE,), "outputs": (CLASSES,)} | change
    with pytest.raises(ExportError, match=message):
        with_metadata((tiny_bundle / f"int8-qat.{format}").read_bytes(), format=format, **arguments)


def test_labels_in_any_script(tiny_bundle, tmp_path):
    labels = ("Löwe", "猫", "a, b", '"quoted"', " spaced ", "\u200bzero-width", "")
    for format in ("tflite", "onnx"):
        content = with_metadata(
            (tiny_bundle / f"int8-qat.{format}").read_bytes(), format=format, preprocessing=RGB, labels=labels,
            inputs=(IMAGE,), outputs=(CLASSES,),
        )
        inspection = inspected(tmp_path, content, f"model.{format}")
        assert inspection.labels == labels
        assert inspection.tflite_metadata is None or inspection.tflite_metadata.labels == labels


@pytest.mark.parametrize(("fit", "antialias", "words"), [
    ("stretch", True, "whole picture stretched to a square, bilinear with antialiasing (Pillow)"),
    ("crop", False, "central square, bilinear without antialiasing (TensorFlow)"),
])
def test_the_way_to_a_square_is_said_in_every_place(tiny_bundle, tmp_path, fit, antialias, words):
    """The entry of ours, and the description of the input in TFLite's standard, which the Kotlin snippet reads."""
    spec = dataclasses.replace(RGB, fit=fit, antialias=antialias)
    for format in ("tflite", "onnx"):
        content = with_metadata(
            (tiny_bundle / f"int8-qat.{format}").read_bytes(), format=format, preprocessing=spec,
            labels=tuple("0123456789"), inputs=(IMAGE,), outputs=(CLASSES,),
        )
        said = inspected(tmp_path, content, f"model.{format}").preprocessing
        assert (said["fit"], said["antialias"], said["resize"]) == (fit, antialias, words)
        assert format == "onnx" or f"The image to classify: {words}.".encode() in content


# What `edgeship inspect` shows -------------------------------------------------------------------------------


def test_inspect_shows_preprocessing_labels_and_the_standard(contents, tmp_path):
    lines = [line.rstrip() for line in shown(inspected(tmp_path, contents["int8-qat.tflite"])).splitlines()]
    for expected in (
        "labels                         10: 0, 1, 2, 3, 4, ...",
        "TFLite metadata                image 16x16 gray, mean 0, std 255, labels.txt (10)",
        "image_size     16",
        "channel_order  gray",
        "layout         NHWC",
        "resize         central square, bilinear with antialiasing (Pillow)",
        "mean           0",
        "std            1",
        "input          name image, dtype int8, scale 0.00392156886, zero point -128",
        "output         name probabilities, dtype int8, scale 0.00390625, zero point -128, values probabilities",
    ):
        assert expected in lines
    assert not any(key in line for line in lines for key in (PREPROCESSING_KEY, LABELS_KEY, STANDARD_ENTRY))


def without_archive(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return content[: archive.infolist()[0].header_offset]


def archive_of(text: bytes, *, name: str = "labels.txt", compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr(name, text)
    return stream.getvalue()


@pytest.mark.parametrize(("archive", "problem"), [
    (b"", "labels.txt: BadZipFile"),
    (archive_of(bytes(64 * 1024 * 1024)), "more than 1,048,576 bytes of labels"),
    (archive_of(b"cat", compression=zipfile.ZIP_LZMA), "compression 14 is not supported"),
    (archive_of(b"cat", name="other.txt"), "no item named"),
    (archive_of(b"\xff\xfe"), "UnicodeDecodeError"),
    (archive_of(b"cat")[:-30] + bytes(8), "BadZipFile"),
    (archive_of(b"cat") + bytes(5 * 1024 * 1024), "BadZipFile"),
], ids=["none", "bomb", "lzma", "other-name", "not-utf-8", "cut", "far-from-the-end"])
def test_labels_that_cannot_be_unpacked(contents, tmp_path, archive, problem):
    inspection = inspected(tmp_path, without_archive(contents["int8-qat.tflite"]) + archive)
    assert inspection.tflite_metadata.labels is None
    assert problem in inspection.tflite_metadata.problem
    assert inspection.labels == tuple("0123456789")  # our own entry is still there
    assert "image 16x16 gray, mean 0, std 255, unreadable (labels.txt: " in shown(inspection)


def test_an_archive_whose_offsets_are_its_own_is_read(contents, tmp_path):
    content = without_archive(contents["int8-qat.tflite"]) + archive_of(b"cat\ndog")
    assert inspected(tmp_path, content).tflite_metadata.labels == ("cat", "dog")


def test_metadata_behind_a_large_model_is_read(contents):
    """Only the last megabytes are looked at, whatever the model's size."""
    large = bytearray(contents["int8-qat.tflite"])
    archive = len(without_archive(bytes(large)))
    large[archive:archive] = bytes(6 * 1024 * 1024)
    assert read_tflite_metadata(bytes(large)).labels == tuple("0123456789")


@pytest.mark.parametrize(("change", "problem"), [
    ({"mean": (float("nan"),) * 3}, "mean or std of"),
    ({"std": (float("inf"),) * 3}, "mean or std of"),
    ({"mean": (0.5,) * 65, "std": (0.5,) * 64 + (0.25,)}, "a list of 65 items"),
])
def test_numbers_that_are_none(tiny_bundle, tmp_path, change, problem):
    content = with_tflite_metadata(
        (tiny_bundle / "int8-qat.tflite").read_bytes(), {}, preprocessing=dataclasses.replace(RGB, **change),
        labels=("cat",), input=IMAGE, output=CLASSES,
    )
    inspection = inspected(tmp_path, content)
    assert problem in inspection.tflite_metadata.problem
    assert inspection_to_dict(inspection)["tflite_metadata"]["mean"] is None
    assert "TFLite metadata" in shown(inspection) and "unreadable" in shown(inspection)


def mutated(content: bytes, start: int, end: int, rng: random.Random) -> bytes:
    """A few changes between `start` and `end`: flipped bits, a large number, random bytes, zeros."""
    copy = bytearray(content)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(start, end)
        match rng.randrange(4):
            case 0:
                copy[at] ^= 1 << rng.randrange(8)
            case 1:
                copy[at : min(at + 4, end)] = (2 ** rng.randrange(8, 33) - 1).to_bytes(5, "little")[: min(4, end - at)]
            case 2:
                copy[at : min(at + 8, end)] = rng.randbytes(min(8, end - at))
            case 3:
                copy[at : min(at + 8, end)] = bytes(min(8, end - at))
    assert len(copy) == len(content)
    return bytes(copy)


@pytest.mark.parametrize("part", [STANDARD_ENTRY, PREPROCESSING_KEY, LABELS_KEY, "archive"])
def test_broken_metadata_is_shown_as_unreadable_and_stops_nothing(contents, tmp_path, part):
    content, rng = contents["int8-qat.tflite"], random.Random(part)
    if part == "archive":
        start, end = len(without_archive(content)), len(content)
    else:
        entry = metadata_entry(content, part)
        start = content.index(entry)
        end = start + len(entry)
    unreadable = 0
    for _ in range(250):
        inspection = inspected(tmp_path, mutated(content, start, end, rng))
        json.dumps(inspection_to_dict(inspection), allow_nan=False)
        unreadable += "unreadable" in shown(inspection)
        assert sum(inspection.operations.values()) == 12  # the model itself is not affected
    assert unreadable > 10
