"""ResNet-34 artifacts that are slower by a little: some units' inner convolutions get extra filters.

    python benchmarks/latency_gate/build.py digits --out DIR [--arms FILE]
    python benchmarks/latency_gate/build.py full --out DIR [--arms FILE]

`digits` is the quarter-width network on 32x32x1, `full` the full width on 224x224x3, both with random weights: time
does not depend on them. FILE (JSON) names the arms: {"base": {}, "+5": {"stage3_unit4": 32}}; without it those of
arms.json beside this script are built. Each arm becomes DIR/SIZE/ARM.tflite and DIR/SIZE/ARM.onnx (int8, U8U8), made by
edgeship's own quantization and export from one seed: arms differ by the extra filters and by nothing else.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.config import Config, DataConfig, ExportConfig, ModelConfig, QuantizeConfig
from edgeship.core.files import write_atomically
from edgeship.core.progress import say
from edgeship.data import load_splits, preprocessing_of

ARMS = Path(__file__).with_name("arms.json")
SIZES: dict[str, dict[str, Any]] = {
    "digits": {"input_shape": (32, 32, 1), "width": 16},
    "full": {"input_shape": (224, 224, 3), "width": 64},
}
IMAGES = 24


def main() -> None:
    """Build what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", type=Path, default=ARMS)
    options = parser.parse_args()
    arms = json.loads(options.arms.read_text())
    folder = options.out / options.size
    folder.mkdir(parents=True, exist_ok=True)
    for name, extra in arms.get(options.size, arms).items():
        if not (folder / f"{name}.onnx").exists():
            say(f"{options.size}: {name}: {extra or 'as it is'}")
            for suffix, content in build(options.size, extra, folder=folder).items():
                write_atomically(folder / f"{name}.{suffix}", content)


def build(size: str, extra: dict[str, int], *, folder: Path) -> dict[str, bytes]:
    """The int8 files of one arm: {"tflite": ..., "onnx": ...}."""
    import tf_keras

    from edgeship.export.files import export_files
    from edgeship.export.samples import samples_of_images
    from edgeship.quantize.lowering.lower import lower
    from edgeship.quantize.prepare import finish, prepare, seed_ranges

    tf_keras.utils.set_random_seed(0)
    config = _config(size, folder)
    splits, spec = load_splits(config.data), preprocessing_of(config.data)
    flat = lower(build_wider(**SIZES[size], classes=10, extra=extra))
    quantized = prepare(flat, spec=spec, config=config.quantize)
    seed_ranges(quantized, splits.calibration, spec=spec, method=config.quantize.calibration)
    finish(quantized)
    samples = samples_of_images(splits, spec=spec, golden_images=config.export.golden_images)
    exported = export_files(
        [quantized.prepared("int8-qat")], samples=samples, config=config, spec=spec, labels=splits.labels
    )
    return {file.format: file.content for file in exported.files}


def build_wider(*, input_shape: tuple[int, int, int], width: int, classes: int, extra: dict[str, int]) -> Any:
    """ResNet-34 whose units named in `extra` have that many more filters between their two convolutions."""
    import tf_keras

    from edgeship.model import resnet
    from edgeship.model.layers import ResidualUnit

    class WiderUnit(ResidualUnit):
        """A unit whose first convolution may have more filters than its second."""

        def __init__(self, filters: int, strides: int = 1, **kwargs: Any) -> None:
            super().__init__(filters, strides, **kwargs)
            self.main_layers[0] = tf_keras.layers.Conv2D(
                filters + extra.get(self.name, 0), 3, strides=strides, padding="same", use_bias=False,
                kernel_initializer="he_normal", name=f"{self.name}_conv1",
            )

    original = resnet.ResidualUnit
    resnet.ResidualUnit = WiderUnit
    try:
        return resnet.build_resnet(input_shape=input_shape, width=width, classes=classes)
    finally:
        resnet.ResidualUnit = original


def _config(size: str, folder: Path) -> Config:
    shape = SIZES[size]["input_shape"]
    noise = folder / "noise.npz"
    if not noise.exists():
        images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
        np.savez(noise, x=images, y=np.arange(IMAGES) % 10)
    return Config(
        data=DataConfig(
            name="npz", path=str(noise), image_size=shape[0], channels=shape[2], calibration_images=10, test_images=4,
        ),
        model=ModelConfig(width=SIZES[size]["width"]),
        quantize=QuantizeConfig(),
        export=ExportConfig(formats=("tflite", "onnx"), tflite_io=("int8",), onnx_variants=("u8u8",)),
    )


if __name__ == "__main__":
    main()
