"""The configuration: one frozen dataclass per stage, read by `config_file`; every key has a default that works.

Each refuses values that are out of range, with the key, what was expected and what was found.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeship.core.config.data import DATASETS, DataConfig
from edgeship.core.config.export import FORMATS, ExportConfig
from edgeship.core.config.model import KERAS_WEIGHTS, TORCH_WEIGHTS, ModelConfig
from edgeship.core.config.quantize import FULL, PAIR_SAFE, PER_CHANNEL, PER_TENSOR, QuantizeConfig
from edgeship.core.config.train import TrainConfig
from edgeship.core.config.validate import RUNTIMES, ValidateConfig
from edgeship.core.errors import ConfigError
from edgeship.core.schemes import SCHEMES

__all__ = [
    "DATASETS", "FORMATS", "FULL", "KERAS_WEIGHTS", "PAIR_SAFE", "PER_CHANNEL", "PER_TENSOR", "RUNTIMES",
    "TORCH_WEIGHTS", "Config", "DataConfig", "ExportConfig", "ModelConfig", "QuantizeConfig", "TrainConfig",
    "ValidateConfig",
]


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole configuration file."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)

    def __post_init__(self) -> None:
        """Refuse a scheme in a format that has none of it, and a new classifier that nothing trains."""
        if self.model.new_head and not self.train.epochs:
            raise ConfigError(
                "train.epochs: 0 leaves the new classifier (model.new_head) untrained; set 1 or more, or leave "
                "model.new_head out"
            )
        for scheme in self.quantize.schemes:
            formats = self.export.formats_of(scheme)
            if not formats:
                raise ConfigError(
                    f"export.skip: leaves no format for {scheme}; leave it out of quantize.schemes instead"
                )
            for name in formats:
                if (reason := SCHEMES[scheme].impossible.get(name)) is not None:
                    raise ConfigError(
                        f"{scheme} as {name}: {reason}; add '{scheme}:{name}' to export.skip, or leave {scheme} out of "
                        "quantize.schemes"
                    )
