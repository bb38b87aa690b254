"""Scripts that measure what README, docs/ and benchmarks/README.md tell."""
