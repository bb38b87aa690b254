"""`[model]`: the float model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeship.core.config.checks import at_least, one_of
from edgeship.core.errors import ConfigError

PADDINGS = ("same", "symmetric")
TORCH_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin")
KERAS_WEIGHTS = (".h5", ".keras")
TORCH_EPSILON = 1e-5  # of torch.nn.BatchNorm2d


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """`[model]`: a variant of the home model, or the user's own float model."""

    name: str = "resnet34"
    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    se_ratio: int = 0  # 0: no squeeze-and-excitation; 16 is SE-ResNet-34
    se_divisor: int = 1  # squeezed channels are rounded to a multiple of it, and at least it; timm's networks: 8
    padding: str = "same"  # of operations of stride 2; "symmetric" is PyTorch's
    classes: int | None = None  # None: as many as the dataset has
    batch_norm_momentum: float = 0.9  # 0.99 needs thousands of steps to forget its start
    batch_norm_epsilon: float = 1e-3
    weights: str | None = None  # a checkpoint for the home model: .safetensors, .pth, .pt, .bin, .h5 or .keras
    new_head: bool = False  # with weights: the classifier starts anew, for other classes
    factory: str | None = None  # "package.module:function" -> tf_keras.Model
    path: str | None = None  # a trained .keras or .h5 file, or a SavedModel folder of Keras 2
    trust_code: bool = False  # with path: the file may run code of its own (Lambda layers, modules that it names)
    custom_objects: tuple[str, ...] = ()  # modules that register the model's own layers

    def __post_init__(self) -> None:
        one_of("model.name", self.name, ("resnet34",))
        at_least("model.width", self.width, 1)
        at_least("model.se_ratio", self.se_ratio, 0)
        if not self.stage_sizes or min(self.stage_sizes) < 1:
            raise ConfigError(f"model.stage_sizes: expected numbers from 1, found {list(self.stage_sizes)}")
        if self.factory and self.path:
            raise ConfigError("model.factory and model.path are both set; keep the one that brings your model")
        if self.trust_code and not self.path:
            raise ConfigError("model.trust_code: is for model.path, which is not set; leave it out")
        at_least("model.se_divisor", self.se_divisor, 1)
        one_of("model.padding", self.padding, PADDINGS)
        self._check_weights()

    def _check_weights(self) -> None:
        if self.weights is None:
            if self.new_head:
                raise ConfigError("model.new_head: is for model.weights, which is not set; leave it out")
            return
        if self.factory or self.path:
            raise ConfigError(
                "model.weights: is for the home model, but model.factory or model.path brings another one; keep one"
            )
        one_of("model.weights: the suffix", Path(self.weights).suffix, TORCH_WEIGHTS + KERAS_WEIGHTS)
        needed = {"padding": "symmetric", "batch_norm_epsilon": TORCH_EPSILON}
        for key, value in needed.items() if Path(self.weights).suffix in TORCH_WEIGHTS else ():
            if getattr(self, key) != value:
                raise ConfigError(
                    f"model.{key}: a torch checkpoint (model.weights) was trained with {value!r}, found "
                    f"{getattr(self, key)!r}; the network would compute something else: set {key} = {value!r}"
                )
