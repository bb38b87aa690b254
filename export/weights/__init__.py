"""The weights that a file must hold, taken from the Keras model, and the comparison with those it holds."""
