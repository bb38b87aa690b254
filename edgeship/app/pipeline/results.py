"""What the stages of one configuration hand on to each other, as files in its output folder."""

from __future__ import annotations

from pathlib import Path

from edgeship.app.pipeline.output_record import OUTPUT_FILE, read_output
from edgeship.core.config import Config
from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES


class Results:
    """The files of an output folder; both pipelines have the same.

    float.keras      the trained float network, lowered: no later stage needs the user's code
    output.json      the form of the output: probabilities, float probabilities or logits
    sensitivity.json what quantizing each layer alone costs (only where it was asked for)
    quantized/       the weights and ranges of each integer scheme
    bundle/          the artifacts with manifest.json and golden.npz
    """

    config: Config
    out: Path

    @property
    def float_file(self) -> Path:
        """The trained float model, lowered."""
        return self.out / "float.keras"

    @property
    def output_file(self) -> Path:
        """The form of the output."""
        return self.out / OUTPUT_FILE

    @property
    def sensitivity_file(self) -> Path:
        """What quantizing each layer alone costs."""
        return self.out / "sensitivity.json"

    @property
    def bundle_folder(self) -> Path:
        """The bundle."""
        return self.out / "bundle"

    def quantized_file(self, scheme: str) -> Path:
        """The weights and ranges of a scheme."""
        return self.out / "quantized" / f"{scheme}.npz"

    @property
    def fake_quantized(self) -> list[str]:
        """The schemes that have such a file."""
        return [name for name in self.config.quantize.schemes if SCHEMES[name].source == FAKE_QUANTIZED]

    @property
    def output_form(self) -> str | None:
        """The form of the output that was chosen; None: the network does not end in a softmax."""
        return read_output(self.output_file)
