"""The program that runs an artifact where it is to be measured: standard library, NumPy and one runtime."""
