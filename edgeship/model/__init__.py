"""The float model: layers, the ResNet family, weights, training. The only part of the core that imports Keras."""

import os

from edgeship.core.native_output import quiet_native_output

with quiet_native_output():
    import tensorflow
    import tf_keras  # noqa: F401 - imported here first, so that its notices are held back once

    # The last notice comes with the first tensor; where there are other machines, TensorFlow must hear of them before.
    if "TF_CONFIG" not in os.environ:
        tensorflow.constant(0)
