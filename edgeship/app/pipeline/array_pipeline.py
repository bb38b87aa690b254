"""The stages for data that are arrays: any model, any task. train -> quantize -> export -> validate, each cached.

The files are those of the pipeline for images (pipeline.py). What differs: inputs are taken as they are, the float
model is trained by a Keras loss (or not at all), quantization-aware training needs no labels, and a metric scores the
answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeship.api.bundle import metric_named
from edgeship.app.pipeline import about
from edgeship.app.pipeline.cache import StageCache
from edgeship.app.pipeline.metric_trial import try_metric
from edgeship.app.pipeline.model_key import model_key
from edgeship.app.pipeline.output_record import form_for_graphs, output_stage
from edgeship.app.pipeline.results import Results
from edgeship.app.pipeline.source_key import forget_edited_modules, named_modules, put_first, source_key
from edgeship.app.pipeline.stage import Stage
from edgeship.core.artifact import MANIFEST_FILE
from edgeship.core.config import Config
from edgeship.core.config_file import config_to_dict
from edgeship.core.errors import ConfigError, DataError
from edgeship.core.files import sha256_of_file, sha256_of_json
from edgeship.core.measurement import REPORT_FILE, Report
from edgeship.core.progress import fact, say, stage
from edgeship.core.schemes import BOUNDED_SCHEMES
from edgeship.core.version import __version__
from edgeship.data.array_source import ArraySplits, load_arrays

if TYPE_CHECKING:
    import tf_keras

    from edgeship.app.pipeline.array_integers import ArrayIntegers
    from edgeship.quantize.insert import QuantizedModel


@dataclass
class ArrayPipeline(Results):
    """One configuration of arrays and the folder its results go to."""

    config: Config
    out: Path
    module_folder: Path | None = None  # modules beside the configuration file are importable
    cache: StageCache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = StageCache(self.out)
        if self.module_folder is not None:
            put_first(self.module_folder)
        forget_edited_modules(self._modules, self.module_folder)
        metric_named(self.config.validate.metric)  # a name that is wrong is told before the training, not after it
        for scheme in self.config.quantize.schemes:
            if scheme in BOUNDED_SCHEMES:
                raise ConfigError(f"quantize.schemes: {scheme} is measured on labelled images, and the data are arrays")
        if self.config.train.strategy != "none":
            raise ConfigError("train.strategy: several replicas train on images only; leave it out for arrays")

    def train(self) -> None:
        """Train the float model, or take it as it is; leaves the lowered network."""
        self.cache.run(self._train_stage())

    def quantize(self) -> None:
        """Find the integer ranges of every scheme that has them."""
        self.train()
        self.cache.run(self._output_stage())
        for scheme in self.fake_quantized:
            self.cache.run(self._quantize_stage(scheme))

    def export(self) -> None:
        """Convert to every scheme and format, and write the bundle."""
        self.quantize()
        self.cache.run(self._export_stage())

    def validate(self) -> None:
        """Prove the bundle: leaves report.json and report.md."""
        self.export()
        self.cache.run(self._validate_stage())

    def run(self) -> Report:
        """Everything; returns the report, also when it was measured by an earlier call."""
        from edgeship.validate.report.report import load_report

        self.validate()
        if not self.cache.ran:
            say(f"nothing changed: all results are in {self.out}")
        return load_report(self.out / REPORT_FILE)

    def sensitivity(self) -> dict[str, Any]:
        """Refuse: sensitivities are measured by the classes of images. Raises ConfigError."""
        raise ConfigError("sensitivity: is measured by the classes of labelled images, and the data are arrays")

    # --- one row per stage ----------------------------------------------------------------------------------------

    def _train_stage(self) -> Stage:
        read = {
            **self._read_by_all(), **model_key(self.config), "metric": self.config.validate.metric,
            "weights": self._initial_sha256,
        }
        return Stage(
            name="train", about=about.training(self.config), read=read, writes=(self.float_file,), work=self._train
        )

    def _output_stage(self) -> Stage:
        return output_stage(
            self._read_by_all(), config=self.config, float_file=self.float_file, output_file=self.output_file,
            choose=self._choose_output,
        )

    def _quantize_stage(self, scheme: str) -> Stage:
        read = {
            **self._read_by_all(), "float": sha256_of_file(self.float_file), "output": self.output_form,
            "quantize": {**config_to_dict(self.config.quantize), "schemes": None},
        }
        return Stage(
            name=f"quantize {scheme}", about=about.ranges(self.config, scheme), read=read,
            writes=(self.quantized_file(scheme),), work=functools.partial(self._quantize, scheme),
        )

    def _export_stage(self) -> Stage:
        read = {
            **self._read_by_all(), "float": sha256_of_file(self.float_file),
            "quantized": {name: sha256_of_file(self.quantized_file(name)) for name in self.fake_quantized},
            "schemes": list(self.config.quantize.schemes), "keep_float": list(self.config.quantize.keep_float),
            "export": config_to_dict(self.config.export), "metric": self.config.validate.metric,
            "output": self.output_form,
        }
        return Stage(
            name="export", about=about.files(self.config), read=read, writes=(self.bundle_folder / MANIFEST_FILE,),
            work=self._export,
        )

    def _validate_stage(self) -> Stage:
        read = {
            **self._read_by_all(), "manifest": sha256_of_file(self.bundle_folder / MANIFEST_FILE),
            "validate": config_to_dict(self.config.validate),
        }
        writes = (self.out / REPORT_FILE, self.out / "report.md")
        return Stage(
            name="validate", about=about.measurements(self.config.validate.targets), read=read, writes=writes,
            work=self._validate, with_keras=False,
        )

    def _read_by_all(self) -> dict[str, Any]:
        return {
            "version": __version__, "splits": self._record, "source": source_key(self._modules, self.module_folder),
        }

    # --- the work of each -----------------------------------------------------------------------------------------

    @property
    def _modules(self) -> tuple[str, ...]:
        return named_modules(self.config.model, self.config.data.factory, self.config.validate.metric)

    @cached_property
    def _initial(self) -> tf_keras.Model:
        from edgeship.model import build  # first, since it holds TensorFlow's notices back

        # isort: split
        import tf_keras

        tf_keras.utils.set_random_seed(self.config.train.seed)
        model = build.build_for_arrays(self.config.model)
        build.check_weights(model)
        return model

    @cached_property
    def _initial_sha256(self) -> str:
        from edgeship.model.build import weights_sha256

        return weights_sha256(self._initial)

    @cached_property
    def _splits(self) -> ArraySplits:
        from edgeship.api.quantize_model import ports_of

        with stage("data", str(self.config.data.factory or self.config.data.path)):
            splits = load_arrays(self.config.data, ports_of(self._initial))
            trained = "no" if splits.train is None else f"{len(splits.train):,}"
            fact(
                f"{trained} training, {len(splits.calibration):,} calibration, {len(splits.test):,} test examples"
            )
        return splits

    @cached_property
    def _record(self) -> dict[str, dict[str, Any]]:
        return self._splits.record()

    def _train(self, scratch: Path) -> None:
        from edgeship.app.pipeline import lowered
        from edgeship.app.pipeline.array_integers import ArrayIntegers, calibration_batches
        from edgeship.model import build
        from edgeship.model.first_values import lost_in_rounding, squeezed

        config, model = self.config.train, self._initial
        fact(f"{model.name}, {model.count_params():,} parameters")
        if config.epochs:
            if self._splits.train is None:
                raise DataError("train.epochs: expected a part \"train\" of the data to train on; bring it, or set 0")
            from edgeship.model.fit_arrays import fit_arrays
            from edgeship.quantize.output_form import check_form

            untrained = lowered.lowered(model, self._splits.test)
            check_form(self.config.export.output, untrained)
            try_metric(untrained, self._splits.test, metric=metric_named(self.config.validate.metric))
            if self.fake_quantized:  # what integers cannot compute is refused before the training, not after it
                ArrayIntegers(self.config.quantize, self._splits, None).prepare(
                    untrained, self.config.quantize.keep_float
                )
            fit_arrays(model, self._splits.train, config=config, metric=self.config.validate.metric)
            build.check_weights(model)
        flat = lowered.lowered(model, self._splits.test)
        if not config.epochs:
            try_metric(flat, self._splits.test, metric=metric_named(self.config.validate.metric))
        few = next(calibration_batches(self._splits))
        if isinstance(few, np.ndarray) and (found := squeezed(flat, few)) is not None:
            say(f"train: warning: {found}; was the model trained on inputs of another scale?")
        lost = lost_in_rounding(flat, few) if isinstance(few, np.ndarray) and self.fake_quantized else None
        if lost is not None:
            say(f"train: warning: {lost}")
        lowered.save(flat, self.float_file, self._splits.test)

    def _choose_output(self) -> None:
        from edgeship.app.pipeline import lowered
        from edgeship.app.pipeline.array_integers import calibration_batches
        from edgeship.app.pipeline.output_stage import choose_output

        choose_output(
            lowered.load(self.float_file), lambda: calibration_batches(self._splits), asked=self.config.export.output,
            schemes=self.config.quantize.schemes, path=self.output_file,
        )

    @property
    def _integers(self) -> ArrayIntegers:
        from edgeship.app.pipeline.array_integers import ArrayIntegers

        return ArrayIntegers(self.config.quantize, self._splits, self.output_form)

    def _quantize(self, scheme: str, scratch: Path) -> None:
        from edgeship.app.pipeline import lowered

        self._integers.quantize(lowered.load(self.float_file), scheme, self.quantized_file(scheme))

    def _export(self, scratch: Path) -> None:
        from edgeship.app.pipeline import lowered
        from edgeship.app.pipeline.export_stage import output_meanings, prepared_schemes
        from edgeship.export.bundle import Source, write_bundle
        from edgeship.export.files import export_files
        from edgeship.export.proof.golden import float_outputs
        from edgeship.export.samples import Samples, noise_between
        from edgeship.model.build import weights_sha256
        from edgeship.quantize.output_form import float_form
        from edgeship.quantize.prepare import CALIBRATION_BATCH
        from edgeship.quantize.state import load_state, restore

        flat, splits = lowered.load(self.float_file), self._splits
        make: Callable[[tuple[str, ...]], QuantizedModel] = functools.partial(self._integers.prepare, flat)
        quantized = {name: restore(load_state(self.quantized_file(name)), make) for name in self.fake_quantized}
        golden = splits.test.first(self.config.export.golden_images)
        inputs = golden.read(np.arange(len(golden)))
        samples = Samples(
            calibration=lambda: splits.calibration.batches(CALIBRATION_BATCH), golden=inputs,
            noise=tuple(noise_between(array, (float(array.min()), float(array.max()))) for array in inputs),
        )
        output = self.output_form
        prepared = prepared_schemes(flat, quantized, config=self.config, output=output)
        exported = export_files(
            prepared, samples=samples, config=self.config, meanings=output_meanings(flat, output)
        )
        answers = float_form(flat, form_for_graphs(output))
        source = Source(
            config_sha256=sha256_of_json(config_to_dict(self.config.quantize)), weights_sha256=weights_sha256(flat),
            data={}, splits=self._record, preprocessing=None, labels=(), metric=self.config.validate.metric,
            float_outputs=float_outputs(answers, golden, label="float Keras on the golden examples"), output=output,
        )
        write_bundle(self.bundle_folder, exported, model=answers, source=source)

    def _validate(self, scratch: Path) -> None:
        from edgeship.validate.compare.run import checked_out_commit
        from edgeship.validate.report.html.pictures import pictures_of
        from edgeship.validate.report.model_card import write_model_card
        from edgeship.validate.report.report import write_report
        from edgeship.validate.run import validate_examples
        from edgeship.validate.subject.bundle import load_bundle

        test = self._splits.test
        bundle = load_bundle(self.bundle_folder)
        report = validate_examples(
            bundle, test, self.config.validate, metric=metric_named(self.config.validate.metric)
        )
        write_report(report, self.out, pictures_of(report, test, None))
        write_model_card(bundle.manifest, report, bundle.folder, commit=checked_out_commit())
