"""Latency: launches of a process, rounds of inferences, and the statistics of their times."""
