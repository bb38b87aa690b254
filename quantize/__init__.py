"""Float Keras model in, Keras model with trained integer ranges out."""
