"""The version of edgeship."""

__version__ = "0.1.0"
