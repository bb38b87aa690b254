"""Quantization-aware training beside stock tfmot: same float model, same images, same number of steps, several seeds.

    python -m benchmarks.qat --out DIR [--network resnet34] [--width 16] [--epochs 1] [--seeds 3] [--arms ...]
                             [--unseen] [--weight-scales per-tensor] [--train-images 1000]

Trains a network on Fashion-MNIST (20,000 training images; fewer for as many steps) once per seed, quantizes each float
model in the ways below, exports each to int8 TFLite, and runs every file in LiteRT on the 10,000 test images; with
`--unseen` also on the images of the training split that served for nothing (39,000 and more), so that intervals are
less than half as wide. Finished seeds are kept in DIR.
`--weight-scales per-tensor`: edgeship's arms with one scale per kernel, for devices that know no other.
Networks: the home model of a width, or those of benchmarks/networks/depthwise.py.

    float         the float model, in Keras
    ptq           edgeship's int8-ptq, no training
    ptq best      edgeship's int8-ptq-best, no training
    edgeship      edgeship's int8-qat, as configs/fashion_mnist.toml has it
    stock         tfmot.quantize_model of the flattened model; edgeship's optimizer and learning rate, labels as targets
    stock adam    the same, as tfmot's guide trains: model.compile("adam"), that is a constant rate of 1e-3
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import points
from edgeship.core.config import PER_CHANNEL, PER_TENSOR, Config, DataConfig, ModelConfig, QuantizeConfig, TrainConfig
from edgeship.core.cpu import processor_identity
from edgeship.core.integers import quantize
from edgeship.core.progress import say
from edgeship.data import Splits, load_splits, preprocessed_batches, preprocessing_of
from edgeship.data.images import Images, image_hashes

ARMS = ("ptq", "ptq best", "edgeship", "stock", "stock adam")
TRAIN_IMAGES, EPOCHS = 20_000, 6  # of the float training
NETWORKS = ("resnet34", "mobilenet_v1", "mobilenet_v2", "efficientnet")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/qat_benchmark"))
    parser.add_argument("--network", choices=NETWORKS, default="resnet34")
    parser.add_argument("--width", type=int, default=16, help="of ResNet-34")
    parser.add_argument("--epochs", type=int, default=1, help="of quantization-aware training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--train-images", type=int, default=TRAIN_IMAGES)
    parser.add_argument("--weight-scales", choices=(PER_CHANNEL, PER_TENSOR), default=PER_CHANNEL)
    parser.add_argument("--unseen", action="store_true", help="judge on the training images left over too")
    options = parser.parse_args()
    results = [one_seed(options, seed) for seed in range(options.seeds)]
    print(accuracy_table(options, results))


def title_of(options: argparse.Namespace) -> str:
    """Name the network and its data, as files and tables have it."""
    network = f"resnet34-width{options.width}" if options.network == "resnet34" else str(options.network)
    return network if options.train_images == TRAIN_IMAGES else f"{network}-{options.train_images}"


def config_of(options: argparse.Namespace, seed: int) -> Config:
    """configs/fashion_mnist.toml with another network and seed."""
    own = options.network != "resnet34"
    return Config(
        data=DataConfig(
            name="fashion_mnist", image_size=28, train_images=options.train_images, calibration_images=512, seed=seed
        ),
        model=ModelConfig(factory=f"benchmarks.networks.depthwise:{options.network}") if own
        else ModelConfig(width=options.width),
        train=TrainConfig(
            epochs=EPOCHS * TRAIN_IMAGES // options.train_images, batch_size=64, learning_rate=1e-3,
            augmentation="none", seed=seed,
        ),
        quantize=QuantizeConfig(epochs=options.epochs, seed=seed, weight_scales=options.weight_scales),
    )


def one_seed(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Top-1 answers of every arm on the test split and the time it took, measured or read from an earlier call."""
    config, out, title = config_of(options, seed), options.out, title_of(options)
    form = ("-per-tensor" if options.weight_scales == PER_TENSOR else "") + ("-unseen" if options.unseen else "")
    file = out / f"{title}-epochs{options.epochs}-seed{seed}{form}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {
        "seed": seed, "cpu": processor_identity(), "correct": {}, "seconds": {}, "refused": {},
    }
    missing = [arm for arm in options.arms if arm not in found["correct"] and arm not in found["refused"]]
    if not missing:
        return found
    from edgeship.app.pipeline.pipeline import Pipeline
    from edgeship.model import build
    from edgeship.quantize.lowering.lower import lower

    pipeline = Pipeline(config=config, out=out / f"{title}-seed{seed}")
    start = time.perf_counter()
    pipeline.train()
    found["seconds"].setdefault("float", time.perf_counter() - start)
    model, splits = build.load_model(pipeline.float_file), pipeline.splits
    spec = preprocessing_of(config.data)
    judges = [splits.test, *([left_over(splits, config)] if options.unseen else [])]
    found["correct"]["float"] = _as_text(np.concatenate([
        model.predict_on_batch(batch).argmax(-1) for part in judges
        for batch in preprocessed_batches(part, spec, size=256)
    ]) == np.concatenate([part.labels for part in judges]))
    for arm in missing:
        say(f"{title}, seed {seed}: {arm}")
        start = time.perf_counter()
        try:
            content = train_arm(arm, lower(model), model, splits, config)
        # What stock tfmot raises for a layer that it does not know: RuntimeError, ValueError and others.
        except Exception as error:
            if not arm.startswith("stock"):
                raise
            found["refused"][arm] = " ".join(str(error).split())
            say(f"{title}: {arm} refused: {found['refused'][arm]}")
            continue
        found["seconds"][arm] = time.perf_counter() - start
        found["correct"][arm] = _as_text(np.concatenate([answers(content, part, config) for part in judges]))
        file.write_text(json.dumps(found))
    file.write_text(json.dumps(found))
    return found


def left_over(splits: Splits, config: Config) -> Images:
    """Return the images of the training split that neither train nor calibrate, nor are copies of one that does."""
    rest = load_splits(dataclasses.replace(config.data, train_images=None)).train
    trained = set(image_hashes(splits.train))
    return rest.select(np.array([place for place, image in enumerate(image_hashes(rest)) if image not in trained]))


def _as_text(values: np.ndarray) -> str:
    return "".join("01"[bool(item)] for item in values)


def _as_values(text: str) -> np.ndarray:
    return np.array([item == "1" for item in text])


def train_arm(arm: str, flat: Any, model: Any, splits: Splits, config: Config) -> bytes:
    """One way from a float model to an int8 TLite file's bytes."""
    import tensorflow_model_optimization as tfmot

    from edgeship.export.tflite.convert import convert_tflite
    from edgeship.model.train import Schedule, fit
    from edgeship.quantize import best, qat
    from edgeship.quantize.prepare import CALIBRATION_BATCH, finish, prepare, seed_ranges

    spec, settings = preprocessing_of(config.data), config.quantize
    if not arm.startswith("stock"):
        ours = prepare(flat, spec=spec, config=settings)
        if arm == "ptq":
            seed_ranges(ours, splits.calibration, spec=spec, method="min-max")
            finish(ours)
        elif arm == "ptq best":
            batches = list(preprocessed_batches(splits.calibration, spec, size=CALIBRATION_BATCH))
            best.found(ours, *best.parts(batches))
        else:
            qat.train(
                ours, calibration=splits.calibration, images=splits.train, spec=spec, config=settings,
                augmentation=config.train.augmentation, teacher=model,
            )
        return convert_tflite(ours.model, scheme="int8-qat")
    stock = tfmot.quantization.keras.quantize_model(flat)
    schedule = Schedule(
        epochs=settings.epochs, batch_size=settings.batch_size, learning_rate=settings.learning_rate,
        augmentation=config.train.augmentation, seed=settings.seed,
    )
    if arm == "stock":
        fit(stock, splits.train, spec=spec, label="stock tfmot", schedule=schedule)
    else:
        images = np.concatenate(list(preprocessed_batches(splits.train, spec, size=1000)))
        stock.compile("adam", "sparse_categorical_crossentropy")
        stock.fit(images, splits.train.labels, batch_size=settings.batch_size, epochs=settings.epochs, verbose=0)
    return convert_tflite(stock, scheme="int8-qat")


def answers(content: bytes, images: Images, config: Config) -> np.ndarray:
    """Whether an int8 TFLite file is right, for every image, in LiteRT (XNNPACK)."""
    from ai_edge_litert.interpreter import Interpreter

    from edgeship.export.proof.golden import specs_of

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    (spec,), _ = specs_of(content, format="tflite")
    found = []
    for batch in preprocessed_batches(images, preprocessing_of(config.data), size=256):
        for image in quantize(batch, spec):
            interpreter.set_tensor(entry, image[None])
            interpreter.invoke()
            found.append(int(interpreter.get_tensor(result).argmax()))
    return np.array(found) == images.labels


def accuracy_table(options: argparse.Namespace, results: list[dict[str, Any]]) -> str:
    """Per seed: float top-1, and each arm's paired difference to float with its 95 % interval, in points."""
    arms = [arm for arm in options.arms if all(arm in result["correct"] for result in results)]
    pairs = [("stock", "edgeship"), ("ptq", "ptq best"), ("ptq best", "edgeship")]
    pairs = [pair for pair in pairs if set(pair) <= set(arms)]
    head = ["seed", "float top-1", *(f"{arm} - float" for arm in arms), *(f"{two} - {one}" for one, two in pairs)]
    config = config_of(options, 0)
    assert config.data.train_images is not None  # config_of says how many
    steps = config.quantize.epochs * (config.data.train_images // config.quantize.batch_size)
    lines = [
        f"{title_of(options)} on Fashion-MNIST, {steps:,} steps, "
        f"{len(results[0]['correct']['float']):,} images that it has not seen; "
        f"CPU: {results[0]['cpu']['cpu_model']}",
        "", f"| {' | '.join(head)} |", "|---" * len(head) + "|",
    ]
    pooled: dict[str, list[np.ndarray]] = {arm: [] for arm in ("float", *arms)}
    for result in results:
        for arm, values in pooled.items():
            values.append(_as_values(result["correct"][arm]))
        lines.append(_row(str(result["seed"]), {arm: values[-1] for arm, values in pooled.items()}, pairs))
    lines.append(_row("all", {arm: np.concatenate(values) for arm, values in pooled.items()}, pairs))
    seconds = {arm: [result["seconds"][arm] for result in results] for arm in ("float", *arms)}
    medians = ", ".join(f"{arm} {np.median(values):.0f}" for arm, values in seconds.items())
    lines += ["", f"Seconds, median of the seeds: {medians}"]
    lines += [f"Refused: {arm}: {text}" for arm, text in results[0]["refused"].items()]
    return "\n".join(lines)


def _row(seed: str, right: dict[str, np.ndarray], pairs: list[tuple[str, str]]) -> str:
    cells = [points(right["float"], values) for arm, values in right.items() if arm != "float"]
    cells += [points(right[one], right[two]) for one, two in pairs]
    return f"| {seed} | {right['float'].mean():.2%} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
