"""The float model: layers, the ResNet family, weights, training. The only part of the core that imports Keras."""

from edgeship.native_output import quiet_native_output

with quiet_native_output():
    import tensorflow
    import tf_keras  # noqa: F401 - imported here first, so that its notices are held back once

    tensorflow.constant(0)  # the last notice comes with the first tensor
