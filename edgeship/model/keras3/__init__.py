"""Models of Keras 3: translated to Keras 2 (tf_keras), in which edgeship trains and quantizes.

Keras 3 is imported when the first model of it comes, and not before: it takes time, and another backend may be missing.
"""

from __future__ import annotations

from typing import Any

from edgeship.model.keras3.recognize import is_keras3_model, require_tensorflow_backend


def as_keras2(model: Any) -> Any:
    """Return a model of Keras 3 translated to Keras 2, and anything else as it is. Raises as `translate`."""
    if not is_keras3_model(model):
        return model
    require_tensorflow_backend()
    from edgeship.model.keras3.translate import translate

    return translate(model)
