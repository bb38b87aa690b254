"""One form for one network: names, order and leftovers, so that the same weights give the same bytes.

tf2onnx numbers tensors with a process-global counter and walks sets of objects, so its output differs from run to
run (PYTHONHASHSEED does not help). Here nodes are ordered by a depth-first walk from the outputs, and every name
that a counter made is replaced by one that follows from the graph.
"""

from __future__ import annotations

import re

import onnx

from edgeship.core.errors import ExportError
from edgeship.export.onnx_passes.editing import initializers, producers, rename_tensor
from edgeship.graph.kinds import QDQ

GRAPH_NAME = "edgeship"
# tf2onnx's counter: "Relu__73:0", "resnet/stem_conv_prequant__151:0"; TFLite's own names never have "__<digits>".
COUNTED = re.compile(r"__\d+|:0$|_prequant|_dequant|_quantize$|/feature$|/factor$|/channels_first$")


def canonical(model: onnx.ModelProto) -> None:
    """Order nodes and constants, rename, and strip everything that does not affect the result.

    Ensures: only nodes that reach an output are left; every tensor is named after its TFLite tensor or after the
    tensor it was made from; attributes are sorted; no doc strings, value infos, metadata or empty domains.
    """
    _name_after_tflite(model)
    order = _order(model)
    _drop_constants(model, unread_by=order)
    _rename_counted(model, order)
    constants = initializers(model)
    used = [name for node in order for name in node.input if name in constants]
    del model.graph.node[:]
    model.graph.node.extend(_clean(node) for node in order)
    kept = [constants[name] for name in dict.fromkeys(used)]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    del model.metadata_props[:]
    model.graph.name, model.graph.doc_string, model.doc_string = GRAPH_NAME, "", ""
    model.producer_name, model.producer_version = "edgeship", ""
    kept_imports = [item for item in model.opset_import if item.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(kept_imports)


def _name_after_tflite(model: onnx.ModelProto) -> None:
    """An activation dequantized by "x_dequant" is TFLite's tensor x, whatever tf2onnx called it."""
    constants = initializers(model)
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)}
    present = set(producers(model)) | fixed
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or not node.name.endswith("_dequant"):
            continue
        wanted, current = node.name.removesuffix("_dequant"), node.input[0]
        if current not in constants and current not in fixed and current != wanted and wanted not in present:
            rename_tensor(model, current, wanted)
            present.add(wanted)


def _order(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Depth first from the outputs, inputs before their readers; iterative, since networks are deep.

    Raises ExportError for a node that waits for its own result: two nodes were given one name.
    """
    made_by, order, done = producers(model), [], set()
    waiting: set[str] = set()
    pending = [(made_by[value.name], False) for value in reversed(model.graph.output) if value.name in made_by]
    while pending:
        node, ready = pending.pop()
        key = node.output[0]
        if key in done:
            continue
        if ready:
            done.add(key)
            order.append(node)
            continue
        if key in waiting:
            raise ExportError(f"{key}: the graph reads this tensor before it is made; two tensors have its name")
        waiting.add(key)
        pending.append((node, True))
        pending.extend((made_by[name], False) for name in reversed(node.input) if name in made_by)
    return order


def _drop_constants(model: onnx.ModelProto, *, unread_by: list[onnx.NodeProto]) -> None:
    """Constants that a pass left behind would stand in the way of the names that follow from the graph."""
    read = {name for node in unread_by for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _rename_counted(model: onnx.ModelProto, order: list[onnx.NodeProto]) -> None:
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)}
    stable = {name for node in order for name in node.output if not COUNTED.search(name)} | fixed
    constants = initializers(model)
    names: dict[str, str] = {}
    taken = set(stable)
    for node in order:
        for position, name in enumerate(node.input):
            node.input[position] = names.get(name, name)
        source = next((name for name in node.input if name and name not in constants), node.input[0])
        for position, output in enumerate(node.output):
            if output in stable:
                continue
            names[output] = _unused(f"{source}/{node.op_type}", taken)
            node.output[position] = names[output]
        node.name = node.output[0]
    # Constants last: all but TFLite's own (kernels, biases) are named after the node that reads them.
    for node in order:
        for position, name in enumerate(node.input):
            if name in constants and (position > 0 or node.op_type != "DequantizeLinear" or COUNTED.search(name)):
                wanted = _unused(f"{node.output[0]}/{_role(node, position)}", taken)
                constants[name].name = wanted
                node.input[position] = wanted


def _role(node: onnx.NodeProto, position: int) -> str:
    if node.op_type in QDQ:
        return ("values", "scale", "zero_point")[position]
    if node.op_type == "Conv":
        return ("data", "kernel", "bias")[position]
    return f"input{position}"


def _unused(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}{count}"
    taken.add(candidate)
    return candidate


def _clean(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node with sorted attributes and without what tf2onnx sometimes sets and sometimes does not."""
    fresh = onnx.helper.make_node(node.op_type, list(node.input), list(node.output), name=node.name)
    if node.domain:
        fresh.domain = node.domain
    fresh.attribute.extend(sorted(node.attribute, key=lambda item: item.name))
    return fresh
