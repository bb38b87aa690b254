"""edgeship beside its peers on the same work: one float model, one calibration set, every route to int8.

    python -m benchmarks.peers accuracy CONFIG --out DIR    a trained model: accuracy, SQNR, coverage, size
    python -m benchmarks.peers latency --out DIR            full-width ResNet-34 at 224x224x3, random weights
    python -m benchmarks.peers models PATH...               Keras models of your own (benchmarks/peer_models.py)

`models` prints the table of benchmarks/peer_files.py: every route after training. `accuracy` first runs the
configuration's own pipeline (up to the bundle) in DIR, then builds the peers from its float model. Both others print
a Markdown table and leave report.json with the raw samples. Their rows:

    edgeship        int8 TFLite and int8 ONNX (U8U8 and U8S8) of edgeship's quantization-aware training
    int8-ptq        edgeship's own calibration, without training
    converter-ptq   TFLiteConverter's own post-training quantization of the same network
    stock tfmot     tfmot.quantize_model on the flattened model, same steps, then TFLiteConverter
    from_keras      tf2onnx.convert.from_keras of that stock model
    plain tf2onnx   tf2onnx --tflite of the stock TFLite file, nothing else
    ort u8s8/u8u8   onnxruntime.quantization.quantize_static (QDQ, per channel) of the float ONNX file
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import peer_models
from benchmarks.cells import decibels
from benchmarks.peer_files import OPSET, plain_tf2onnx, print_table
from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.config import Config, DataConfig, ExportConfig, ModelConfig, QuantizeConfig
from edgeship.core.config_file import load_config
from edgeship.core.measurement import Report, Row
from edgeship.core.native_output import quiet_native_output
from edgeship.core.progress import say
from edgeship.data import Images, Splits, load_splits, preprocess, preprocessing_of
from edgeship.export.bundle import source_of_images, write_bundle
from edgeship.export.files import export_files
from edgeship.export.proof.exported import Exported, ExportedFile
from edgeship.export.proof.golden import specs_and_outputs
from edgeship.export.samples import samples_of_images


def main() -> None:
    """Parse, build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    accuracy, latency, models = (commands.add_parser(name) for name in ("accuracy", "latency", "models"))
    accuracy.add_argument("config", nargs="?", type=Path, default=Path("configs/digits.toml"))
    for command in (accuracy, latency):
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--runs", type=int, default=40, help="timed inferences per row")
    latency.add_argument("--size", type=int, default=224, help="image size")
    latency.add_argument("--width", type=int, default=64, help="of ResNet-34")
    peer_models.add_arguments(models)
    options = parser.parse_args()
    if options.what == "models":
        works = peer_models.works(
            options.paths, inputs=options.inputs, weight_scales=options.weight_scales, modules=options.custom_objects
        )
        print_table(works, launches=options.times)
        return
    bench = trained(options) if options.what == "accuracy" else random_weights(options)
    report = measure(*bench, out=options.out, runs=options.runs)
    print(table(report, accuracy=options.what == "accuracy"))


def trained(options: argparse.Namespace) -> tuple:
    """Peers of a trained model: the configuration's own float model, training and test images."""
    from edgeship.model import build

    config = load_config(options.config)
    pipeline = Pipeline(config=config, out=options.out, module_folder=options.config.resolve().parent)
    pipeline.export()
    model = build.load_model(pipeline.float_file)
    ours = [
        ExportedFile(
            name=f"edgeship{suffix}" if scheme == "int8-qat" else f"{scheme}{suffix}", format=suffix.split(".")[-1],
            scheme=scheme, content=(pipeline.bundle_folder / f"{scheme}{suffix}").read_bytes(),
            same_grid_as="edgeship.tflite" if scheme == "int8-qat" and suffix.endswith(".onnx") else None,
        )
        for scheme, suffix in (
            ("int8-qat", ".tflite"), ("int8-qat", ".onnx"), ("int8-qat", "-u8s8.onnx"), ("float32", ".tflite"),
            ("float32", ".onnx"), ("int8-ptq", ".tflite"),
        )
    ]
    return model, ours, pipeline.splits, config, True


def random_weights(options: argparse.Namespace) -> tuple:
    """Peers of an untrained full-width network on noise: for latency only."""
    import tf_keras

    from edgeship.model.prepared import Prepared
    from edgeship.model.resnet import build_resnet
    from edgeship.quantize.lowering.lower import lower
    from edgeship.quantize.prepare import finish, prepare, seed_ranges

    tf_keras.utils.set_random_seed(0)
    options.out.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (48, options.size, options.size, 3), dtype=np.uint8)
    np.savez(options.out / "noise.npz", x=noise, y=np.arange(48) % 10)
    config = Config(
        data=DataConfig(
            name="npz", path=str(options.out / "noise.npz"), image_size=options.size, channels=3,
            calibration_images=20, test_images=10,
        ),
        model=ModelConfig(width=options.width),
        quantize=QuantizeConfig(schemes=("float32", "int8-ptq")),
        export=ExportConfig(golden_images=4),
    )
    splits, spec = load_splits(config.data), preprocessing_of(config.data)
    model = build_resnet(input_shape=(options.size, options.size, 3), classes=10, width=options.width)
    flat = lower(model)
    quantized = prepare(flat, spec=spec, config=config.quantize)
    seed_ranges(quantized, splits.calibration, spec=spec, method=config.quantize.calibration)
    finish(quantized)
    prepared = [Prepared(scheme="float32", model=flat), quantized.prepared("int8-ptq")]
    samples = samples_of_images(splits, spec=spec, golden_images=config.export.golden_images)
    exported = export_files(prepared, samples=samples, config=config, spec=spec, labels=splits.labels)
    ours = [
        replace(file, name=file.name.replace("int8-ptq", "edgeship"), same_grid_as=(
            "edgeship.tflite" if (file.scheme, file.format) == ("int8-ptq", "onnx") else None
        ))
        for file in exported.files
    ]
    return model, ours, splits, config, False


def measure(
    model: object, ours: list[ExportedFile], splits: Splits, config: Config, train: bool, *, out: Path, runs: int
) -> Report:
    """Build the peers, put all files into one bundle, and let `validate` measure it."""
    from edgeship.model import build
    from edgeship.validate.report.report import write_report
    from edgeship.validate.run import validate_bundle
    from edgeship.validate.subject.bundle import load_bundle

    spec = preprocessing_of(config.data)
    float_onnx = next(file.content for file in ours if file.name == "float32.onnx")
    theirs = [*stock_files(model, splits, config, train=train), *ort_files(float_onnx, splits, config)]
    golden = (preprocess(splits.test.images[: config.export.golden_images], spec),)
    files = [
        replace(file, golden_outputs=specs_and_outputs(file.content, format=file.format, inputs=golden)[2])
        for file in (*ours, *theirs)
    ]
    source = source_of_images(
        model, weights_sha256=build.weights_sha256(model), splits=splits, spec=spec, config=config
    )
    exported = Exported(files=tuple(files), golden_inputs=golden, quantization={})
    write_bundle(out / "peers", exported, model=model, source=source)
    chosen = replace(
        config.validate, runtimes=("litert", "onnxruntime", "onnxruntime-unoptimized"), latency_runs=runs,
        latency_seconds=600.0,
    )
    report = validate_bundle(load_bundle(out / "peers"), splits.test, chosen)
    write_report(report, out / "peers-report")
    return report


def stock_files(model: object, splits: Splits, config: Config, *, train: bool) -> Iterator[ExportedFile]:
    """Stock tfmot on the flattened model, and the three ways from it to a file."""
    import tensorflow_model_optimization as tfmot
    import tf2onnx

    from edgeship.export.tflite.convert import convert_tflite
    from edgeship.model.train import Schedule, fit
    from edgeship.quantize.lowering.lower import lower

    yield ExportedFile(
        name="converter-ptq.tflite", format="tflite", scheme="int8-ptq",
        content=converter_ptq(lower(model), splits, config),
    )
    say("peer: stock tfmot")
    spec, settings = preprocessing_of(config.data), config.quantize
    stock = tfmot.quantization.keras.quantize_model(lower(model))
    if train:
        fit(
            stock, splits.train, spec=spec, label="stock tfmot training",
            schedule=Schedule(
                epochs=settings.epochs, batch_size=settings.batch_size, learning_rate=settings.learning_rate,
                augmentation=config.train.augmentation, seed=settings.seed,
            ),
        )
    else:  # one training-mode pass: the input's range starts at 0..0 and would make no integers at all
        stock(preprocess(splits.calibration.images[:4], spec), training=True)
    tflite = convert_tflite(stock, scheme="int8-qat")
    yield ExportedFile(name="stock-tfmot.tflite", format="tflite", scheme="int8-qat", content=tflite)
    say("peer: tf2onnx.convert.from_keras")
    with quiet_native_output():
        import tensorflow as tf

        signature = (tf.TensorSpec((1, *stock.input_shape[1:]), tf.float32, name="image"),)
        direct, _ = tf2onnx.convert.from_keras(stock, input_signature=signature, opset=OPSET)
    yield ExportedFile(name="from-keras.onnx", format="onnx", scheme="int8-qat", content=direct.SerializeToString())
    yield ExportedFile(name="plain-tf2onnx.onnx", format="onnx", scheme="int8-qat", content=plain_tf2onnx(tflite))


def converter_ptq(flat: object, splits: Splits, config: Config) -> bytes:
    """The converter's own post-training quantization, ranges by its own calibration."""
    import tensorflow as tf

    say("peer: the TFLite converter's own post-training quantization")
    spec = preprocessing_of(config.data)
    signature = tf.TensorSpec((1, *flat.input_shape[1:]), tf.float32, name="image")
    serve = tf.function(lambda image: flat(image, training=False), input_signature=[signature], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], flat)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [preprocess(image[None], spec)] for image in splits.calibration.images[:]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with quiet_native_output():
        return converter.convert()


def ort_files(float_onnx: bytes, splits: Splits, config: Config) -> Iterator[ExportedFile]:
    """ONNX Runtime's own static quantization of the float ONNX file, on the same calibration images."""
    from onnxruntime import quantization

    spec = preprocessing_of(config.data)

    class Reader(quantization.CalibrationDataReader):
        """Yields the calibration images one by one under the model's input name."""

        def __init__(self, images: Images) -> None:
            self.batches = iter([{"image": image[None]} for image in preprocess(images.images[:], spec)])

        def get_next(self) -> dict | None:
            return next(self.batches, None)

    for weights in (quantization.QuantType.QInt8, quantization.QuantType.QUInt8):
        name = "ort-u8s8.onnx" if weights == quantization.QuantType.QInt8 else "ort-u8u8.onnx"
        say(f"peer: quantize_static {name}")
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "float.onnx", Path(folder) / name
            source.write_bytes(float_onnx)
            quantization.quantize_static(
                source, target, Reader(splits.calibration), quant_format=quantization.QuantFormat.QDQ,
                per_channel=True, activation_type=quantization.QuantType.QUInt8, weight_type=weights,
            )
            yield ExportedFile(name=name, format="onnx", scheme="int8-ptq", content=target.read_bytes())


def table(report: Report, *, accuracy: bool) -> str:
    """A Markdown table; latency as milliseconds and as a ratio to edgeship's file of the same format."""
    lines = io.StringIO()
    flags = ", ".join(report.machine["cpu_flags"] or ()) or "none of those that matter"
    lines.write(f"CPU: {report.machine['cpu_model']}; flags: {flags}\n\n")
    lines.write("| file | runtime | KiB | integer ops | per-channel | median ms | vs edgeship |")
    lines.write(" top-1 | delta to float [95 % CI], points | SQNR dB |\n" if accuracy else " SQNR dB |\n")
    lines.write("|---" * (10 if accuracy else 8) + "|\n")
    ours = {row.runtime: row for row in report.rows if row.artifact.startswith("edgeship.")}
    for row in report.rows:
        lines.write(f"| {row.artifact} | {row.runtime} | {(row.size_bytes or 0) / 1024:,.0f} ")
        if row.error:
            lines.write(f"| error: {row.error} |\n")
            continue
        lines.write(_speed_cells(row, ours.get(row.runtime)))
        if accuracy and row.accuracy:
            delta, interval = row.accuracy.delta, row.accuracy.delta_ci95
            lines.write(f"| {row.accuracy.top1:.1%} ")
            if delta is not None and interval is not None:
                lines.write(f"| {delta * 100:+.1f} [{interval[0] * 100:+.1f}, {interval[1] * 100:+.1f}] ")
            else:
                lines.write("| not measured ")
        lines.write(f"| {_sqnr_cell(row)} |\n")
    return lines.getvalue()


def _sqnr_cell(row: Row) -> str:
    if row.parity is None:
        return "not measured"
    return decibels(row.parity.sqnr_db)


def _speed_cells(row: Row, ours: Row | None) -> str:
    coverage, latency = row.coverage, row.latency
    integer = f"{coverage.integer}/{coverage.total}" if coverage else "n/a"
    known = coverage is not None and coverage.weighted is not None and coverage.per_channel is not None
    channels = f"{coverage.per_channel}/{coverage.weighted}" if known and coverage else "n/a"
    if latency is None:
        return f"| {integer} | {channels} | not measured | "
    ratio = f"{latency.median_ms / ours.latency.median_ms:.2f}" if ours and ours.latency else "n/a"
    return f"| {integer} | {channels} | {latency.median_ms:.2f} | {ratio} "


if __name__ == "__main__":
    main()
