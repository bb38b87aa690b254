"""`[train]`: the float training."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.config.checks import at_least, one_of, positive

AUGMENTATIONS = ("none", "shift", "flip")
STRATEGIES = ("none", "mirrored", "multi-worker")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`[train]`: the float training. `epochs = 0` takes the model as it is (`model.path` or `model.weights`)."""

    epochs: int = 15
    batch_size: int = 64
    # Of arrays: the name of a Keras loss; None: the usual one of validate.metric. Images are trained by cross entropy.
    loss: str | None = None
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_epochs: int = 1
    augmentation: str = "shift"
    # Images of the training split that choose the epoch whose weights are kept; 0: the last one's are.
    validation_images: int = 0
    # "mirrored": every accelerator of this machine; "multi-worker": the machines of TF_CONFIG. QAT is trained so too.
    strategy: str = "none"
    worker_timeout_seconds: float = 1800.0  # a worker that is silent for this long counts as lost
    seed: int = 0

    def __post_init__(self) -> None:
        at_least("train.epochs", self.epochs, 0)
        at_least("train.batch_size", self.batch_size, 1)
        positive("train.learning_rate", self.learning_rate)
        one_of("train.augmentation", self.augmentation, AUGMENTATIONS)
        at_least("train.validation_images", self.validation_images, 0)
        one_of("train.strategy", self.strategy, STRATEGIES)
        positive("train.worker_timeout_seconds", self.worker_timeout_seconds)
