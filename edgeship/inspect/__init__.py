"""What a user sees of a .tflite or .onnx file: the summary of `edgeship inspect`, with what phones need."""
