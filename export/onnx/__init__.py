"""A TFLite file to an ONNX file on the same integer grid, and to the .ort format."""
