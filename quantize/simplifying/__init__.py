"""Rewrites of a flat network that leave its answers as they are and its layers fit for integers."""
