"""What a bundle holds: Artifact, TensorSpec, Preprocessing and the Manifest, as frozen records <-> JSON.

Schema history of `manifest.json`:
    1   first version
    2   artifacts of format "ort", with `operators_config`; `exported_on`
    3   `quantization`, the account of each scheme's kernels
    4   models that are no image classifiers: `preprocessing` may be null, `labels` empty, `splits` without a test
        split; `metric`; 3 is read too
    5   `saturation` of each artifact; `output`, the form of a classifier's output, `float_outputs`, `weight_range`
        and `weight_scales` of each scheme; 3 and 4 are read too
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship.core.decode import read_record
from edgeship.core.errors import BundleError
from edgeship.core.output_forms import OUTPUT_FORMS
from edgeship.core.saturation import Saturation
from edgeship.core.schemes import SCHEMES

MANIFEST_SCHEMA = 5
OLDER_MANIFESTS = (3, 4)  # that are read too: later ones only add
MANIFEST_FILE = "manifest.json"
GOLDEN_FILE = "golden.npz"
ARTIFACT_FORMATS = ("tflite", "onnx", "ort")
CROP, STRETCH = "crop", "stretch"
FITS = (CROP, STRETCH)  # how a picture that is not square becomes square


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output of an artifact. `scale` and `zero_point` are None for a float tensor."""

    name: str
    shape: tuple[int, ...]  # batch first, for example (1, 32, 32, 1)
    dtype: str  # numpy's name: "float32", "int8", "uint8"
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One file of a bundle that a device can run."""

    name: str  # unique in the bundle, for example "int8-qat.tflite"
    file: str  # relative to the bundle folder
    format: str  # "tflite", "onnx" or "ort"
    scheme: str  # a name of `edgeship.core.schemes`
    sha256: str
    size_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    same_grid_as: str | None = None  # the artifact whose integer weights, scales and zero points it shares
    saturation: Saturation | None = None  # whether its sums can saturate on x86 processors; None: an older bundle
    operators_config: str | None = None  # of an .ort file: what a reduced build of ONNX Runtime must have; a file


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The specification of the ONE preprocess(): uint8 image -> float32 model input.

    Make it square by `fit`, resize to `image_size` squared with `interpolation`, scale to 0..1, subtract `mean`, divide
    by `std`.
    """

    image_size: int
    channels: int
    channel_order: str  # "RGB" or "gray"
    interpolation: str  # "bilinear"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str = CROP  # the largest central square is cut out; or "stretch": the whole picture, each side by itself
    antialias: bool = True  # Pillow's filter; without: TensorFlow's, which looks at four pixels only

    @property
    def input_range(self) -> tuple[float, float]:
        """The smallest and the largest value a preprocessed pixel can take."""
        pairs = list(zip(self.mean, self.std, strict=True))
        return min((0.0 - m) / s for m, s in pairs), max((1.0 - m) / s for m, s in pairs)

    @property
    def resize(self) -> str:
        """How a picture becomes a square of `image_size`, in words."""
        part = "central square" if self.fit == CROP else "whole picture stretched to a square"
        filtered = "with antialiasing (Pillow)" if self.antialias else "without antialiasing (TensorFlow)"
        return f"{part}, {self.interpolation} {filtered}"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The float Keras model the artifacts are proven against (a .keras file in the bundle)."""

    file: str
    sha256: str
    custom_objects: tuple[str, ...]  # modules to import before the file can be loaded


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """What became of the kernels of one scheme that stores them as int8, counted in the exported TFLite file."""

    kept_float: tuple[str, ...]  # layers that were left in float on purpose
    weights_expected: int  # layers whose kernels were to be int8
    weights_quantized: int  # layers whose kernels are
    weight_bits: int  # 8: codes of +-127; 7: of +-63
    weight_range: str = "full"  # or "pair-safe": no two neighbours' products saturate 16 bits
    weight_scales: str = "per-channel"  # or "per-tensor": one scale for a whole kernel
    float_outputs: tuple[str, ...] = ()  # outputs whose softmax is computed in float, from int8 logits
    # How the scheme was found: what int8-ptq-best chose and gained, which layers int8-mixed kept and why.
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`manifest.json`: everything `validate` needs to know about a bundle."""

    schema: int
    created_by: str
    source: dict[str, str]  # {"config_sha256": ..., "weights_sha256": ...}
    data: dict[str, Any]  # the [data] section, so that the test split can be loaded again
    splits: dict[str, dict[str, Any]]  # {"train" | "calibration" | "test": {"images": n, "sha256": ...}}
    preprocessing: Preprocessing | None  # None: the model takes arrays as they are
    labels: tuple[str, ...]  # of the classes; none: no classifier, or one whose classes have no names
    reference: Reference
    golden_sha256: str
    artifacts: tuple[Artifact, ...]
    quantization: dict[str, Quantization]  # by scheme
    tools: dict[str, str]  # {"tensorflow": "2.21.0", ...}
    # {"cpu_model", "cpu_flags_sha256"}: on this processor, with these tools, the golden outputs must come out again
    exported_on: dict[str, str | None]
    # A form of edgeship/core/output_forms.py; None: the network does not end in a softmax, or the bundle is older.
    output: str | None = None
    metric: str | None = "top1"  # how answers are scored where the user names no metric; None: not at all


def manifest_to_json(manifest: Manifest) -> str:
    """The manifest as JSON text; the same manifest gives the same text."""
    return json.dumps(dataclasses.asdict(manifest), indent=2, allow_nan=False) + "\n"


def manifest_from_json(text: str, *, where: Path) -> Manifest:
    """Return the manifest that `text` holds; messages name the file `where`.

    Raises:
        BundleError: not JSON, another schema version, a field missing, unknown or of the wrong form.
    """
    return read_record(
        Manifest, text, where=where, schema=MANIFEST_SCHEMA, older=OLDER_MANIFESTS, what="manifest",
        again="export the bundle again", check=_check, error=BundleError,
    )


def _check(manifest: Manifest) -> None:
    """Check what types do not say. Raises ValueError."""
    if manifest.output not in (None, *OUTPUT_FORMS):
        raise ValueError(f"unknown form of the output {manifest.output!r}")
    _check_inside("the reference", "file", manifest.reference.file)
    for artifact in manifest.artifacts:
        if artifact.format not in ARTIFACT_FORMATS:
            raise ValueError(f"artifact {artifact.name}: unknown format {artifact.format!r}")
        if artifact.scheme not in SCHEMES:
            raise ValueError(f"artifact {artifact.name}: unknown scheme {artifact.scheme!r}")
        _check_inside(f"artifact {artifact.name}", "file", artifact.file)
        if artifact.operators_config is not None:
            _check_inside(f"artifact {artifact.name}", "operators_config", artifact.operators_config)


def _check_inside(who: str, key: str, name: str) -> None:
    """Check that a file of the bundle is named without any folder."""
    if Path(name).name != name or name in ("", ".."):
        raise ValueError(f"{who}: its {key} {name!r} is not inside the bundle")
