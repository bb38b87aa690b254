"""Quantization starts without Keras 3, and leaves a Keras 3 that is there as it is."""

from __future__ import annotations

import subprocess
import sys


def modules_after(script: str) -> list[str]:
    """Return what a fresh process prints, as words."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_keras_3_is_not_imported_and_can_be() -> None:
    assert modules_after(
        "import sys, edgeship.quantize.insert\n"
        "print(*({'keras', 'sklearn', 'matplotlib', 'scipy.stats'} & set(sys.modules)), 'then')\n"
        "import keras; print(keras.__version__.split('.')[0])"
    ) == ["then", "3"]


def test_a_keras_3_that_is_imported_stays() -> None:
    assert modules_after(
        "import sys, edgeship, keras, edgeship.quantize.insert\nprint(sys.modules['keras'] is keras)"
    ) == ["True"]
