"""A bundle from Python: files that were proven when they were written, and can be validated anywhere."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeship.api.options import section
from edgeship.api.progress import Progress, showing
from edgeship.api.report import Report
from edgeship.core.artifact import Artifact, Manifest
from edgeship.core.config import ValidateConfig
from edgeship.core.errors import ConfigError
from edgeship.core.metrics import METRICS, Metric, metric_of_function
from edgeship.core.progress import stage
from edgeship.data.arrays import Port, given_arrays, given_targets
from edgeship.data.examples import examples_of_arrays
from edgeship.validate.report.html.pictures import pictures_of
from edgeship.validate.run import validate_examples
from edgeship.validate.subject import bundle as files


class Bundle:
    """A folder of artifacts with its manifest; `load_bundle` checks every file before it returns one."""

    def __init__(self, checked: files.Bundle) -> None:
        """Use `load_bundle`, or `QuantizedModel.export`."""
        self._checked = checked

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._checked.folder

    @property
    def manifest(self) -> Manifest:
        """What manifest.json says."""
        return self._checked.manifest

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The files that devices run, with the scales and zero points of their inputs and outputs."""
        return self._checked.manifest.artifacts

    def path(self, name: str) -> Path:
        """Return where an artifact's file is. Raises ConfigError for a name that no artifact has."""
        for artifact in self.artifacts:
            if artifact.name == name:
                return self._checked.path_of(artifact)
        names = ", ".join(artifact.name for artifact in self.artifacts)
        raise ConfigError(f"{self.folder}: expected one of {names}; found {name!r}")

    def __repr__(self) -> str:
        """Return the folder and the names of its artifacts."""
        return f"Bundle({str(self.folder)!r}: {', '.join(artifact.name for artifact in self.artifacts)})"

    def validate(
        self,
        inputs: Any,
        targets: Any = None,
        *,
        metric: str | Callable[..., Any] | None = None,
        layers: bool = False,
        progress: Progress = False,
        **options: Any,
    ) -> Report:
        """Run every file on its runtimes and hold the answers against the float model's.

        Args:
            inputs: as the float model takes them: an array, a list or dict of arrays, a `tf.data.Dataset` of batches
                (of pairs where it has the targets too), or an iterable of batches.
            targets: what is right, one per example; None: parity, coverage and latency are judged, accuracy is not,
                and the report says so.
            metric: a name of edgeship/core/metrics.py, "module:function", or a function `(outputs, targets) -> one
                number per example` where more is better; None: as the bundle says.
            layers: compare every integer file with float layer by layer, not only those whose answers fail.
            progress: True writes lines to standard error; a function gets them.
            options: keys of the section [validate], for example `max_accuracy_drop=0.01`, `targets` under the name
                `on=("cpu", "arm64")`, or `runtimes=("keras", "litert")`: without "keras" the accuracy is not compared
                with float Keras, and with targets the verdict is "refused".

        Raises:
            DataError: inputs or targets that do not fit, or a metric that gives no numbers on them.
            ConfigError: an unknown option or metric.
        """
        given = given_arrays(inputs, ports_of(self._checked), who="inputs")
        wanted = given.targets if targets is None else given_targets(targets, who="targets")
        examples = examples_of_arrays(given.inputs, wanted)
        chosen = metric_named(self.manifest.metric if metric is None else metric)
        config = _config(options)
        with showing(progress), stage("validate", f"{len(examples):,} examples on {', '.join(config.targets)}"):
            measured = validate_examples(
                self._checked, examples, config, metric=chosen, layers=layers
            )
        return Report(measured, pictures_of(measured, examples, self.manifest.preprocessing))


def load_bundle(folder: str | Path) -> Bundle:
    """Read a bundle's folder and check every file in it.

    Raises:
        BundleError: no bundle there; a file that is missing, unreadable or not the one that was exported.
    """
    return Bundle(files.load_bundle(Path(folder)))


def ports_of(bundle: files.Bundle) -> list[Port]:
    """Return the float model's inputs: the artifacts' names, the golden inputs' shapes and types."""
    return [
        Port(name=spec.name, shape=array.shape[1:], dtype=array.dtype.name)
        for spec, array in zip(bundle.manifest.artifacts[0].inputs, bundle.golden.inputs, strict=True)
    ]


def metric_named(metric: str | Callable[..., Any] | Metric | None) -> Metric | None:
    """Return the metric of a name, of "module:function" or of a function.

    Raises:
        ConfigError: an unknown name, or a module or function that is not there.
    """
    if metric is None or isinstance(metric, Metric):
        return metric
    if callable(metric):
        return metric_of_function(getattr(metric, "__name__", "metric"), metric)
    if metric in METRICS:
        return METRICS[metric]
    module, colon, name = metric.partition(":")
    if not colon:
        raise ConfigError(f"metric: expected one of {', '.join(METRICS)}, or \"module:function\"; found {metric!r}")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"metric: expected a function {name!r} in a module {module!r}, found none ({error})"
        ) from error
    return metric_of_function(metric, function)


def _config(options: dict[str, Any]) -> ValidateConfig:
    given = {"targets" if key == "on" else key: value for key, value in options.items()}
    config: ValidateConfig = section(ValidateConfig, "validate", given)
    return config
