"""Runs that keep more than the answers: intermediate tensors, single layers, profiles, the Keras reference."""
