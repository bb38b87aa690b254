"""The stages composed: train -> quantize -> export -> validate, each cached by the hash of what it read.

What one stage hands to the next lies in files in the output folder (results.py); the last leaves report.json and
report.md.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.app.pipeline import about
from edgeship.app.pipeline.cache import StageCache
from edgeship.app.pipeline.model_key import model_key
from edgeship.app.pipeline.output_record import form_for_graphs, output_stage
from edgeship.app.pipeline.results import Results
from edgeship.app.pipeline.source_key import named_modules, put_first
from edgeship.app.pipeline.stage import Stage
from edgeship.core.artifact import MANIFEST_FILE, Preprocessing
from edgeship.core.cluster import Cluster, read_cluster
from edgeship.core.config import Config
from edgeship.core.config_file import config_to_dict
from edgeship.core.files import sha256_of_file
from edgeship.core.measurement import REPORT_FILE, Report
from edgeship.core.progress import fact, say, stage
from edgeship.core.schemes import SCHEMES, TRAINING
from edgeship.core.version import __version__
from edgeship.data import (
    CalibrationSplit,
    Splits,
    check_calibration,
    load_splits,
    preprocessed_batches,
    preprocessing_of,
    splits_record,
)

if TYPE_CHECKING:
    import tf_keras

    from edgeship.app.pipeline.float_stage import FloatStage
    from edgeship.app.pipeline.quantize_stage import QuantizeStage
    from edgeship.app.pipeline.shared_stage import SharedStages
    from edgeship.model.distribute import Workers

OUTPUT_BATCH = 64  # calibration images whose float answers are looked at together


@dataclass
class Pipeline(Results):
    """One configuration and the folder its results go to. TensorFlow is imported by the stages that need it."""

    config: Config
    out: Path
    module_folder: Path | None = None  # modules beside the configuration file are importable
    cache: StageCache = field(init=False)
    _calibration: CalibrationSplit | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.cache = StageCache(self.out)
        if self.module_folder is not None:
            put_first(self.module_folder)

    @cached_property
    def splits(self) -> Splits:
        """The images; disjoint by construction and checked."""
        splits = load_splits(self.config.data)
        for line in about.pictures(splits, self.spec):
            fact(line)
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
        """Train the float model; what could be refused afterwards is refused before. Leaves the lowered network."""
        self._check_calibration()
        stage = self._train_stage()
        # Workers come to the same stages in the same order, whatever each of them finds done. Where no epoch is
        # trained, the very stages that the preflight tries follow at once.
        may_train = self.cluster is not None or not self.cache.is_done(stage)
        if may_train and self.config.train.epochs:
            self._run(self._preflight_stage(stage))
        self._run(stage)

    def quantize(self) -> None:
        """Find the integer ranges of every scheme that has them: by calibration, by training, or by measuring."""
        self.train()
        self._run(self._output_stage())
        for scheme in self.fake_quantized:
            self._run(self._quantize_stage(scheme))
        if not self.fake_quantized:
            say("quantize: no scheme has ranges to find")

    def sensitivity(self) -> dict[str, Any]:
        """Measure what quantizing each layer alone costs: leaves sensitivity.json, and returns it."""
        self.train()
        self._run(self._output_stage())
        self._run(self._sensitivity_stage())
        document: dict[str, Any] = json.loads(self.sensitivity_file.read_text())
        return document

    def export(self) -> None:
        """Convert to every scheme and format, and write the bundle (of several workers, the chief does)."""
        self.quantize()
        if not self.is_chief:
            return
        if self.cluster is not None:
            say(f"{self.cluster.name}: the others are done; that TensorFlow soon takes them for crashed is expected")
        self.cache.run(self._export_stage())

    def validate(self) -> None:
        """Prove the bundle: leaves report.json and report.md (of several workers, the chief does)."""
        self.export()
        if self.is_chief:
            self.cache.run(self._validate_stage())

    def run(self) -> Report | None:
        """Everything; returns the report, also when it was measured by an earlier call.

        None: this worker is not the chief, whose report it is.
        """
        from edgeship.validate.report.report import load_report

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
        from edgeship.app.pipeline.shared_stage import SharedStages

        return SharedStages(self.cache, self.workers)

    def _run(self, stage: Stage) -> None:
        """Run a stage that every worker comes to."""
        if self.cluster is None:
            self.cache.run(stage)
        else:
            self._shared.run(stage)

    def _check_calibration(self) -> None:
        if self._calibration is None:
            with stage("data", self.config.data.name):
                self._calibration = check_calibration(self.splits, spec=self.spec)
                for sentence in self._calibration.sentences(self.splits.labels):
                    fact(sentence)

    # --- one row per stage ----------------------------------------------------------------------------------------

    def _read_by_all(self) -> dict[str, Any]:
        return {
            "version": __version__, "splits": self.splits_record, "spec": str(self.spec),
            "data_seed": self.config.data.seed,  # held-out slices are drawn with it
        }

    def _train_stage(self) -> Stage:
        read = {**self._read_by_all(), **model_key(self.config)}
        # A file that may run its code can name functions of the user's modules.
        if named_modules(self.config.model) or self.config.model.trust_code:
            read["made"] = self._float.made
        return Stage(
            name="train", about=about.training(self.config), read=read, writes=(self.float_file,), together=True,
            work=lambda scratch: self._float.train(scratch, self.float_file, is_chief=self.is_chief),
        )

    def _preflight_stage(self, train: Stage) -> Stage:
        """Return the check before a training: not repeated where it passed right before, when a training goes on."""
        read = {
            **train.read, "quantize": config_to_dict(self.config.quantize),
            "export": config_to_dict(self.config.export),
        }
        return Stage(name="preflight", about=about.PREFLIGHT, read=read, work=self._preflight)

    def _output_stage(self) -> Stage:
        return output_stage(
            self._read_by_all(), config=self.config, float_file=self.float_file, output_file=self.output_file,
            choose=self._choose_output,
        )

    def _quantize_stage(self, scheme: str) -> Stage:
        read = {
            **self._read_by_all(), "float": sha256_of_file(self.float_file), "output": self.output_form,
            "quantize": {**config_to_dict(self.config.quantize), "schemes": None},
            **{key: getattr(self.config.train, key) for key in ("augmentation", "strategy")},
        }
        return Stage(
            name=f"quantize {scheme}", about=about.ranges(self.config, scheme), read=read,
            writes=(self.quantized_file(scheme),), work=functools.partial(self._quantize, scheme),
            together=SCHEMES[scheme].needs == TRAINING,
        )

    def _sensitivity_stage(self) -> Stage:
        read = {
            **self._read_by_all(), "float": sha256_of_file(self.float_file),
            **{
                key: getattr(self.config.quantize, key)
                for key in ("calibration", "weight_bits", "weight_range", "weight_scales")
            },
            "output": self.output_form,
            "keep_float": list(self.config.quantize.keep_float),
        }
        return Stage(
            name="sensitivity", about=about.SENSITIVITY, read=read, writes=(self.sensitivity_file,),
            work=lambda _: self._integers.sensitivity(self.sensitivity_file),
        )

    def _export_stage(self) -> Stage:
        read = {
            **self._read_by_all(), "float": sha256_of_file(self.float_file),
            "quantized": {name: sha256_of_file(self.quantized_file(name)) for name in self.fake_quantized},
            "schemes": list(self.config.quantize.schemes), "keep_float": list(self.config.quantize.keep_float),
            "export": config_to_dict(self.config.export), "output": self.output_form,
        }
        return Stage(
            name="export", about=about.files(self.config), read=read, writes=(self.bundle_folder / MANIFEST_FILE,),
            work=self._export,
        )

    def _validate_stage(self) -> Stage:
        read = {
            "version": __version__, "manifest": sha256_of_file(self.bundle_folder / MANIFEST_FILE),
            "validate": config_to_dict(self.config.validate),
        }
        writes = (self.out / REPORT_FILE, self.out / "report.md")
        return Stage(
            name="validate", about=about.measurements(self.config.validate.targets), read=read, writes=writes,
            work=self._validate, with_keras=False,
        )

    # --- the work of each -----------------------------------------------------------------------------------------

    @cached_property
    def _float(self) -> FloatStage:
        import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back
        from edgeship.app.pipeline.float_stage import FloatStage

        return FloatStage(self.config, self.splits, self.spec, self.workers, self.module_folder)

    @cached_property
    def _integers(self) -> QuantizeStage:
        from edgeship.app.pipeline.quantize_stage import QuantizeStage

        return QuantizeStage(self.config, self.splits, self.spec, self.workers, self._float_model, self.output_form)

    def _choose_output(self) -> None:
        from edgeship.app.pipeline.output_stage import choose_output

        choose_output(
            self._float_model(), lambda: preprocessed_batches(self.splits.calibration, self.spec, size=OUTPUT_BATCH),
            asked=self.config.export.output, schemes=self.config.quantize.schemes, path=self.output_file,
        )

    def _float_model(self) -> tf_keras.Model:
        """The trained network, lowered: a fresh one with every call."""
        from edgeship.app.pipeline import lowered
        from edgeship.model import build

        flat = lowered.load(self.float_file)
        build.check_probabilities(flat, self.splits.test, spec=self.spec)
        return flat

    def _preflight(self, scratch: Path) -> None:
        from edgeship.app.pipeline.preflight import Preflight

        preflight = Preflight(
            config=self.config, splits=self.splits, spec=self.spec,
            tries_export=bool(self.config.model.factory or self.config.model.path),
        )
        fact(preflight.check(self._float.initial, self._float.initial_flat))

    def _quantize(self, scheme: str, scratch: Path) -> None:
        self._integers.quantize(
            scheme, scratch, self.quantized_file(scheme), is_chief=self.is_chief, sensitivity=self.sensitivity
        )

    def _export(self, scratch: Path) -> None:
        from edgeship.app.pipeline.export_stage import export_schemes
        from edgeship.export.bundle import source_of_images, write_bundle
        from edgeship.model import build
        from edgeship.quantize.output_form import float_form
        from edgeship.quantize.state import load_state, restore

        flat = self._float_model()
        quantized = {
            scheme: restore(load_state(self.quantized_file(scheme)), functools.partial(self._integers.prepare, flat))
            for scheme in self.fake_quantized
        }
        output = self.output_form
        exported = export_schemes(
            flat, quantized, splits=self.splits, spec=self.spec, config=self.config, output=output
        )
        answers = float_form(flat, form_for_graphs(output))
        source = source_of_images(
            answers, weights_sha256=build.weights_sha256(flat), splits=self.splits, spec=self.spec, config=self.config,
            output=output,
        )
        write_bundle(self.bundle_folder, exported, model=answers, source=source)

    def _validate(self, scratch: Path) -> None:
        from edgeship.data.examples import examples_of_images
        from edgeship.validate.compare.run import checked_out_commit
        from edgeship.validate.report.html.pictures import pictures_of
        from edgeship.validate.report.model_card import write_model_card
        from edgeship.validate.report.report import write_report
        from edgeship.validate.run import validate_bundle
        from edgeship.validate.subject.bundle import load_bundle

        bundle = load_bundle(self.bundle_folder)
        report = validate_bundle(bundle, self.splits.test, self.config.validate)
        write_report(report, self.out, pictures_of(report, examples_of_images(self.splits.test, self.spec), self.spec))
        write_model_card(bundle.manifest, report, bundle.folder, commit=checked_out_commit())
