"""An integer TFLite file and the ONNX file made of it, run side by side: whole, and layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeship.export.checks import check_onnx
from edgeship.export.onnx.convert import convert_onnx
from edgeship.graph import read_onnx, read_tflite
from edgeship.graph.columns import with_plain_columns
from edgeship.graph.kinds import MOVES
from edgeship.graph.layouts import Layouts
from edgeship.graph.matching import match
from edgeship.validate.probes.layers import Layers


def onnx_of(tflite, *, variant="u8u8"):
    """The ONNX file on the TFLite file's grid, held against every promise of its scheme."""
    content = convert_onnx(tflite, variant=variant)
    check_onnx(content, name="model.onnx", activations="uint8", weights="uint8")
    return content


def codes_of(tflite, inputs):
    """Real inputs as the file's int8 codes: by input name, every example of the batch."""
    runner = Interpreter(model_content=tflite).get_signature_runner()
    details = runner.get_input_details()
    codes = {}
    for name, values in inputs.items():
        scale, zero_point = details[name]["quantization"]
        codes[name] = np.clip(np.rint(values / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)
    return codes


def tflite_answers(tflite, codes):
    """The outputs' codes by name, for every example; XNNPACK runs what it can, as it does on a device."""
    runner = Interpreter(model_content=tflite).get_signature_runner()
    count = len(next(iter(codes.values())))
    answers = [runner(**{name: values[index : index + 1] for name, values in codes.items()}) for index in range(count)]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def onnx_answers(onnx, codes):
    """The same of the ONNX file, as int8."""
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    shifted = {name: (values.astype(np.int16) + 128).astype(np.uint8) for name, values in codes.items()}
    count = len(next(iter(codes.values())))
    answers = [
        session.run(names, {name: values[index : index + 1] for name, values in shifted.items()})
        for index in range(count)
    ]
    return {
        name: (np.concatenate(found).astype(np.int16) - 128).astype(np.int8)
        for name, found in zip(names, zip(*answers, strict=True), strict=True)
    }


def largest_difference(one, other):
    """In steps of the outputs, over all of them."""
    return max(
        int(np.abs(one[name].astype(np.int16) - other[name].astype(np.int16)).max(initial=0)) for name in one
    )


def layer_differences(tflite, onnx, codes, folder):
    """Each layer of the ONNX file on the integers that LiteRT computed.

    Returns:
        ({layer: its largest difference in LSB}, {layer: why it could not be compared}).
    """
    paths = Path(folder) / "model.tflite", Path(folder) / "model.onnx"
    for path, content in zip(paths, (tflite, onnx), strict=True):
        path.write_bytes(content)
    first, second = read_tflite(tflite, where=paths[0]), with_plain_columns(read_onnx(onnx, where=paths[1]))
    matching = match(first, second)
    layouts, kept = Layouts(first, second, matching), _kept_tensors(tflite, codes)
    given, untold = {}, {}
    for pair in matching.pairs:
        maker = second.producers.get(pair.onnx.name)
        if (maker is not None and maker.kind in MOVES) or pair.onnx.name in given or pair.tflite.name not in kept:
            continue
        order = layouts.order(pair) if pair.same_integers else None
        if order is None:
            untold[pair.onnx.name] = "no layout"
        else:
            values = kept[pair.tflite.name]
            given[pair.onnx.name] = values.reshape(len(values), -1)[:, order]
    answer = Layers(str(paths[1]), threads=1).compare(given, progress=lambda done: None)
    return (
        {item["name"]: item["max_lsb"] for item in answer["layers"]},
        {**dict(answer["skipped"]), **{name: why for name, why in untold.items() if name not in given}},
    )


def _kept_tensors(tflite, codes):
    interpreter = Interpreter(
        model_content=tflite, experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    # An interpreter that has given a runner away cannot be asked itself any more.
    runner = Interpreter(model_content=tflite).get_signature_runner()
    places = {name: detail["index"] for name, detail in runner.get_input_details().items()}
    computed = {int(index) for item in interpreter._get_ops_details() for index in item["outputs"]}
    kept = {}
    for index in range(len(next(iter(codes.values())))):
        for name, place in places.items():
            interpreter.set_tensor(place, codes[name][index : index + 1])
        interpreter.invoke()
        for item in interpreter.get_tensor_details():
            if item["index"] in {*places.values(), *computed} and item["dtype"] == np.int8:
                kept.setdefault(item["name"], []).append(interpreter.get_tensor(item["index"]).reshape(-1))
    return {name: np.stack(values) for name, values in kept.items()}
