"""The stages composed: train -> quantize -> export -> validate, each cached by the hash of what it read.

What one stage hands to the next lies in files in the output folder:

    float.keras      the trained float model
    sensitivity.json what quantizing each layer alone costs (only where it was asked for)
    quantized/       the weights and ranges of each integer scheme
    bundle/          the artifacts with manifest.json and golden.npz
    report.json      what was measured, and report.md
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import __version__
from edgeship.artifact import MANIFEST_FILE, Preprocessing
from edgeship.cache import StageCache
from edgeship.cluster import Cluster, read_cluster
from edgeship.config import Config
from edgeship.config_file import config_to_dict
from edgeship.data import (
    Images,
    Splits,
    check_calibration,
    hold_out,
    load_splits,
    preprocessing_of,
    splits_record,
)
from edgeship.errors import StorageError
from edgeship.files import sha256_of_file, write_atomically, write_json
from edgeship.measurement import REPORT_FILE, Report
from edgeship.progress import say
from edgeship.schemes import BOUNDED_SCHEMES, FAKE_QUANTIZED, SCHEMES, TRAINING

if TYPE_CHECKING:
    import tf_keras

    from edgeship.model.distribute import Workers
    from edgeship.model.shared_stage import SharedStages
    from quantize.insert import QuantizedModel
    from quantize.mixed import Choice


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

    def quantized_file(self, scheme: str) -> Path:
        """The weights and ranges of a scheme."""
        return self.out / "quantized" / f"{scheme}.npz"

    @property
    def sensitivity_file(self) -> Path:
        """What quantizing each layer alone costs."""
        return self.out / "sensitivity.json"

    @property
    def _fake_quantized(self) -> list[str]:
        return [name for name in self.config.quantize.schemes if SCHEMES[name].source == FAKE_QUANTIZED]

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
            "weights_sha256": _sha256_if_file(config.model.weights),
        }
        for key in ("path", "weights"):
            read["model"].pop(key)
        read["train"].pop("worker_timeout_seconds")  # changes no result
        self._run_shared("train", read=read, writes=[self.float_file], work=self._train, together=True)

    def quantize(self) -> None:
        """Find the integer ranges of every scheme that has them: by calibration, by training, or by measuring."""
        self._check_calibration()  # before hours of training, not after
        self.train()
        for scheme in self._fake_quantized:
            read = {
                **self._read_by_all(), "float": sha256_of_file(self.float_file),
                "quantize": {**config_to_dict(self.config.quantize), "schemes": None},
                **{key: getattr(self.config.train, key) for key in ("augmentation", "strategy")},
            }
            self._run_shared(
                f"quantize {scheme}", read=read, writes=[self.quantized_file(scheme)],
                work=functools.partial(self._quantize, scheme), together=SCHEMES[scheme].needs == TRAINING,
            )
        if not self._fake_quantized:
            say("quantize: no scheme has ranges to find")

    def sensitivity(self) -> dict[str, Any]:
        """Measure what quantizing each layer alone costs: leaves sensitivity.json, and returns it."""
        self._check_calibration()
        self.train()
        read = {
            **self._read_by_all(), "float": sha256_of_file(self.float_file),
            **{key: getattr(self.config.quantize, key) for key in ("calibration", "weight_bits")},
            "keep_float": list(self.config.quantize.keep_float),
        }
        self._run_shared(
            "sensitivity", read=read, writes=[self.sensitivity_file], work=self._sensitivity, together=False
        )
        document: dict[str, Any] = json.loads(self.sensitivity_file.read_text())
        return document

    def export(self) -> None:
        """Convert to every scheme and format, and write the bundle (of several workers, the chief does)."""
        self.quantize()
        if not self.is_chief:
            return
        if self.cluster is not None:
            say(f"{self.cluster.name}: the others are done; that TensorFlow soon takes them for crashed is expected")
        read = {
            **self._read_by_all(), "float": sha256_of_file(self.float_file),
            "quantized": {name: sha256_of_file(self.quantized_file(name)) for name in self._fake_quantized},
            "schemes": list(self.config.quantize.schemes), "keep_float": list(self.config.quantize.keep_float),
            "export": config_to_dict(self.config.export),
        }
        self.cache.run("export", read=read, writes=[self.bundle_folder / MANIFEST_FILE], work=self._export)

    def validate(self) -> None:
        """Prove the bundle: leaves report.json and report.md (of several workers, the chief does)."""
        self.export()
        if not self.is_chief:
            return
        read = {
            "version": __version__, "manifest": sha256_of_file(self.bundle_folder / MANIFEST_FILE),
            "validate": config_to_dict(self.config.validate),
        }
        writes = [self.out / REPORT_FILE, self.out / "report.md"]
        self.cache.run("validate", read=read, writes=writes, work=self._validate)

    def run(self) -> Report | None:
        """Everything; returns the report, also when it was measured by an earlier call.

        None: this worker is not the chief, whose report it is.
        """
        from validate.report import load_report

        self.validate()
        if not self.is_chief:
            return None
        if not self.cache.ran:
            say(f"nothing changed: all results are in {self.out}")
        return load_report(self.out / REPORT_FILE)

    @cached_property
    def cluster(self) -> Cluster | None:
        """The machines that train together; None: this one alone."""
        return read_cluster(self.config.train.strategy)

    @property
    def is_chief(self) -> bool:
        """Does this process write the results? Of workers that train together only the first one does."""
        return self.cluster is None or self.cluster.index == 0

    @cached_property
    def workers(self) -> Workers:
        """The processes that train together; they are waited for."""
        from edgeship.model.distribute import start_workers

        config = self.config.train
        return start_workers(config.strategy, timeout_seconds=config.worker_timeout_seconds)

    @cached_property
    def _shared(self) -> SharedStages:
        from edgeship.model.shared_stage import SharedStages

        return SharedStages(self.cache, self.workers)

    def _run_shared(
        self, stage: str, *, read: Any, writes: list[Path], work: Callable[[Path], None], together: bool
    ) -> None:
        """A stage that every worker comes to; `together`: all of them do its work."""
        if self.cluster is None:
            self.cache.run(stage, read=read, writes=writes, work=work)
        else:
            self._shared.run(stage, read=read, writes=writes, work=work, together=together)

    def _check_calibration(self) -> None:
        for sentence in self._calibration_sentences:
            say(sentence)

    @cached_property
    def _calibration_sentences(self) -> list[str]:
        return check_calibration(self.splits, spec=self.spec).sentences(self.splits.labels)

    def _held_out(self, count: int) -> tuple[Images, Images | None]:
        """(the images to train on, `count` more to choose the epoch by)."""
        return hold_out(self.splits.train, count, seed=self.config.data.seed) if count else (self.splits.train, None)

    def _read_by_all(self) -> dict[str, Any]:
        return {
            "version": __version__, "splits": self.splits_record, "spec": str(self.spec),
            "data_seed": self.config.data.seed,  # held-out slices are drawn with it
        }

    def _train(self, scratch: Path) -> None:
        from edgeship.model import build, train

        config = self.config
        with self.workers.scope():
            model = self._initial_model()
            build.check_weights(model)
            say(f"train: {model.name}, {model.count_params():,} parameters, {config.train.epochs} epochs")
            if config.train.epochs:
                images, validation = self._held_out(config.train.validation_images)
                train.fit(
                    model, images, spec=self.spec, label="float training", checkpoints=scratch, validation=validation,
                    schedule=train.Schedule(
                        epochs=config.train.epochs, batch_size=config.train.batch_size,
                        learning_rate=config.train.learning_rate, weight_decay=config.train.weight_decay,
                        warmup_epochs=config.train.warmup_epochs, augmentation=config.train.augmentation,
                        seed=config.train.seed,
                    ),
                )
            build.check_weights(model)
            build.check_probabilities(model, self.splits.test, spec=self.spec)
            top1 = train.accuracy(model, self.splits.test, spec=self.spec)
            say(f"train: float top-1 {top1:.2%} on the test split")
            _save_model(model, self.float_file, keep=self.is_chief)

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

    def _quantize(self, scheme: str, scratch: Path) -> None:
        from edgeship.model import train
        from quantize import qat
        from quantize.lower import lower
        from quantize.state import state_bytes

        model, quantize = self._float_model(), self.config.quantize
        keep_float, notes = quantize.keep_float, {}
        flat = lower(model)  # traced before the workers' scope, whose variables cannot be watched
        if scheme in BOUNDED_SCHEMES:
            choice = self._choose_float_layers(model, flat)
            keep_float, notes = (*keep_float, *choice.kept), choice.record
            say(f"quantize: {scheme}: {choice.sentence}")
        with self.workers.scope() if SCHEMES[scheme].needs == TRAINING else contextlib.nullcontext():
            quantized = self._prepare(flat, keep_float)
            say(f"quantize: {scheme}: {quantized.account.sentence}")
            if SCHEMES[scheme].needs == TRAINING:
                images, validation = self._held_out(quantize.validation_images)
                qat.train(
                    quantized, calibration=self.splits.calibration, images=images, spec=self.spec, config=quantize,
                    augmentation=self.config.train.augmentation, teacher=self._float_model(), checkpoints=scratch,
                    validation=validation,
                )
            else:
                self._calibrate(quantized, SCHEMES[scheme].ranges)
            top1 = train.accuracy(quantized.model, self.splits.test, spec=self.spec)
            say(f"quantize: {scheme}: fake-quantized top-1 {top1:.2%} on the test split")
            state = state_bytes(quantized, keep_float=keep_float, notes=notes)
        if self.is_chief:
            write_atomically(self.quantized_file(scheme), state)

    def _prepare(self, flat: tf_keras.Model, keep_float: tuple[str, ...]) -> QuantizedModel:
        from quantize import qat

        return qat.prepare(flat, spec=self.spec, config=self.config.quantize, keep_float=keep_float)

    def _calibrate(self, quantized: QuantizedModel, ranges: str | None) -> None:
        from quantize import qat

        method = ranges or self.config.quantize.calibration
        qat.seed_ranges(quantized, self.splits.calibration, spec=self.spec, method=method)
        qat.finish(quantized)

    def _choose_float_layers(self, model: tf_keras.Model, flat: tf_keras.Model) -> Choice:
        from edgeship.model import train
        from quantize.mixed import choose_float_layers

        config, calibration = self.config.quantize, self.splits.calibration

        def top1_with(kept: tuple[str, ...]) -> float:
            candidate = self._prepare(flat, (*config.keep_float, *kept))
            self._calibrate(candidate, None)
            return train.accuracy(candidate.model, calibration, spec=self.spec)

        ranked = [row["layer"] for row in self.sensitivity()["layers"] if row["has_weights"]]
        assert config.max_accuracy_drop is not None  # the configuration saw to it
        return choose_float_layers(
            ranked, top1_with, images=len(calibration), max_accuracy_drop=config.max_accuracy_drop,
            float_top1=train.accuracy(model, calibration, spec=self.spec),
        )

    def _sensitivity(self, scratch: Path) -> None:
        from quantize.lower import lower
        from quantize.sensitivity import measure

        quantized = self._prepare(lower(self._float_model()), self.config.quantize.keep_float)
        self._calibrate(quantized, None)
        costs = measure(quantized, self.splits.calibration, spec=self.spec)
        write_json(self.sensitivity_file, {
            "schema": 1, "calibration": self.config.quantize.calibration, "images": len(self.splits.calibration),
            "layers": [dataclasses.asdict(cost) for cost in costs],
        })

    def _export(self, scratch: Path) -> None:
        from edgeship.model import build
        from export.bundle import write_bundle
        from export.files import export_files
        from quantize.insert import kept_layers, weighted_layers
        from quantize.lower import lower
        from quantize.state import load_state, restore

        model = self._float_model()
        flat = lower(model)
        kept = kept_layers(flat, self.config.quantize.keep_float)
        weighted = set(weighted_layers(flat))
        kernels = tuple(layer.name for layer in flat.layers if layer.name in weighted)
        models, kept_float, expected = {}, {}, {}
        for scheme in self.config.quantize.schemes:
            models[scheme], kept_float[scheme], expected[scheme] = flat, kept, kernels
            if scheme not in self._fake_quantized:
                continue
            state = load_state(self.quantized_file(scheme))
            quantized = restore(state, functools.partial(self._prepare, flat))
            models[scheme], kept_float[scheme] = quantized.model, quantized.account.kept_float
            expected[scheme] = quantized.account.expected
        exported = export_files(
            models=models, kept_float=kept_float, expected_weights=expected, splits=self.splits, spec=self.spec,
            config=self.config,
        )
        write_bundle(
            self.bundle_folder, exported, model=model, weights_sha256=build.weights_sha256(model),
            splits=self.splits, spec=self.spec, config=self.config,
        )

    def _validate(self, scratch: Path) -> None:
        from validate.bundle import load_bundle
        from validate.report import write_report
        from validate.run import validate_bundle

        report = validate_bundle(load_bundle(self.bundle_folder), self.splits.test, self.config.validate)
        write_report(report, self.out)


def _save_model(model: tf_keras.Model, path: Path, *, keep: bool) -> None:
    """Save under a temporary name, then rename; without `keep` only what workers do together is done.

    (Reading what replicas keep for themselves takes all workers.)
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp.keras")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(temporary)
        if keep:
            temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: the model could not be saved ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sha256_if_file(path: str | None) -> str | None:
    """None also for a file that is missing: the stage itself says so."""
    return sha256_of_file(Path(path)) if path is not None and Path(path).is_file() else None
