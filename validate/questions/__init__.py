"""The questions asked of a row: accuracy, parity, coverage, the integer grid, errors by layer, and the gates."""
