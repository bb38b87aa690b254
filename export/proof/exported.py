"""What an export is, in memory: files, and the account of their kernels."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.artifact import Quantization
from edgeship.data.examples import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportedFile:
    """One artifact."""

    name: str  # also the file name
    format: str
    scheme: str
    content: bytes
    same_grid_as: str | None = None
    operators_config: str | None = None  # the text that belongs to an .ort file
    golden_outputs: Batch | None = None  # what it answers to the golden inputs, an array per output in its own dtype

    @property
    def operators_file(self) -> str | None:
        """Where that text goes."""
        return None if self.operators_config is None else f"{self.name}.operators.config"


@dataclass(frozen=True, kw_only=True, eq=False)
class Exported:
    """All files, proven; the inputs they were asked; for each scheme that has int8 kernels, the account of those."""

    files: tuple[ExportedFile, ...]
    golden_inputs: Batch  # as the model takes them
    quantization: dict[str, Quantization]
