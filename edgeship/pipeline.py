"""The stages composed: train -> quantize -> export -> validate, each cached by the hash of what it read.

What one stage hands to the next lies in files in the output folder:

    float.keras      the trained float model
    qat.npz          the weights and ranges of the quantization-aware trained model
    bundle/          the artifacts with manifest.json and golden.npz
    report.json      what was measured, and report.md
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeship import __version__
from edgeship.artifact import MANIFEST_FILE, Preprocessing
from edgeship.cache import StageCache
from edgeship.config import Config, config_to_dict
from edgeship.data import Splits, load_splits, preprocessing_of, require_calibration, splits_record
from edgeship.errors import StorageError
from edgeship.files import sha256_of_file, write_atomically
from edgeship.measurement import REPORT_FILE, Report
from edgeship.progress import say

if TYPE_CHECKING:
    import tf_keras


@dataclass
class Pipeline:
    """One configuration and the folder its results go to. TensorFlow is imported by the stages that need it."""

    config: Config
    out: Path
    module_folder: Path | None = None  # modules beside the configuration file are importable
    cache: StageCache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = StageCache(self.out)
        if self.module_folder is not None and str(self.module_folder) not in sys.path:
            sys.path.insert(0, str(self.module_folder))

    @property
    def float_file(self) -> Path:
        """The trained float model."""
        return self.out / "float.keras"

    @property
    def qat_file(self) -> Path:
        """The quantization-aware trained weights."""
        return self.out / "qat.npz"

    @property
    def bundle_folder(self) -> Path:
        """The bundle."""
        return self.out / "bundle"

    @cached_property
    def splits(self) -> Splits:
        """The images; disjoint by construction and checked."""
        splits = load_splits(self.config.data)
        say(
            f"data: {self.config.data.name}, {len(splits.train.labels):,} training, "
            f"{len(splits.calibration.labels):,} calibration, {len(splits.test.labels):,} test images"
            + (f", {splits.removed_duplicates} duplicates removed" if splits.removed_duplicates else "")
        )
        return splits

    @cached_property
    def splits_record(self) -> dict[str, dict[str, Any]]:
        """Sizes and hashes of the splits."""
        return splits_record(self.splits)

    @cached_property
    def spec(self) -> Preprocessing:
        """How images become model inputs."""
        return preprocessing_of(self.config.data)

    def train(self) -> None:
        """Train the float model."""
        config = self.config
        read = {
            **self._read_by_all(), "model": config_to_dict(config.model), "train": config_to_dict(config.train),
            "path_sha256": _sha256_if_file(config.model.path),
        }
        read["model"].pop("path")
        self.cache.run("train", read=read, writes=[self.float_file], work=self._train)

    def quantize(self) -> None:
        """Quantization-aware training (nothing to do for the other schemes: they calibrate in the export)."""
        require_calibration(self.splits)  # before hours of training, not after
        self.train()
        if "int8-qat" not in self.config.quantize.schemes:
            say("quantize: no scheme needs training")
            return
        read = {
            **self._read_by_all(), "float": sha256_of_file(self.float_file),
            "quantize": {**config_to_dict(self.config.quantize), "schemes": None},
            "augmentation": self.config.train.augmentation,
        }
        self.cache.run("quantize", read=read, writes=[self.qat_file], work=self._quantize)

    def export(self) -> None:
        """Convert to every scheme and format, and write the bundle."""
        self.quantize()
        qat = "int8-qat" in self.config.quantize.schemes
        read = {
            **self._read_by_all(), "float": sha256_of_file(self.float_file),
            "qat": sha256_of_file(self.qat_file) if qat else None,
            "schemes": list(self.config.quantize.schemes), "export": config_to_dict(self.config.export),
        }
        self.cache.run("export", read=read, writes=[self.bundle_folder / MANIFEST_FILE], work=self._export)

    def validate(self) -> None:
        """Prove the bundle: leaves report.json and report.md."""
        self.export()
        read = {
            "version": __version__, "manifest": sha256_of_file(self.bundle_folder / MANIFEST_FILE),
            "validate": config_to_dict(self.config.validate),
        }
        writes = [self.out / REPORT_FILE, self.out / "report.md"]
        self.cache.run("validate", read=read, writes=writes, work=self._validate)

    def run(self) -> Report:
        """Everything; returns the report, also when it was measured by an earlier call."""
        from validate.report import load_report

        self.validate()
        if not self.cache.ran:
            say(f"nothing changed: all results are in {self.out}")
        return load_report(self.out / REPORT_FILE)

    def _read_by_all(self) -> dict[str, Any]:
        return {"version": __version__, "splits": self.splits_record, "spec": str(self.spec)}

    def _train(self, scratch: Path) -> None:
        from edgeship.model import build, train

        config = self.config
        model = self._initial_model()
        build.check_weights(model)
        say(f"train: {model.name}, {model.count_params():,} parameters, {config.train.epochs} epochs")
        if config.train.epochs:
            train.fit(
                model, self.splits.train, spec=self.spec, label="float training", checkpoints=scratch,
                schedule=train.Schedule(
                    epochs=config.train.epochs, batch_size=config.train.batch_size,
                    learning_rate=config.train.learning_rate, weight_decay=config.train.weight_decay,
                    warmup_epochs=config.train.warmup_epochs, augmentation=config.train.augmentation,
                    seed=config.train.seed,
                ),
            )
        build.check_weights(model)
        build.check_probabilities(model, self.splits.test, spec=self.spec)
        say(f"train: float top-1 {train.accuracy(model, self.splits.test, spec=self.spec):.2%} on the test split")
        _save_model(model, self.float_file)

    def _initial_model(self) -> tf_keras.Model:
        import tf_keras

        from edgeship.model import build

        tf_keras.utils.set_random_seed(self.config.train.seed)
        size, channels = self.config.data.image_size, self.config.data.channels
        classes = self.config.model.classes or len(self.splits.labels)
        return build.build_model(self.config.model, input_shape=(size, size, channels), classes=classes)

    def _float_model(self) -> tf_keras.Model:
        from edgeship.model import build

        build.import_custom_objects(self.config.model.custom_objects)
        model = build.load_model(self.float_file)
        build.check_weights(model)
        build.check_probabilities(model, self.splits.test, spec=self.spec)
        return model

    def _quantize(self, scratch: Path) -> None:
        from edgeship.model import train
        from quantize import qat
        from quantize.lower import lower

        model = self._float_model()
        flat = lower(model)
        say(f"quantize: lowered to {len(flat.layers)} standard layers")
        quantized = qat.prepare(flat, spec=self.spec, ema_decay=self.config.quantize.ema_decay)
        qat.train(
            quantized, calibration=self.splits.calibration, images=self.splits.train, spec=self.spec,
            config=self.config.quantize, augmentation=self.config.train.augmentation, teacher=model,
            checkpoints=scratch,
        )
        top1 = train.accuracy(quantized.model, self.splits.test, spec=self.spec)
        say(f"quantize: fake-quantized top-1 {top1:.2%} on the test split")
        stream = io.BytesIO()
        np.savez(stream, *quantized.model.get_weights())
        write_atomically(self.qat_file, stream.getvalue())

    def _export(self, scratch: Path) -> None:
        from edgeship.model import build
        from export.bundle import export_files, write_bundle
        from quantize import qat
        from quantize.lower import lower

        model = self._float_model()
        flat, quantized = lower(model), None
        if "int8-qat" in self.config.quantize.schemes:
            prepared = qat.prepare(flat, spec=self.spec, ema_decay=self.config.quantize.ema_decay)
            with np.load(self.qat_file, allow_pickle=False) as arrays:
                prepared.model.set_weights([arrays[name] for name in arrays.files])
            qat.finish(prepared)
            quantized = prepared.model
        files = export_files(
            flat=flat, quantized=quantized, splits=self.splits, spec=self.spec, config=self.config
        )
        write_bundle(
            self.bundle_folder, files, model=model, weights_sha256=build.weights_sha256(model),
            splits=self.splits, spec=self.spec, config=self.config,
        )

    def _validate(self, scratch: Path) -> None:
        from validate.bundle import load_bundle
        from validate.report import write_report
        from validate.run import validate_bundle

        report = validate_bundle(load_bundle(self.bundle_folder), self.splits.test, self.config.validate)
        write_report(report, self.out)


def _save_model(model: tf_keras.Model, path: Path) -> None:
    """Save under a temporary name, then rename."""
    temporary = path.with_name(f".{path.stem}.tmp.keras")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(temporary)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: the model could not be saved ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sha256_if_file(path: str | None) -> str | None:
    """None also for a file that is missing: the stage itself says so."""
    return sha256_of_file(Path(path)) if path is not None and Path(path).is_file() else None
