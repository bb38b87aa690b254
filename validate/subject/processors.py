"""Which class of processors each target is, and which rows run a file there that is made for other processors."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from edgeship.core.artifact import Artifact, Manifest
from edgeship.core.cpu import cpu_flags
from edgeship.core.variants import exact_on, in_words, is_for, processor_of, variant_of, variants_on
from edgeship.validate.subject.rows import CPU, Candidate

BROWSER = "browser"
SAFE_BITS = 7  # two products of a uint8 and a 7-bit integer fit 16 bits (edgeship/core/config/quantize.py)


def this_processor() -> str | None:
    """Return the class of this machine's processor; None where it is not known."""
    return processor_of(platform.machine(), cpu_flags())


def processors_of(machines: Mapping[str, Mapping[str, Any] | None]) -> dict[str, str | None]:
    """Return the class of each target's processor, and of this machine's under "cpu".

    Args:
        machines: what each target says it is, by its name; this machine needs none.
    """
    found: dict[str, str | None] = {CPU: this_processor()}
    for name, machine in machines.items():
        if name == BROWSER:
            found[name] = BROWSER
        elif name != CPU:
            known = machine or {}
            found[name] = processor_of(known.get("architecture"), known.get("cpu_flags"))
    return found


def cannot_saturate(artifact: Artifact, manifest: Manifest) -> bool:
    """Whether no two products of a file overflow 16 bits: by its certificate; in an older bundle by its bits."""
    if artifact.saturation is not None:
        return artifact.saturation.cannot_saturate is True
    account = manifest.quantization.get(artifact.scheme)
    return account is not None and account.weight_bits == SAFE_BITS


def saturates(artifact: Artifact, manifest: Manifest, processor: str | None) -> bool:
    """Whether a file may answer wrong on a class of processors: its kernels there add products in 16 bits."""
    variant = variant_of(artifact.name, artifact.scheme)
    if variant is None or processor is None or cannot_saturate(artifact, manifest):
        return False
    return variant in variants_on(processor, cannot_saturate=True) and not is_for(variant, processor)


def made_for_others(
    manifest: Manifest, rows: Sequence[Candidate], processors: Mapping[str, str | None]
) -> dict[str, str]:
    """Return, by label, the processors that a row's file is made for, where its target has another one."""
    found = {}
    for row in rows:
        if row.artifact is None or not row.kind.production:
            continue
        variant, small = variant_of(row.name, row.scheme), cannot_saturate(row.artifact, manifest)
        if variant is not None and not is_for(variant, processors.get(row.target.name), cannot_saturate=small):
            found[row.label] = in_words(exact_on(variant, cannot_saturate=small))
    return found
