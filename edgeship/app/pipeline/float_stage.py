"""From the configuration to the trained float network: the model as it starts, what its code makes, the training."""

from __future__ import annotations

import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back

# isort: split
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from edgeship.app.pipeline import lowered
from edgeship.app.pipeline.source_key import forget_edited_modules, named_modules, put_first, source_key
from edgeship.core.artifact import Preprocessing
from edgeship.core.config import Config
from edgeship.core.files import sha256_of_bytes
from edgeship.core.progress import fact, say
from edgeship.data import Images, Splits, hold_out, preprocess
from edgeship.data.examples import Examples, examples_of_images
from edgeship.model import build, train
from edgeship.model.distribute import Workers
from edgeship.model.first_values import squeezed
from edgeship.model.probabilities import with_probabilities

FEW_IMAGES = 32  # show on which scale the first layer sees them


@dataclass
class FloatStage:
    """The float model of one configuration, built once."""

    config: Config
    splits: Splits
    spec: Preprocessing
    workers: Workers
    module_folder: Path | None
    _said_logits: bool = field(init=False, default=False)

    @cached_property
    def initial(self) -> tf_keras.Model:
        """The model before training, outside of any strategy's scope.

        Raises:
            ModelError: it cannot be built, is of other shapes, or has weights that are NaN or infinite.
        """
        if self.module_folder is not None:
            put_first(self.module_folder)
        forget_edited_modules(named_modules(self.config.model), self.module_folder)
        model = self._build()
        build.check_weights(model)
        return model

    @cached_property
    def initial_flat(self) -> tf_keras.Model:
        """The model before training, lowered. Raises LoweringError."""
        return lowered.lowered(self.initial, self._test)

    @cached_property
    def made(self) -> dict[str, Any]:
        """What the user's code is and makes, for the key of what is trained: its source, the network, its weights.

        What differs from one call of the factory to the next (its own random numbers) is left out of the key, since no
        second run would find the first one's results; that is said.
        """
        made = {
            "network": sha256_of_bytes(lowered.as_json(self.initial_flat).encode()),
            "weights": build.weights_sha256(self.initial_flat),
        }
        # A factory may have a generator of its own, which no seed of ours reaches: does it make the same again?
        again = self._build() if self.config.model.factory else self.initial
        changing = []
        if build.weights_sha256(again) != build.weights_sha256(self.initial):
            changing = ["weights"] if _variables(again) == _variables(self.initial) else ["network", "weights"]
            say(
                f"train: {self.config.model.factory} makes other {' and '.join(changing)} with every call; a "
                "change of them that does not show in the source of your modules is not noticed"
            )
        if self.workers.count > 1:
            # Workers must agree on the key, and random weights may differ by a last bit between kinds of processors.
            changing = [*changing, "weights"]
        return {
            **{key: value for key, value in made.items() if key not in changing},
            "source": source_key(named_modules(self.config.model), self.module_folder),
        }

    def train(self, scratch: Path, path: Path, *, is_chief: bool) -> None:
        """Train, lower, and (the chief) save: `path` then has the lowered network that all later stages work on."""
        config, model, untrained = self.config, self.initial, self.initial_flat
        flat = None if config.train.epochs else untrained
        for name in ("initial", "initial_flat"):  # training changes the model: it starts once
            vars(self).pop(name, None)
        fact(f"{model.name}, {model.count_params():,} parameters")
        self._warn_of_scale(untrained)
        if flat is None:
            self._fit(model, scratch)
            build.check_weights(model)
            flat = lowered.lowered(model, self._test)
        build.check_probabilities(flat, self.splits.test, spec=self.spec)
        top1 = train.accuracy(flat, self.splits.test, spec=self.spec)
        fact(f"float top-1 {top1:.2%} on the test split")
        if is_chief:
            lowered.save(flat, path, self._test)

    def _warn_of_scale(self, flat: tf_keras.Model) -> None:
        """Say so where the model begins by squeezing the pixels to nearly nothing, as it would for those of 0..255."""
        few = self.splits.calibration.select(np.arange(min(FEW_IMAGES, len(self.splits.calibration))))
        found = squeezed(flat, preprocess(few.images, self.spec))
        if found is not None:
            say(
                f"train: warning: {found}; a model that was trained on pixels of 0..255 wants data.mean = [0.0] and "
                f"data.std = [{1 / 255}]"
            )

    def _fit(self, initial: tf_keras.Model, scratch: Path) -> None:
        """Train in place; with several replicas a copy in the strategy's scope, whose weights `initial` takes over."""
        settings, several = self.config.train, self.config.train.strategy != "none"
        images, validation = held_out(self.splits, settings.validation_images, seed=self.config.data.seed)
        with self.workers.scope():
            model = initial
            if several:
                model = self._build()
                model.set_weights(initial.get_weights())
            # What was checked before must not change the random numbers of dropout.
            tf_keras.utils.set_random_seed(settings.seed)
            train.fit(
                model, images, spec=self.spec, label="float training", checkpoints=scratch, validation=validation,
                schedule=train.Schedule(
                    epochs=settings.epochs, batch_size=settings.batch_size, learning_rate=settings.learning_rate,
                    weight_decay=settings.weight_decay, warmup_epochs=settings.warmup_epochs,
                    augmentation=settings.augmentation, seed=settings.seed,
                ),
            )
            trained = model.get_weights() if several else None  # reading what replicas keep takes all workers
        if trained is not None:
            initial.set_weights(trained)

    @property
    def _test(self) -> Examples:
        return examples_of_images(self.splits.test, self.spec)

    def _build(self) -> tf_keras.Model:
        tf_keras.utils.set_random_seed(self.config.train.seed)
        size, channels = self.config.data.image_size, self.config.data.channels
        classes = self.config.model.classes or len(self.splits.labels)
        model = build.build_model(self.config.model, input_shape=(size, size, channels), classes=classes)
        with_softmax = with_probabilities(model)
        if with_softmax is not model and not self._said_logits:
            self._said_logits = True
            say(
                f"train: {model.name} ends in logits (its last layer has no softmax): a softmax is put behind it, "
                "since images are classified by probabilities"
            )
        return with_softmax


def held_out(splits: Splits, count: int, *, seed: int) -> tuple[Images, Images | None]:
    """(the images to train on, `count` more to choose the epoch by; None where there are none)."""
    return hold_out(splits.train, count, seed=seed) if count else (splits.train, None)


def _variables(model: tf_keras.Model) -> list[tuple[str, tuple[int, ...]]]:
    return [(variable.name, tuple(variable.shape)) for variable in model.weights]
