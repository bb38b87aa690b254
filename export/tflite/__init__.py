"""A Keras model to a TFLite file, and edits of its flatbuffer."""
