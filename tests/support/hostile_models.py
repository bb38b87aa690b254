"""Saved models that try to run code of theirs; each leaves a marker where the code ran, and does nothing else."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import tf_keras
from tf_keras import layers

IMAGE = (8, 8, 1)
MODULE = "imported_by_a_hostile_model"


def write_module(folder: Path, marker: Path) -> None:
    """A module that leaves the marker when it is imported, and when its function or class is used."""
    (folder / f"{MODULE}.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).write_text('imported')\n"
        "def run(x, *rest, **options):\n"
        f"    Path({str(marker)!r}).write_text('ran')\n"
        "    return x\n"
        "class Runs:\n"
        "    @classmethod\n"
        "    def from_config(cls, config):\n"
        "        return run\n"
    )


def network(*middle: layers.Layer) -> tf_keras.Model:
    """A small classifier with `middle` before its head; without it, a layer called "target" stands there."""
    x = image = layers.Input(IMAGE, name="image")
    x = layers.Conv2D(4, 3, name="conv")(x)
    for layer in middle or (layers.ReLU(name="target"),):
        x = layer(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return tf_keras.Model(image, layers.Dense(3, activation="softmax", name="probabilities")(x), name="small")


def byte_code(marker: Path) -> layers.Layer:
    """A Lambda layer whose byte code leaves the marker."""
    run = eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).write_text('ran'), x)[1]")
    return layers.Lambda(run, name="payload")


def with_byte_code(marker: Path) -> dict[str, tf_keras.Model]:
    """Models with such a layer, by where it is."""
    inner = tf_keras.Sequential([layers.Input((6, 6, 4)), byte_code(marker)], name="inner")
    return {
        "plain": network(byte_code(marker)),
        "submodel": network(inner),
        "time-distributed": network(layers.TimeDistributed(byte_code(marker), name="steps")),
    }


def _function(**changes: Any) -> dict[str, Any]:
    return {"class_name": "function", "module": MODULE, "config": "run", "registered_name": "run", **changes}


def _lambda(function: Any) -> dict[str, Any]:
    return {
        "class_name": "Lambda", "module": "keras.layers", "registered_name": None,
        "config": {"function": function, "function_type": "function", "module": MODULE, "output_shape": None,
                   "output_shape_type": "raw", "output_shape_module": None, "arguments": {}},
    }


def entries(marker: Path) -> dict[str, dict[str, Any]]:
    """What may stand in the place of a layer in a configuration, and tries to run something."""
    relu = {"class_name": "Activation", "module": "keras.layers", "registered_name": None}
    operator = {"module": "tf_keras.src.layers.core.tf_op_layer", "registered_name": "TFOpLambda"}
    conv = {"filters": 4, "kernel_size": [3, 3]}
    return {
        "function Lambda": _lambda(_function()),
        "function Lambda by name": _lambda("run"),
        "class of a module": {"class_name": "Runs", "module": MODULE, "registered_name": "Runs", "config": {}},
        "class with another registered name": {
            "class_name": "edgeship>Clip", "module": MODULE, "registered_name": "Runs", "config": {},
        },
        "known name out of a module": {
            "class_name": "ReLU", "module": MODULE, "registered_name": "Runs", "config": {},
        },
        "activation": {**relu, "config": {"activation": _function()}},
        "activation by __lambda__": {
            **relu, "config": {"activation": {"class_name": "__lambda__", "config": {"value": ["4wA=", None, None]}}},
        },
        "activation out of builtins": {**relu, "config": {"activation": _function(module="builtins", config="eval")}},
        "initializer": {
            "class_name": "Conv2D", "module": "keras.layers", "registered_name": None,
            "config": {**conv, "kernel_initializer": {
                "class_name": "Runs", "module": MODULE, "config": {}, "registered_name": "Runs"}},
        },
        "dtype": {
            "class_name": "ReLU", "module": "keras.layers", "registered_name": None,
            "config": {"dtype": {"class_name": "Runs", "module": MODULE, "config": {}, "registered_name": None}},
        },
        "bidirectional": {
            "class_name": "Bidirectional", "module": "keras.layers", "registered_name": None,
            "config": {"layer": {"class_name": "RNN", "module": "keras.layers", "registered_name": None, "config": {
                "cell": {"class_name": "Runs", "module": MODULE, "config": {}, "registered_name": None}}}},
        },
        "operator that writes": {
            "class_name": "TFOpLambda", **operator, "config": {"function": "io.write_file"},
            "inbound_nodes": [[["conv", 0, 0, {"contents": "ran"}]]],
        },
        "operator that prints into a file": {
            "class_name": "TFOpLambda", **operator, "config": {"function": "print"},
            # Of constants alone: it is called while the model is built.
            "inbound_nodes": [[["_CONSTANT_VALUE", -1, "ran", {"output_stream": f"file://{marker}"}]]],
        },
        "operator of raw_ops": {
            "class_name": "TFOpLambda", **operator, "config": {"function": "raw_ops.WriteFile"},
            "inbound_nodes": [[["conv", 0, 0, {"filename": str(marker), "contents": "ran"}]]],
        },
        "operator under a prefix": {
            "class_name": "SlicingOpLambda", **operator, "config": {"function": "compat.v1.py_func"},
        },
        "class method": {"class_name": "ClassMethod", "module": None, "registered_name": None,
                         "config": {"cls_symbol": "io.TFRecordWriter", "method_name": "write"}},
        "instance method": {"class_name": "InstanceMethod", "module": None, "registered_name": None,
                            "config": {"attr_name": "__class__"}},
        "node of a graph": {"class_name": "TensorFlowOpLayer", "module": None, "registered_name": None,
                            "config": {"node_def": "{}", "name": "node"}},
        "vocabulary file": {"class_name": "StringLookup", "module": "keras.layers", "registered_name": None,
                            "config": {"vocabulary": str(marker)}},
        "type of a tensor": {
            "class_name": "InputLayer", "module": "keras.layers", "registered_name": None,
            "config": {"type_spec": {"class_name": "__typespec__", "spec_name": "Runs", "module": MODULE,
                                     "registered_name": None, "config": []}},
        },
        "builtins": {"class_name": "__builtins__", "module": "builtins", "registered_name": None, "config": {}},
        "name that is a list": {"class_name": ["Lambda"], "module": None, "registered_name": None, "config": {}},
    }


def put(entry: dict[str, Any]) -> Callable[[Any], None]:
    """Put `entry` in the place of the layer "target", with its connections where the entry has none."""

    def change(config: Any) -> None:
        (layer,) = [item for item in config["config"]["layers"] if item["config"]["name"] == "target"]
        kept = {key: layer[key] for key in ("name", "inbound_nodes") if key in layer}
        layer.clear()
        layer.update({**kept, **entry, "config": {**entry["config"], "name": "target"}})

    return change


def rewrite(path: Path, change: Callable[[Any], None]) -> Path:
    """Change the configuration in a saved model, in place."""
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**parts, "config.json": json.dumps(config).encode()}.items():
            archive.writestr(name, content)
    return path
