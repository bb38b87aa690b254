"""Composition: the command line, the pipeline and the doctor. The only rooms that import several stages."""
