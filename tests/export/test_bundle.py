from __future__ import annotations

import errno
import os
from dataclasses import replace

import numpy as np
import pytest

from edgeship.core.errors import StorageError
from edgeship.data import preprocess
from edgeship.export import bundle
from edgeship.export.proof.exported import Exported, ExportedFile
from edgeship.export.proof.golden import specs_and_outputs


def test_the_golden_outputs_are_what_the_files_answer(tiny_bundle):
    with np.load(tiny_bundle / "golden.npz", allow_pickle=False) as golden:
        for name in ("int8-qat.tflite", "int8-qat.onnx"):
            content = (tiny_bundle / name).read_bytes()
            _, _, (outputs,) = specs_and_outputs(content, format=name.split(".")[1], inputs=(golden["inputs"],))
            np.testing.assert_array_equal(outputs, golden[f"expected/{name}"])


def test_a_full_disk_leaves_the_older_bundle_and_nothing_else(tiny_pipeline, tmp_path, monkeypatch):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_text("the older one")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    file = ExportedFile(
        name="float32.tflite", format="tflite", scheme="float32",
        content=(tiny_pipeline.bundle_folder / "float32.tflite").read_bytes(),
    )
    golden = (preprocess(tiny_pipeline.splits.test.images[:2], tiny_pipeline.spec),)
    file = replace(file, golden_outputs=specs_and_outputs(file.content, format="tflite", inputs=golden)[2])
    exported = Exported(files=(file,), golden_inputs=golden, quantization={})
    model = tiny_pipeline._float_model()
    source = bundle.source_of_images(
        model, weights_sha256="0", splits=tiny_pipeline.splits, spec=tiny_pipeline.spec, config=tiny_pipeline.config
    )
    with pytest.raises(StorageError, match="No space left on device"):
        bundle.write_bundle(folder, exported, model=model, source=source)
    assert (folder / "manifest.json").read_text() == "the older one"
    assert [item.name for item in tmp_path.iterdir()] == ["bundle"]
