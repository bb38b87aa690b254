"""What in the configuration of a saved Keras model carries or names code: refused before anything is built from it.

tf_keras builds a model by looking up names that the file gives. It unmarshals and runs byte code (Lambda layers; its
`safe_mode` covers only part of them), imports any module that a "module" key names and takes any object out of it
(serialization_lib.py, `_retrieve_class_or_fn`), calls any function of TensorFlow's interface that a TFOpLambda layer
names (`io.write_file`), and reads any attribute that an InstanceMethod layer names. So nothing is let through here that
is not known to be harmless: classes and functions of Keras by name, operators that only compute, and what the user
has registered, which is the user's own code and not the file's.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tf_keras

from edgeship.core.errors import ModelError
from edgeship.model.keras_operators import OPERATORS

# A layer of a model of a model takes six of these; tf_keras itself recurses, at some ten frames each.
DEEPEST_CONFIG = 96
OPERATOR_LAYERS = ("TFOpLambda", "SlicingOpLambda")
# Plain values, by how they are written: tf_keras' serialization_lib.py and legacy/saved_model/json_utils.py.
DATA_FORMS = frozenset({"__tensor__", "__numpy__", "__bytes__", "__tuple__", "__ellipsis__", "TensorShape"})
TYPE_FORMS = frozenset({"__typespec__", "TypeSpec", "CompositeTensor"})
MODELS = ("Functional", "Model", "Sequential")
# Of Keras' own layers those that hold Python code, or read a file that their configuration names (`vocabulary`).
CODE_LAYERS = frozenset({"Lambda", "__lambda__"})
READING_LAYERS = frozenset({"StringLookup", "IntegerLookup", "TextVectorization", "DenseFeatures"})
# Activations that Keras takes by a function's name, beside its own.
ACTIVATIONS = ("relu6", "leaky_relu", "log_softmax", "silu", "crelu", "exponential")
KERAS_MODULE = re.compile(r"(tf_)?keras(\.\w+)*")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What the configurations of one version of Keras may name.

    Args:
        registered: gives the classes and functions that the user has registered, by name.
        classes: gives the names of Keras' own classes that are harmless in a configuration.
        functions: gives the names of Keras' own functions that are.
        data_forms: names of classes that only say how a plain value is written.
        code_layers: classes that hold code.
        reading_layers: classes that read a file which their configuration names.
    """

    registered: Callable[[], Mapping[str, Any]]
    classes: Callable[[], frozenset[str]]
    functions: Callable[[], frozenset[str]]
    data_forms: frozenset[str]
    code_layers: frozenset[str]
    reading_layers: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """The end of a message: what to do about code in a file, and about a class that is not known."""

    code: str
    unknown_class: str


FOR_MODELS = Remedies(
    code="make it a layer class of your own, registered (@tf_keras.utils.register_keras_serializable) in a module that "
    "model.custom_objects names, or, where you trust the file to run its code here, set model.trust_code = true",
    unknown_class="register it (@tf_keras.utils.register_keras_serializable) in a module that model.custom_objects "
    "names, or, where you trust the file to import and run what it names, set model.trust_code = true",
)
FOR_PYTHON = Remedies(
    code="make it a layer class of your own, registered (@tf_keras.utils.register_keras_serializable), or, where you "
    "trust the file to run its code here, load it yourself (tf_keras.models.load_model) and give the model",
    unknown_class="register it (@tf_keras.utils.register_keras_serializable) before this call, or, where you trust the "
    "file to import and run what it names, load it yourself (tf_keras.models.load_model) and give the model",
)
FOR_WEIGHTS = Remedies(
    code="weights are read from networks of Keras' and edgeship's layers alone",
    unknown_class="weights are read from networks of Keras' and edgeship's layers alone",
)
FOR_BUNDLES = Remedies(
    code="a bundle never runs code of its own; export it again from a model without it",
    unknown_class="a bundle brings no code along, and this one was made by an older version; export it again",
)


class _Unfit(Exception):
    """What is wrong with an entry, as part of a sentence."""

    def __init__(self, text: str, *, is_class: bool = False) -> None:
        super().__init__(text)
        self.is_class = is_class  # a class or function of the user's, most likely


@dataclass(frozen=True, kw_only=True)
class _Named:
    """One entry of a configuration that names a class or a function, and the layer it belongs to."""

    entry: dict[str, Any]
    layer: str


def check_config(
    config: Any, *, where: str, remedies: Remedies, own: Mapping[str, Any], words: Vocabulary | None = None
) -> None:
    """Refuse a configuration that carries or names code.

    Args:
        config: the parsed JSON of a saved model.
        where: the file, for messages.
        own: classes and functions of the user's, by the names that the file may use beside those that are registered.
        words: of the Keras that saved it, which is Keras 2 unless it is given.

    Raises:
        ModelError: nested too deep, or something in it is not known to be harmless; the message names the layer.
    """
    words = words or KERAS2
    known = {**words.registered(), **own}
    for named in _named(config, where):
        try:
            _check(named.entry, known, words)
        except _Unfit as unfit:
            layer = f"layer {named.layer!r}: " if named.layer else ""
            remedy = remedies.unknown_class if unfit.is_class else remedies.code
            raise ModelError(f"{where}: {layer}{unfit}; {remedy}") from None


def defined_in(modules: tuple[str, ...]) -> dict[str, Any]:
    """The classes and functions that imported modules define themselves, by name; not what they import."""
    return {
        name: item
        for module in modules
        for name, item in vars(sys.modules[module]).items()
        if isinstance(item, type | types.FunctionType) and item.__module__ == module and item.__name__ == name
    }


def without_compile_config(config: Any) -> Any:
    """The configuration without losses, metrics and optimizers, at every depth: nothing here trains with them."""
    if isinstance(config, list):
        return [without_compile_config(item) for item in config]
    if isinstance(config, dict):
        dropped = {"compile_config"} if "class_name" in config else set()
        return {key: without_compile_config(value) for key, value in config.items() if key not in dropped}
    return config


def _named(config: Any, where: str) -> Iterator[_Named]:
    """Every entry with a class name, wherever it is."""
    waiting: list[tuple[Any, int, str]] = [(config, 0, "")]
    while waiting:
        value, depth, layer = waiting.pop()
        if depth > DEEPEST_CONFIG:
            raise ModelError(
                f"{where}: its configuration is nested more than {DEEPEST_CONFIG} deep; save a model with fewer models "
                "within each other"
            )
        if isinstance(value, dict):
            inner = value.get("config")
            if isinstance(inner, dict) and isinstance(inner.get("name"), str):
                layer = inner["name"]
            if "class_name" in value:
                yield _Named(entry=value, layer=layer)
            waiting += [(item, depth + 1, layer) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1, layer) for item in value]


def _check(entry: dict[str, Any], known: Mapping[str, Any], words: Vocabulary) -> None:
    """Raise _Unfit unless the entry is harmless in every place where Keras could look its names up.

    The older form knows `class_name` alone; the newer one takes `registered_name`, then `class_name` or
    `registered_name` out of `module`. Which form an entry is read by does not depend on the entry alone, so it must be
    harmless by both.
    """
    name, module, registered = entry["class_name"], entry.get("module"), entry.get("registered_name")
    if not isinstance(name, str) or not all(item is None or isinstance(item, str) for item in (module, registered)):
        raise _Unfit("the name of a class is no text")
    if name in words.data_forms:
        return
    if name in words.code_layers:
        raise _Unfit(f"it holds Python code ({name}), which is not run")
    if name in TYPE_FORMS:
        raise _Unfit(f"it describes a tensor by {name}, which may name code")
    if name == "function":
        _check_function(entry, known, words)
        return
    if registered is not None and getattr(known.get(registered), "__name__", None) == name:
        return
    _check_module(module, name)
    if registered not in (None, name) and registered not in known:
        raise _Unfit(f"it is of the class {name!r}, registered as {registered!r}, which is not known", is_class=True)
    if name in OPERATOR_LAYERS:
        _check_operator(entry)
    elif name in words.reading_layers:
        raise _Unfit(f"{name} may read a file that the configuration names; it has no place in a network for images")
    elif name not in known and name not in words.classes():
        raise _Unfit(
            f"it is of the class {name!r}, which is none of Keras' plain layers and is not registered", is_class=True
        )


def _check_module(module: str | None, name: str) -> None:
    if module not in (None, "builtins") and not KERAS_MODULE.fullmatch(module):
        raise _Unfit(f"it names code, {name!r} of the module {module!r}, which is not imported for it", is_class=True)


def _check_function(entry: dict[str, Any], known: Mapping[str, Any], words: Vocabulary) -> None:
    """Keras takes the function by "config" or by "registered_name", depending on the place it stands in."""
    name, module, registered = entry.get("config"), entry.get("module"), entry.get("registered_name")
    if not isinstance(name, str):
        raise _Unfit("the name of a function is no text")
    if name in known and (registered in (None, "function", name) or registered in known):
        return
    _check_module(module, name)
    if {name, registered} - {None, "function"} - words.functions():
        raise _Unfit(f"it names code, the function {name!r}, which is no activation of Keras", is_class=True)


def _check_operator(entry: dict[str, Any]) -> None:
    config = entry.get("config")
    operator = config.get("function") if isinstance(config, dict) else None
    plain = operator.removeprefix("compat.v1.").removeprefix("compat.v2.") if isinstance(operator, str) else ""
    if plain not in OPERATORS and not plain.startswith("__operators__."):
        raise _Unfit(f"it names code, TensorFlow's {operator!r}, which is not known to do nothing but compute")


def _keras_classes() -> frozenset[str]:
    """Layers, models, initializers, regularizers, constraints and policies of Keras, without those that hold code."""
    if not _CLASSES:  # filled when it is first asked for, since it takes a moment
        for part, base in (
            (tf_keras.layers, tf_keras.layers.Layer), (tf_keras.initializers, tf_keras.initializers.Initializer),
            (tf_keras.regularizers, tf_keras.regularizers.Regularizer),
            (tf_keras.constraints, tf_keras.constraints.Constraint),
        ):
            found = {name: item for name, item in vars(part).items() if isinstance(item, type)}
            _CLASSES.update(name for name, item in found.items() if issubclass(item, base))
        # GRUV2 and the like are what older files call what is now GRU.
        versions = {f"{name}V{version}" for name in _CLASSES for version in (1, 2)}
        _CLASSES.update(versions, MODELS, ("Policy", "PolicyV1", "SyncBatchNormalization"))
        _CLASSES.difference_update(CODE_LAYERS, READING_LAYERS)
    return frozenset(_CLASSES)


def _keras_functions() -> frozenset[str]:
    own = vars(tf_keras.activations)
    names = [name for name in own if not name.startswith("_") and name not in ("get", "serialize", "deserialize")]
    return frozenset((*names, *ACTIVATIONS))


_CLASSES: set[str] = set()
KERAS2 = Vocabulary(
    registered=tf_keras.utils.get_custom_objects, classes=_keras_classes, functions=_keras_functions,
    data_forms=DATA_FORMS, code_layers=CODE_LAYERS, reading_layers=READING_LAYERS,
)
