"""A child process of its own: copies the numbers of a TensorFlow checkpoint. `python checkpoint_copy.py PREFIX FOLDER`.

TensorFlow's reader is native code; the parent opens nothing but the copy. FOLDER gets `numbers.npz`, an array per entry
("0", "1", ...), and `objects.json`: a list of the saved objects, each with its children by name (places in that list)
and, of a variable, the entry that has its numbers. What cannot be copied is one line on standard output, exit code 3
(4: the copy could not be written). Needs TensorFlow and NumPy alone, and imports nothing of edgeship.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REFUSED, NOT_WRITTEN = 3, 4
NUMBERS_FILE, OBJECTS_FILE = "numbers.npz", "objects.json"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "VARIABLE_VALUE"  # the name of the attribute in which a variable keeps its numbers


def read(prefix: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the saved objects, and the numbers of their variables by entry."""
    import tensorflow as tf
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    reader = tf.train.load_checkpoint(prefix)
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor(GRAPH))
    entries: dict[str, str] = {}
    objects = []
    for node in graph.nodes:
        keys = [attribute.checkpoint_key for attribute in node.attributes if attribute.name == VALUE]
        objects.append({
            "children": {child.local_name: child.node_id for child in node.children},
            "entry": entries.setdefault(keys[0], str(len(entries))) if keys else None,
        })
    numbers = {entry: reader.get_tensor(key) for key, entry in entries.items() if reader.has_tensor(key)}
    return objects, {entry: array for entry, array in numbers.items() if array.dtype.kind in "biuf"}


def main(prefix: str, folder: str) -> int:
    """Copy, and return the exit code."""
    import numpy as np

    try:
        objects, numbers = read(prefix)
    # What TensorFlow and protobuf raise on damaged bytes.
    except Exception as error:  # noqa: BLE001
        sys.stdout.write(f"{type(error).__name__}: {error}".partition("\n")[0])
        return REFUSED
    try:
        np.savez(Path(folder) / NUMBERS_FILE, **numbers)
        (Path(folder) / OBJECTS_FILE).write_text(json.dumps(objects), encoding="utf-8")
    except OSError as error:
        sys.stdout.write(error.strerror or str(error))
        return NOT_WRITTEN
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
