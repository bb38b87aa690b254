"""TFRecord files written by TensorFlow and read without it, and every refusal with the file and the byte."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from edgeship.core.config import DataConfig
from edgeship.core.errors import ConfigError, DataError
from edgeship.data import load_splits, load_test_split, splits_record
from edgeship.data.crc32c import crc32c, masked_crc32c
from edgeship.data.example import features_of
from edgeship.data.records import HEADER, read_index


def encoded(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def feature(values):
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def example(seed: int, label: int, *, text: str | None = None, kind: str = "JPEG", **others) -> bytes:
    features = {
        "image/encoded": [encoded(seed, kind)], "image/class/label": [label],
        # As ImageNet's records have them; not read.
        "image/height": [10], "image/object/bbox/xmin": [0.25, 0.5], "image/filename": [b"n01440764_10026.JPEG"],
        **({} if text is None else {"image/class/text": [text.encode()]}), **others,
    }
    return tf.train.Example(
        features=tf.train.Features(feature={name: feature(values) for name, values in features.items() if values})
    ).SerializeToString(deterministic=True)


def write(path: Path, examples: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in examples:
            writer.write(one)
    return path


def write_dataset(folder: Path, *, first_label: int = 0, text: bool = False, test: str = "test") -> None:
    for shard in range(2):
        labels = [position % 3 for position in range(9)]
        write(folder / f"train-{shard:05d}-of-00002", [
            example(100 * shard + position, label + first_label, text=f"class {label}" if text else None,
                    kind=("JPEG", "PNG")[position % 2])
            for position, label in enumerate(labels)
        ])
    write(folder / f"{test}-00000.tfrecord", [example(1000 + label, label + first_label) for label in range(3)])


def config(folder, **changes) -> DataConfig:
    return DataConfig(
        **{"name": "tfrecord", "path": str(folder), "channels": 3, "image_size": 8, "calibration_images": 6, **changes}
    )


@pytest.mark.parametrize(("first_label", "test"), [(0, "test"), (1, "validation")])
def test_what_tensorflow_wrote_is_read(tmp_path, first_label, test):
    write_dataset(tmp_path, first_label=first_label, test=test)
    splits = load_splits(config(tmp_path, first_label=first_label))
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (12, 6, 3)
    assert splits.labels == ("0", "1", "2")
    assert splits.test.labels.tolist() == [0, 1, 2]
    assert splits_record(splits)["calibration"]["class_counts"] == [2, 2, 2]
    expected = np.asarray(Image.open(io.BytesIO(encoded(1001))))
    np.testing.assert_array_equal(splits.test.images[1], expected)
    np.testing.assert_array_equal(splits.test.images[1:][0], expected)
    assert splits.test.images.hashes()[2] == hashlib.sha256(encoded(1002)).hexdigest()


def test_the_same_images_give_the_same_splits_as_files(tmp_path):
    """A hash names the encoded image, wherever it lies."""
    records, files = tmp_path / "records", tmp_path / "files"
    records.mkdir()
    write(records / "train-0", [example(100 * label + position, label) for label in (0, 1) for position in range(6)])
    write(records / "test-0", [example(1000 + label, label) for label in (0, 1)])
    for part, seeds in (("train", range(6)), ("test", [1000])):
        for label in (0, 1):
            for seed in seeds:
                path = files / part / str(label) / f"{seed:04d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(seed + (100 if part == "train" else 1) * label))
    assert splits_record(load_splits(config(records))) == splits_record(
        load_splits(config(files, name="image_folder"))
    )


def test_names_come_from_labels_txt_then_from_the_texts(tmp_path):
    write_dataset(tmp_path, text=True)
    assert load_splits(config(tmp_path)).labels == ("class 0", "class 1", "class 2")
    (tmp_path / "labels.txt").write_text("cat\ndog\nhorse\nnever seen\n")
    assert load_splits(config(tmp_path)).labels == ("cat", "dog", "horse", "never seen")


def test_without_a_test_split_its_size_must_be_said(tmp_path):
    write(tmp_path / "train-0", [example(position, position % 2) for position in range(12)])
    assert len(load_splits(config(tmp_path, test_images=4)).test) == 4
    with pytest.raises(DataError, match="has no test split of its own"):
        load_splits(config(tmp_path))


def test_the_checksum_is_crc32c():
    # RFC 3720, appendix B.4, and the check value of every list of CRCs.
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@pytest.mark.parametrize("length", [1, 15, 16, 17, 1023, 1024, 1025, 2048, 5000])
def test_the_checksum_is_tensorflows(tmp_path, length):
    data = np.random.default_rng(length).bytes(length)
    write(tmp_path / "one", [data])
    assert (tmp_path / "one").read_bytes()[-4:] == masked_crc32c(data).to_bytes(4, "little")


def test_values_of_every_kind_are_parsed():
    numbers = [0, 1, -1, 2**63 - 1, -(2**63)]
    message = example(0, 5, n=numbers, f=[1.5], b=[b"", b"xy"])
    found = features_of(message)
    assert found["n"] == numbers
    assert found["f"] == []
    assert [message[span.start : span.stop] for span in found["b"]] == [b"", b"xy"]


def test_damaged_messages_raise_nothing_but_value_errors():
    whole = example(0, 5, text="cat")
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for place in random.integers(0, min(len(damaged), 80), 3):
            damaged[place] = random.integers(0, 256)
        try:
            features_of(bytes(damaged))
        except ValueError:
            refused += 1
    assert refused > 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image/encoded": []}, r"\(0 values of image/encoded; the features are image/class/label, image/filename"),
        ({"image/encoded": [b"a", b"b"]}, r"\(2 values of image/encoded"),
        ({"image/class/label": []}, r"\(0 values of image/class/label"),
        ({"image/class/label": [b"cat"]}, r"\(1 values of image/class/label"),
        ({"image/class/label": [1, 2]}, r"\(2 values of image/class/label"),
        ({"image/encoded": [7]}, r"\(1 values of image/encoded"),
    ],
)
def test_an_example_of_another_kind_is_named(tmp_path, changes, message):
    write(tmp_path / "train-0", [example(0, 0), example(1, 0, **changes)])
    start = len(example(0, 0)) + 16
    message = rf"train-0: record at byte {start:,}: expected a tf\.train\.Example .*{message}"
    with pytest.raises(DataError, match=message):
        load_splits(config(tmp_path, test_images=1))


def test_records_that_are_no_examples_are_named(tmp_path):
    for content in (b"not an example", b"\x0a\xff", b"\xff" * 12, b"\x0a\x02\x0a\x09"):
        write(tmp_path / "train-0", [content])
        with pytest.raises(DataError, match=r"train-0: record at byte 0: expected a tf\.train\.Example with one image"):
            load_splits(config(tmp_path, test_images=1))


def test_damaged_files_are_named_with_the_byte(tmp_path):
    path = write(tmp_path / "train-0", [example(position, 0) for position in range(12)])
    whole = path.read_bytes()
    second = len(example(0, 0)) + 16

    def damaged(content: bytes, message: str) -> None:
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"train-0: record at byte {message}"):
            load_splits(config(tmp_path, test_images=1))

    damaged(whole[: second + 5], rf"{second:,}: truncated: expected a header of 12 bytes, found 5")
    damaged(whole[:-1], r"[\d,]+: truncated: the record ends at byte .*; fetch it again")
    damaged(b"\x1f\x8b" + whole, "0: expected the length of a record .* uncompressed and whole")
    damaged(whole[:second] + b"\x01" + whole[second + 1 :], f"{second:,}: expected the length of a record")
    # Within the image of the second record: found by its checksum when the image is read.
    place = second + HEADER.size + example(1, 0).index(encoded(1)) + 100
    damaged(
        whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
        f"{second:,}: expected the data that its checksum was made of, found others",
    )


def test_an_undecodable_image_is_named(tmp_path):
    write(tmp_path / "train-0", [example(0, 0), example(1, 0, **{"image/encoded": [b"GIF89a"]})])
    index = read_index([tmp_path / "train-0"])
    assert len(index) == 2
    images = load_test_split(config(tmp_path, test_images=2)).images
    with pytest.raises(DataError, match=r"train-0: record at byte [\d,]+: expected a readable JPEG or PNG image"):
        list(images)


def test_missing_files(tmp_path):
    with pytest.raises(DataError, match=r"data\.path: .*nowhere: expected a folder of TFRecord files"):
        load_splits(config(tmp_path / "nowhere"))
    (tmp_path / "train-0").touch()
    with pytest.raises(DataError, match=r"expected files called train-\* with records, found none"):
        load_splits(config(tmp_path))
    write_dataset(tmp_path)
    (tmp_path / "train-00000-of-00002").unlink()
    with pytest.raises(DataError, match=r"expected all 2 files train-\*-of-00002, found 1; .* is number 00000"):
        load_splits(config(tmp_path))


def test_labels_and_names_that_do_not_match(tmp_path):
    write_dataset(tmp_path, first_label=1)
    (tmp_path / "labels.txt").write_text("cat\ndog\nhorse\n")
    with pytest.raises(DataError, match=r"expected 0 \(data\.first_label\) to 2 \(3 classes\), found 1 to 3; set data"):
        load_splits(config(tmp_path))
    with pytest.raises(DataError, match=r"expected 2 \(data\.first_label\) to 4 \(3 classes\), found 1 to 3"):
        load_splits(config(tmp_path, first_label=2))
    for text, message in (("cat\ncat\nhorse\n", "2 different names"), ("cat\n\nhorse\n", "an empty one among them")):
        (tmp_path / "labels.txt").write_text(text)
        with pytest.raises(DataError, match=rf"labels\.txt: expected one distinct name per class.*{message}"):
            load_splits(config(tmp_path, first_label=1))
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"labels\.txt: expected one name per line in UTF-8"):
        load_splits(config(tmp_path, first_label=1))


def test_texts_that_do_not_match(tmp_path):
    write(tmp_path / "train-0", [example(0, 0, text="cat"), example(1, 0, text="dog")])
    with pytest.raises(DataError, match="class 0 is called 'dog' here and 'cat' in a record before"):
        load_splits(config(tmp_path, test_images=1))
    write(tmp_path / "train-0", [example(0, 0, text="cat"), example(1, 2, text="dog")])
    with pytest.raises(DataError, match=r"for each label from 0 .* to 2, found none for 1, the first of them 1"):
        load_splits(config(tmp_path, test_images=1))


def test_the_key_is_for_this_dataset_only():
    with pytest.raises(ConfigError, match=r"data\.first_label: is for the tfrecord dataset, data\.name is 'digits'"):
        DataConfig(first_label=1)


def test_no_tensorflow_is_imported(tmp_path):
    write_dataset(tmp_path)
    code = (
        "import sys; from edgeship.core.config import DataConfig; from edgeship.data import load_splits, preprocess; "
        f"load_splits(DataConfig(name='tfrecord', path={os.fspath(tmp_path)!r}, channels=3, calibration_images=6)); "
        "print([m for m in ('tensorflow', 'tf_keras') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
