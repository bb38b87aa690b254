"""Fake quantization in a simplified float model: its weights on int8, its activations on integer grids."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tf_keras
from tf_keras import layers

from edgeship.core.channel_sizes import CHANNEL_SIZES, Sizes, joined, record_of, sizes_from
from edgeship.core.config import FULL, PER_CHANNEL, PER_TENSOR
from edgeship.core.errors import LoweringError
from edgeship.core.text import some
from edgeship.model.keras2 import maker_of, node_of, read_by
from edgeship.model.prepared import Prepared
from edgeship.quantize.grids import Grid, plan_grids
from edgeship.quantize.keep_float import kept_parts
from edgeship.quantize.ranges import Mode, Range
from edgeship.quantize.real_inputs import require_real_inputs
from edgeship.quantize.same_network import check_same, noise_of
from edgeship.quantize.saturating import windows_of
from edgeship.quantize.simplifying.evened import even_channels
from edgeship.quantize.simplifying.precision import float32_policy
from edgeship.quantize.simplifying.rebuild import Copies, call, nodes_of, rebuild
from edgeship.quantize.simplifying.rewrites import weights_of
from edgeship.quantize.simplifying.roles import Role, role_of
from edgeship.quantize.simplifying.simplify import simplify
from edgeship.quantize.simplifying.twins import twins_of, without_twins
from edgeship.quantize.weights import SymmetricWeights, WeightForm, with_quantized_weights
from edgeship.quantize.window import Window

MANY_WEIGHTS = 2**22  # 16 MB: a full collection of Python's garbage takes a quarter of a second
NOISE_SPAN = (-1.0, 1.0)  # of an input whose range nobody knows yet


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of a model's weights and operations, by layer name."""

    quantized: tuple[str, ...]  # layers whose kernels are int8
    added: tuple[str, ...]  # products with constants, int8 too: they stand for a scaling or an average pooling
    kept_float: tuple[str, ...]  # layers that stay in float because the configuration says so
    kept_weights: tuple[str, ...]  # those of them that have kernels
    operations: int  # of the simplified network
    twins: tuple[tuple[str, str], ...] = ()  # (layer, the layer of equal weights and inputs that is computed for both)
    evened: tuple[str, ...] = ()  # layers whose channels differed by orders of magnitude (simplifying/evened.py)

    @property
    def expected(self) -> tuple[str, ...]:
        """All kernels that must be int8 in a file."""
        return (*self.quantized, *self.added)

    @property
    def sentence(self) -> str:
        """One line for people."""
        kept = f", {len(self.kept_float)} kept in float ({', '.join(self.kept_float)})" if self.kept_float else ""
        added = f" (and {len(self.added)} of constants)" if self.added else ""
        twins = [f"{twin} as {layer}" for twin, layer in self.twins]
        more = f"; computed once: {some(twins)}" if twins else ""
        more += f"; channels made even: {some(self.evened)}" if self.evened else ""
        total = len(self.quantized) + len(self.kept_weights)
        return (
            f"kernels of {len(self.quantized)} of {total} weighted layers{added} quantized; "
            f"{self.operations} operations{kept}, 0 refused{more}"
        )


@dataclass(frozen=True, kw_only=True)
class QuantizedModel:
    """A Keras model that computes on fake-quantized integers, and the parts that can be set."""

    model: tf_keras.Model
    ranges: list[Range]
    weights: dict[str, SymmetricWeights]  # layer name -> what rounds its kernel
    inputs: dict[str, list[Range]]  # layer name -> the ranges its kernel is multiplied on, one per call
    results: dict[str, Range]  # layer name -> the range its result (after a fused ReLU) is rounded to
    account: Account
    flat: tf_keras.Model  # the float network it was made from
    sizes: Sizes = field(default_factory=dict)  # what channels were divided by to make them even
    notes: Mapping[str, Any] = field(default_factory=dict)  # how the scheme was found, as JSON values

    @property
    def codes(self) -> dict[str, Any]:
        """The configuration's keys for the integers of the kernels; none: there are no kernels."""
        quantizer = next(iter(self.weights.values()), None)
        return {} if quantizer is None else {
            "weight_bits": quantizer.form.bits, "weight_range": quantizer.form.weight_range,
            "weight_scales": quantizer.form.scales,
        }

    def prepared(self, scheme: str) -> Prepared:
        """Return the network as the export takes it; its ranges must be final."""
        return Prepared(
            scheme=scheme, model=self.model, kept_float=self.account.kept_float, expected=self.account.expected,
            float_outputs=tuple(
                name for name, tensor in zip(self.model.output_names, self.model.outputs, strict=True)
                if not isinstance(maker_of(tensor), Range)
            ),
            notes={**({"evened": list(self.account.evened)} if self.account.evened else {}), **self._all_notes()},
        )

    def _all_notes(self) -> dict[str, Any]:
        """The notes, with the sizes of channels that were made even before any of them was written."""
        sizes = joined(self.sizes, sizes_from(self.notes.get(CHANNEL_SIZES)))
        return {**self.notes, **({CHANNEL_SIZES: record_of(sizes)} if sizes else {})}

    def check_in_float(self, batch: Sequence[np.ndarray], *, on: str) -> None:
        """Hold the model with all rounding switched off against the float network it was made from.

        Args:
            batch: preprocessed images, float32, one array for every input.
            on: what the batch is, for the message.

        Raises:
            LoweringError: they differ by more than float32 rounding; the message names the first layer that differs.
        """
        with self.in_float():
            check_same(self.flat, self.model, batch, what=f"the network that is quantized, in float and on {on},")

    @contextlib.contextmanager
    def in_float(self) -> Iterator[None]:
        """Switch all rounding off, until the block ends."""
        modes = [item.mode for item in self.ranges]
        self._switch([Mode.OFF] * len(modes), weights=False)
        try:
            yield
        finally:
            self._switch(modes, weights=True)

    def _switch(self, modes: Sequence[Mode], *, weights: bool) -> None:
        for item, mode in zip(self.ranges, modes, strict=True):
            item.mode = mode
        for quantizer in self.weights.values():
            quantizer.enabled = weights


def insert_fake_quantization(
    flat: tf_keras.Model,
    *,
    input_ranges: Sequence[tuple[float, float] | None],
    ema_decay: float = 0.99,
    weight_bits: int = 8,
    weight_range: str = FULL,
    weight_scales: str = PER_CHANNEL,
    keep_float: Sequence[str] = (),
) -> QuantizedModel:
    """Insert fake quantization into a lowered float model; ranges are not seeded yet.

    Args:
        input_ranges: for each model input, the smallest and largest value it can have; None: those of the calibration
            data.
        weight_bits: 8, or 7 for CPUs whose uint8 x int8 products saturate.
        weight_range: "full", or "pair-safe" for the same CPUs: 8 bits on ranges of two neighbours together.
        weight_scales: "per-channel", or "per-tensor" for devices that know one scale per kernel.
        keep_float: names of layers that stay in float, of the flat model or of the simplified one.

    Raises:
        LoweringError: a layer integers cannot compute and that is not kept, a name in `keep_float` that no layer has,
            an input that is not real numbers, or a network that with all rounding switched off differs from `flat`.
    """
    quantized = _inserted(
        flat, input_ranges=input_ranges, ema_decay=ema_decay, keep_float=keep_float,
        form=WeightForm(bits=weight_bits, weight_range=weight_range, scales=weight_scales),
    )
    if flat.count_params() > MANY_WEIGHTS:
        # The networks between `flat` and this one refer to themselves in circles, and each has a copy of all weights.
        gc.collect()
    quantized.check_in_float(noise_of(flat.inputs, [span or NOISE_SPAN for span in input_ranges]), on="noise")
    return quantized


def _inserted(
    flat: tf_keras.Model, *, input_ranges: Sequence[tuple[float, float] | None], ema_decay: float, form: WeightForm,
    keep_float: Sequence[str],
) -> QuantizedModel:
    require_real_inputs(flat)
    simple = simplify(flat)
    kept = kept_parts(simple, flat, keep_float)
    twins = twins_of(simple, apart=kept)
    simple = without_twins(simple, twins)
    evened = even_channels(simple, kept=kept, one_scale=form.scales == PER_TENSOR)
    grids = plan_grids(simple, kept)
    windows = windows_of(simple, grids, kept)
    known = {
        maker_of(tensor).name: span for tensor, span in zip(simple.inputs, input_ranges, strict=True)
        if span is not None
    }
    ranges: dict[int, Range] = {}
    weights: dict[str, SymmetricWeights] = {}
    inputs: dict[str, list[Range]] = {}
    results: dict[str, Range] = {}
    copies = Copies()

    def range_of(grid: Grid) -> Range:
        if id(grid) not in ranges:
            ranges[id(grid)] = _range(grid, known, ema_decay, windows.get(id(grid)))
        return ranges[id(grid)]

    def replay(node: Any, args: Any, kwargs: Any) -> Any:
        layer = node.layer
        if id(layer) in grids.capped:
            return copies.of(layer, lambda: layers.ReLU(name=layer.name))(*args)
        if role_of(layer) is Role.WEIGHTED and layer.name not in kept:
            inputs.setdefault(layer.name, []).append(range_of(grids.of[id(read_by(node)[0])]))
            return _call_weighted(copies, layer, args, weights, form)
        return call(copies, layer, args, kwargs)

    def forward(old: Any, new: Any) -> Any:
        if id(old) not in grids.rounded:
            return new
        grid = grids.of[id(old)]
        rounds = range_of(grid)
        for tensor in (old, *read_by(node_of(old))):
            if tensor is old or (id(tensor) not in grids.rounded and type(maker_of(old)) is layers.ReLU):
                results[maker_of(tensor).name] = rounds
        return rounds(new, member=grid.place(old))

    with float32_policy():
        model = rebuild(simple, replay, forward=forward)
    model.output_names = simple.output_names
    return QuantizedModel(
        model=model, ranges=list(ranges.values()), weights=weights, inputs=inputs, results=results,
        account=_account(flat, simple, kept, twins.layers, evened.layers), flat=flat, sizes=evened.sizes,
    )


def _range(
    grid: Grid, known: dict[str, tuple[float, float]], ema_decay: float, window: Window | None
) -> Range:
    inputs = [maker_of(tensor).name for tensor in grid.members if isinstance(maker_of(tensor), layers.InputLayer)]
    span: tuple[float, float] | None
    if grid.fixed is not None:
        span, fixed = grid.fixed, True
    else:
        spans = [known[name] for name in inputs if name in known]
        span = (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None
        # Nothing but the input is on this grid: its range is what the preprocessing can give.
        fixed = bool(spans) and len(grid.members) == len(spans)
    return Range(
        ema_decay=ema_decay, members=len(grid.members), known=span, fixed=fixed, cap=grid.cap, window=window,
        name=f"{grid.name}_range",
    )


def _call_weighted(
    copies: Copies, layer: Any, args: Any, weights: dict[str, SymmetricWeights], form: WeightForm
) -> Any:
    def make() -> Any:
        own = type(layer).from_config(layer.get_config())
        wrapped = with_quantized_weights(own, form=form)
        weights[layer.name] = wrapped.quantize_config.quantizer
        return wrapped

    made = copies.of(layer, make)
    if not made.built:
        # The wrapper takes over the layer's variables when it is built, so they must have their values by then.
        made.layer.build(args[0].shape)
        made.layer.set_weights(layer.get_weights())
    outputs = made(*args)
    made.trainable = layer.trainable
    return outputs


def weighted_layers(flat: tf_keras.Model) -> tuple[str, ...]:
    """The layers of a lowered model whose kernels are to be quantized, under their names in the simplified one."""
    names = []
    for layer in flat.layers:
        if isinstance(layer, layers.SeparableConv2D):
            names += [f"{layer.name}_depthwise", layer.name]
        elif type(layer) in weights_of:
            names.append(layer.name)
    return tuple(names)


def _account(
    flat: tf_keras.Model, simple: tf_keras.Model, kept: frozenset[str], twins: Mapping[str, str],
    evened: tuple[str, ...],
) -> Account:
    """Hold what was quantized against what the float model has. Raises LoweringError where a kernel got lost."""
    before = weighted_layers(flat)
    own = [name for name in before if name not in twins]
    weighted = [layer.name for layer in simple.layers if role_of(layer) is Role.WEIGHTED]
    if lost := [name for name in own if name not in weighted and name not in kept]:
        raise LoweringError(f"{', '.join(lost)}: kernels that should be quantized are not in the simplified model")
    return Account(
        quantized=tuple(name for name in own if name not in kept),
        added=tuple(name for name in weighted if name not in kept and name not in own),
        kept_float=tuple(layer.name for layer in simple.layers if layer.name in kept),
        kept_weights=tuple(name for name in own if name in kept),
        operations=len(list(nodes_of(simple))),
        twins=tuple((twin, layer) for twin, layer in twins.items() if twin in before),
        evened=evened,
    )
