"""The float model: layers, the ResNet family, weights, training. The only part of the core that imports Keras."""
