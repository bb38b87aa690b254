"""Whether the 16-bit sums of a file's 8-bit products can saturate on x86 processors: the records of the certificate."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeship.core.text import some


@dataclass(frozen=True, kw_only=True)
class SaturatingLayer:
    """One convolution or matrix product with pairs of weights whose products can pass 16 bits together."""

    operation: str
    kind: str  # "Conv", "QLinearConv", "MatMul" ...
    pairs: int
    unsafe_pairs: int
    # Of one output, for the worst input: by how much its sum of products can be wrong, in products of codes.
    largest_error: int
    largest_error_steps: float | None  # the same in steps (LSB) of the output; None: the file does not say its scale


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """The certificate of one file, from its weights alone.

    `exact` has the products that cannot saturate, counted by the reason; `layers` those that can, on x86 processors
    without VNNI; `unknown` those of kernels that are not known here.
    """

    cannot_saturate: bool | None  # whatever the input is, on any x86 processor; None: not known
    exact: dict[str, int] = field(default_factory=dict)
    pairs: int = 0  # pairs of weights that were looked at
    layers: tuple[SaturatingLayer, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The certificate in words."""
        if self.layers:
            return _can(self)
        if self.cannot_saturate is None:
            return f"not known whether sums can saturate on x86 processors without VNNI: {some(self.unknown, shown=3)}"
        if not self.exact:
            return "cannot saturate: the file has no product of integers"
        return "cannot saturate on any x86 processor: " + "; ".join(
            f"{count:,} {'product' if count == 1 else 'products'} {reason}" for reason, count in self.exact.items()
        )


def _can(found: Saturation) -> str:
    unsafe = sum(layer.unsafe_pairs for layer in found.layers)
    products = sum(found.exact.values()) + len(found.layers) + len(found.unknown)
    worst = max(found.layers, key=lambda layer: (layer.largest_error_steps or 0, layer.largest_error))
    size = f"{worst.largest_error:,} products of codes" if worst.largest_error_steps is None else (
        f"{worst.largest_error_steps:,.1f} steps of the output"
    )
    return (
        f"can saturate on x86 processors without VNNI: {unsafe:,} of {found.pairs:,} pairs of weights, in "
        f"{len(found.layers):,} of {products:,} products; the largest possible error is {size} of {worst.operation}"
    )
