"""Quantized Keras model in, bundle out: TFLite and ONNX files on one integer grid."""
