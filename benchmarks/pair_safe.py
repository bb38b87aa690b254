"""Ranges of weights that cannot saturate, compared on one network: what each costs, and what wins some of it back.

    python -m benchmarks.pair_safe runs/digits --config configs/digits.toml

Reads the bundle's float32.onnx and int8-ptq.onnx (u8u8), puts the integers of each way into the second file, and runs
it on the test images with ONNX Runtime; u8u8 is exact everywhere, so these are the answers of an exact u8s8 file.
Nothing is trained.

    8 bits             range: the largest weight of the channel
    pair-safe          range: the largest sum of two neighbours of one sign (quantize/pair_range.py)
    7 bits             codes of +-63
    searched           of smaller ranges of each channel the one of the least error, its unsafe pairs made smaller; the
                       error counts each weight by the mean square of its input on calibration images
    bias corrected     the mean of the error on calibration images is taken from the bias (least squares of a constant)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from edgeship.core.artifact import MANIFEST_FILE, TensorSpec, manifest_from_json
from edgeship.core.config_file import load_config
from edgeship.core.integers import dequantize, quantize, sqnr_db
from edgeship.data import load_splits, preprocess
from edgeship.graph import Graph, WeightedOperation, read_graph
from edgeship.graph.saturation import pair_sums, reduction_rows

CALIBRATION_IMAGES = 64
LARGEST_PAIR = 128
FACTORS = np.linspace(0.6, 1.0, 17)  # of the closed form's range, which the search tries
Rounded = tuple[np.ndarray, np.ndarray]  # codes (outputs, reduction), scales (outputs,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel:
    """The float weights of one product, with what its input is like on calibration images."""

    rows: np.ndarray  # float64 (outputs, reduction)
    mean: np.ndarray  # (reduction,) of the input that each weight meets
    mean_square: np.ndarray
    per_tensor: bool  # one scale for all outputs

    def ranges(self, each: np.ndarray) -> np.ndarray:
        """One range per output, or the largest for all."""
        return np.full(len(each), each.max()) if self.per_tensor else each


def largest(rows: np.ndarray) -> np.ndarray:
    """The largest |weight| of each output."""
    found: np.ndarray = np.abs(rows).max(axis=1)
    return found


def largest_pair(rows: np.ndarray) -> np.ndarray:
    """The largest sum of two neighbours of one sign, of each output."""
    wide = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
    found: np.ndarray = np.maximum(np.maximum(wide, 0).sum(-1), np.maximum(-wide, 0).sum(-1)).max(axis=1)
    return found


def closed_form(range_of: Callable[[np.ndarray], np.ndarray], largest_code: int) -> Callable[[Kernel], Rounded]:
    """The nearest codes on a range."""
    def rounded(kernel: Kernel) -> Rounded:
        scales = np.maximum(kernel.ranges(range_of(kernel.rows)), 1e-6) / largest_code
        return np.rint(kernel.rows / scales[:, None]), scales
    return rounded


def searched(kernel: Kernel) -> Rounded:
    """Of several ranges below the pair-safe one, the one of the least error for each output."""
    tried = []
    for factor in FACTORS:
        scales = np.maximum(kernel.ranges(largest_pair(kernel.rows)) * factor, 1e-6) / 127
        codes = _made_safe(np.clip(np.rint(kernel.rows / scales[:, None]), -127, 127))
        errors = ((codes * scales[:, None] - kernel.rows) ** 2 * kernel.mean_square).sum(axis=1)
        tried.append((codes, scales, np.full_like(errors, errors.sum()) if kernel.per_tensor else errors))
    best = np.argmin([errors for _, _, errors in tried], axis=0)
    codes = np.array([tried[at][0][row] for row, at in enumerate(best)])
    return codes, np.array([tried[at][1][row] for row, at in enumerate(best)])


def _made_safe(codes: np.ndarray) -> np.ndarray:
    """Codes whose unsafe pairs lose their excess, half of it each."""
    odd = codes.shape[1] % 2
    pairs = np.pad(codes, ((0, 0), (0, odd))).reshape(len(codes), -1, 2)
    for sign in (1, -1):
        excess = np.where((pairs * sign > 0).all(axis=-1), (pairs * sign).sum(axis=-1) - LARGEST_PAIR, 0)
        excess = np.maximum(excess, 0)
        pairs[..., 0] -= sign * ((excess + 1) // 2)
        pairs[..., 1] -= sign * (excess // 2)
    flat = pairs.reshape(len(codes), -1)
    return flat[:, : codes.shape[1]]


WAYS: dict[str, Callable[[Kernel], Rounded]] = {
    "8 bits": closed_form(largest, 127),
    "pair-safe": closed_form(largest_pair, 127),
    "7 bits": closed_form(largest, 63),
    "pair-safe, searched": searched,
}


class Study:
    """A network's float and int8 file, and the images that it is asked."""

    def __init__(self, bundle: Path, config: Path) -> None:
        manifest = manifest_from_json((bundle / MANIFEST_FILE).read_text(), where=bundle)
        splits = load_splits(load_config(config).data)
        assert manifest.preprocessing is not None
        self.images = preprocess(splits.test.images, manifest.preprocessing)
        self.labels = splits.test.labels
        self.float_path, self.path = bundle / "float32.onnx", bundle / "int8-ptq.onnx"
        self.float_graph, self.graph = read_graph(self.float_path), read_graph(self.path)
        artifact = next(item for item in manifest.artifacts if item.name == self.path.name)
        (self.input,), (self.output,) = artifact.inputs, artifact.outputs
        calibration = preprocess(splits.calibration.images[:CALIBRATION_IMAGES], manifest.preprocessing)
        self.kernels = list(self._kernels(calibration))
        self.floats = answers(onnx.load(self.float_path), self.images)

    def measure(self, way: Callable[[Kernel], Rounded], *, corrected: bool) -> tuple[float, float, float, float]:
        """Top-1, agreement with float, SQNR of the answers in dB, and of the weighted kernels in dB."""
        model = onnx.load(self.path)
        constants = {item.name: item for item in model.graph.initializer}
        noise = []
        for kernel, float_product, product in zip(
            self.kernels, self.float_graph.weighted_operations(), self.graph.weighted_operations(), strict=True
        ):
            codes, scales = way(kernel)
            error = kernel.rows - codes * scales[:, None]
            noise.append((error**2 * kernel.mean_square).sum() / (kernel.rows**2 * kernel.mean_square).sum())
            assert float_product.bias is not None and float_product.bias.data is not None
            bias = float_product.bias.data.astype(np.float64) + (error @ kernel.mean if corrected else 0)
            _put(constants, self.graph, product, codes, scales, bias)
        integers = answers(model, quantize(self.images, self.input))
        found = dequantize(integers, self.output)
        decisions, floats = found.argmax(-1), self.floats.argmax(-1)
        return (
            float(np.mean(decisions == self.labels)), float(np.mean(decisions == floats)),
            sqnr_db(self.floats, found) or np.inf, float(-10 * np.log10(np.mean(noise))),
        )

    def _kernels(self, calibration: np.ndarray) -> Iterator[Kernel]:
        products = self.float_graph.weighted_operations()
        names = list(dict.fromkeys(item.operation.inputs[0] for item in products))
        model = onnx.load(self.float_path)
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
        session = _session(model)
        sums: dict[str, list[np.ndarray]] = {name: [] for name in names}
        squares: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for image in calibration:
            found = session.run(names, {self.float_graph.inputs[0]: image[None]})
            for name, value in zip(names, found, strict=True):  # channels are the second axis
                others = tuple(axis for axis in range(value.ndim) if axis != 1)
                sums[name].append(value.mean(others))
                squares[name].append((value**2).mean(others))
        for item, integer in zip(products, self.graph.weighted_operations(), strict=True):
            assert item.weights.data is not None and integer.weights.scales is not None
            rows = _rows(item.weights.data).astype(np.float64)
            name = item.operation.inputs[0]
            mean, square = (np.mean(told[name], axis=0) for told in (sums, squares))
            times = rows.shape[1] // mean.size
            yield Kernel(
                rows=rows, mean=np.tile(mean, times), mean_square=np.tile(square, times),
                per_tensor=integer.weights.scales.size == 1,
            )


def answers(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """What a file answers, image by image."""
    session = _session(model)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _rows(weights: np.ndarray) -> np.ndarray:
    return reduction_rows(weights) if weights.ndim > 2 else weights.T


def _put(
    constants: dict[str, onnx.TensorProto], graph: Graph, product: WeightedOperation, codes: np.ndarray,
    scales: np.ndarray, bias: np.ndarray,
) -> None:
    """Put codes, scales and bias of one product into the file."""
    assert product.bias is not None and product.input.scales is not None and product.weights.data is not None
    shape = product.weights.data.shape
    kernel = codes.T if len(shape) == 2 else np.moveaxis(codes.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
    floats, input_scale = scales.astype(np.float32), product.input.scales[0]
    spec = TensorSpec(name="", shape=bias.shape, dtype="int32")
    integers = np.rint(bias / (input_scale.astype(np.float64) * scales)).astype(spec.dtype)
    for name, values, own in (
        (product.weights.name, (kernel + 128).astype(np.uint8), floats),
        (product.bias.name, integers, (input_scale * floats).astype(np.float32)),
    ):
        reader = next(item for item in graph.consumers[name] if item.kind == "DequantizeLinear")
        old = numpy_helper.to_array(constants[reader.inputs[1]])
        constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
        constants[reader.inputs[1]].CopyFrom(
            numpy_helper.from_array(own[: old.size].reshape(old.shape), reader.inputs[1])
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a folder with a bundle of float32 and int8-ptq, ONNX among the formats")
    parser.add_argument("--config", type=Path, required=True, help="its configuration")
    options = parser.parse_args()
    study = Study(options.run / "bundle", options.config)
    print("| weights | unsafe pairs | top-1 | agreement | SQNR of answers, dB | of weights, dB |")
    print("|---|---|---|---|---|---|")
    for name, way in WAYS.items():
        unsafe = sum(
            int(np.count_nonzero((positive > LARGEST_PAIR) | (negative < -LARGEST_PAIR)))
            for positive, negative in (pair_sums(way(kernel)[0]) for kernel in study.kernels)
        )
        for corrected in (False, True):
            top1, agreement, answers_db, weights_db = study.measure(way, corrected=corrected)
            label = f"{name}, bias corrected" if corrected else name
            print(f"| {label} | {unsafe:,} | {top1:.1%} | {agreement:.1%} | {answers_db:.1f} | {weights_db:.1f} |")


if __name__ == "__main__":
    main()
