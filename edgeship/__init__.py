"""edgeship: train once, ship two.

A Keras model with custom layers goes in; int8 TFLite and int8 ONNX come out on one integer grid, and every
artifact is proven against the float Keras model before it ships.

Importing this package imports no TensorFlow. It only sets the two switches TensorFlow reads when it is first
imported, here and nowhere else, because every stage imports the core before it imports TensorFlow.
"""

import os

# tensorflow-model-optimization 0.8.1 works on Keras 2 only.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Off by default on some CPUs; measured 1.2-3.6x training speed on AVX2 without VNNI.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Start-up notices (no GPU found, oneDNN is on) would drown our own messages; errors stay.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from edgeship.core.version import __version__

__all__ = ["__version__"]
