"""Do two x86 processors give the same bits where both have exact kernels for a file?"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from edgeship.core.artifact import Artifact
from edgeship.core.measurement import Row
from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES

X86_TARGET = "x86:"
FLOAT_ON_X86 = "-s8s8.onnx"  # ONNX Runtime computes some of it in float there


def exact_on_every_x86(artifacts: Iterable[Artifact]) -> frozenset[str]:
    """Return the names of the ONNX files whose integers are exact on every x86 processor, by their certificates.

    u8u8: always; u8s8: where no pair of weights can saturate; s8s8: never, since it does not run as integers there.
    """
    return frozenset(
        artifact.name for artifact in artifacts
        if artifact.format in ("onnx", "ort") and SCHEMES[artifact.scheme].source == FAKE_QUANTIZED
        and not artifact.name.endswith(FLOAT_ON_X86)
        and artifact.saturation is not None and artifact.saturation.cannot_saturate
    )


def different_bits(row: Row, exact: Collection[str]) -> str | None:
    """Return what is wrong with a row of an emulated x86 processor; None where its bits are right, or were not held.

    Sums of integers and one rounding of each (the same operations of IEEE arithmetic in every kernel) leave no room for
    a difference. Operations in float do: other kernels add in another order.
    """
    parity, coverage = row.parity, row.coverage
    if not row.target.startswith(X86_TARGET) or row.artifact not in exact or parity is None or not parity.max_lsb:
        return None
    if coverage is None or coverage.integer != coverage.total:
        return None
    return (
        f"up to {parity.max_lsb} LSB apart from this machine ({parity.differing_share or 0:.2%} of the outputs); its "
        "kernels are exact on both processors, so all bits must be equal, and one of the two computes something else"
    )
