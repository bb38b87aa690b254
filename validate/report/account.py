"""The account of a bundle: how many kernels of each scheme are int8, in the words of the report."""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.core.measurement import Report


def account_lines(report: Report) -> Iterator[str]:
    """Yield one sentence for each scheme that stores kernels as int8."""
    for scheme, account in report.quantization.items():
        kept = f", {len(account.kept_float)} kept in float" if account.kept_float else ""
        yield f"{scheme}: {account.weights_quantized} of {account.weights_expected} kernels are int8{kept}"
