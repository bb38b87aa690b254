"""A Keras model with composite layers to one flat network of standard layers."""
