"""What to ship: one record per class of processor or runtime, which `report.json` keeps as `ship`."""

from __future__ import annotations

from dataclasses import dataclass

BY_TIME, BY_INSTRUCTIONS = "time", "instructions"


@dataclass(frozen=True, kw_only=True)
class ShipLine:
    """The file for one place, and whether it is good enough there. Shares are 0..1; None: not measured."""

    # The key: a class of processors (edgeship/core/variants.py), or "litert", "browser-litert", "reduced".
    place: str
    words: str  # "x86 with VNNI"
    runtime: str  # that runs the file there: "litert", "onnxruntime", "onnxruntime-web" ...
    file: str | None  # None: the bundle has none that is exact there, and `why` says how to get one
    scheme: str | None
    size_bytes: int | None
    float_file: str | None  # the float32 file of the same format; None: the bundle has none
    size_share: float | None  # of the float file's size
    # Against float Keras: of top-1 as a share, of another metric in its own unit. `accuracy_of` is the row it was
    # measured in ("artifact / runtime"): one of this place, or one of the same integers where they are exact.
    metric: str | None
    delta: float | None
    delta_ci95: tuple[float, float] | None
    accuracy_of: str | None
    # Against the float file on the same runtime and target: 2.0 is half the time, or half the instructions.
    speedup: float | None
    speedup_ci95: tuple[float, float] | None  # None for instructions, which are exact
    speedup_by: str | None  # "time" or "instructions"
    speedup_of: str | None  # the row it was measured in
    speedup_missing: str | None  # why it was not measured
    slower: bool  # than its float file
    verdict: str  # "pass", "fail", "inconclusive" or "refused", of this file's accuracy and speed alone
    why: str  # this file and not another one
