"""Do two x86 processors give the same bits where both have exact kernels for a file?"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from edgeship.core.artifact import Artifact
from edgeship.core.measurement import Row
from edgeship.core.variants import is_for, variant_of

X86_TARGET = "x86:"
X86_CLASSES = ("x86-vnni", "x86", "x86-sse")


def exact_on_every_x86(artifacts: Iterable[Artifact]) -> frozenset[str]:
    """Return the names of the ONNX files whose integers are exact on every x86 processor, by table and certificate."""
    return frozenset(artifact.name for artifact in artifacts if _is_exact(artifact))


def _is_exact(artifact: Artifact) -> bool:
    variant, certificate = variant_of(artifact.name, artifact.scheme), artifact.saturation
    if variant is None or certificate is None or not certificate.cannot_saturate:
        return False
    return all(is_for(variant, name, cannot_saturate=True) for name in X86_CLASSES)


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
