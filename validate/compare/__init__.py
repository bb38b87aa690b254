"""The latency regression check: two artifacts in, a verdict out."""
