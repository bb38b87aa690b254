"""Bundle in, verdict out: accuracy, parity, coverage and latency of every artifact on every runtime.

Importing this package imports no TensorFlow and no runtime: each runtime lives in a process of its own.
"""
