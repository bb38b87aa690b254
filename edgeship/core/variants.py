"""The one table of ONNX variants and processors: where each int8 file is exact, where it is the fastest, and why.

    u8u8    uint8 activations, uint8 weights with the zero point 128; named SCHEME.onnx
    u8s8    uint8 activations, int8 weights; named SCHEME-u8s8.onnx
    s8s8    int8 activations, int8 weights; named SCHEME-s8s8.onnx

All three hold the same integers. What differs is which kernel ONNX Runtime chooses for them. "Exact" is a kernel that
adds products in 32 bits, or in 16 bits that cannot overflow. Report, inspect, doctor, documentation and snippets read
this table and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES

PORTABLE = "u8u8"  # exact everywhere, and the variant that .ort files are made from
VARIANTS = (PORTABLE, "u8s8", "s8s8")
DEFAULT_VARIANTS = (PORTABLE, "u8s8")
X86 = ("x86_64", "amd64", "i386", "i686")
ARM64 = ("aarch64", "arm64")
# The first releases of ONNX Runtime whose int8 kernels for VNNI and AMX were seen to be right are 1.28 and 1.30; the
# kernels were corrected in March 2026. Before that AMX computed U8S8 wrong, and VNNI some shapes of U8U8.
FIXED_KERNELS = (1, 28)


@dataclass(frozen=True, kw_only=True)
class Processor:
    """A class of processors that ONNX Runtime chooses the same kind of int8 kernels for."""

    words: str
    models: str  # which ones, for people
    variants: tuple[str, ...]  # those that are exact here, the fastest first
    # The same for files whose weights cannot saturate 16 bits (their certificate); None: it makes no difference.
    unsaturated: tuple[str, ...] | None = None
    flags: tuple[str, ...] = ()  # instructions, as Linux spells them; one of them is enough
    target: str | None = None  # of `edgeship validate --on`, which stands for it on any machine
    reason: str


PROCESSORS: dict[str, Processor] = {
    "x86-vnni": Processor(
        words="x86 with VNNI", models="Intel since Ice Lake and Alder Lake, AMD since Zen 4",
        variants=("u8s8", "u8u8"), flags=("avx512_vnni", "avx_vnni"),
        reason="VNNI sums u8 x s8 products in 32 bits, u8 x u8 does without it (ONNX Runtime 1.28 or newer)",
    ),
    "x86": Processor(
        words="x86 with AVX2, no VNNI", models="Intel from Haswell to before Ice Lake, AMD before Zen 4",
        variants=("u8u8",), unsaturated=("u8s8", "u8u8"), target="x86:haswell",
        reason="u8 x s8 products saturate in 16 bits, u8 x u8 ones do not; S8S8 runs in float",
    ),
    # Told by flags that lack AVX2, which Linux alone lists. On Windows ONNX Runtime has kernels of SSE4.1 that saturate
    # as AVX2's do; there flags are not known, and the processor counts as one of the class above.
    "x86-sse": Processor(
        words="x86 without AVX2", models="Intel before Haswell, and Celeron, Pentium and Atom boards; with Linux",
        variants=("u8s8", "u8u8"), target="x86:nehalem",
        reason="both are widened to 16 bits, and summed in 32; S8S8 runs in float",
    ),
    "arm64-dot": Processor(
        words="Arm with dot products", models="Cortex-A76 and later: phones since 2019, Raspberry Pi 5, Apple silicon",
        variants=("u8u8", "u8s8", "s8s8"), flags=("asimddp", "i8mm"), target="arm64:cortex-a76",
        reason="all are exact; U8U8 gains most from dot and matrix (i8mm) instructions",
    ),
    "arm64-neon": Processor(
        words="Arm, plain NEON", models="Cortex-A53, A57, A72: Raspberry Pi 3 and 4, cheap boards",
        variants=("s8s8", "u8s8", "u8u8"), target="arm64:cortex-a53",
        reason="all are exact; int8 weights need the fewest instructions",
    ),
    "browser": Processor(
        words="browser", models="WebAssembly, on any processor",
        variants=("u8u8", "u8s8", "s8s8"), target="browser",
        reason="all are exact; U8U8 is faster than S8S8 and float32",
    ),
}


def processor_of(architecture: str | None, flags: Collection[str] | None) -> str | None:
    """Return the key of a machine's class in PROCESSORS; None where the class is not known.

    Args:
        architecture: as Python's `platform.machine()` names it.
        flags: its instructions as Linux names them; none where the system does not tell. An x86 processor then counts
            as one with AVX2 and without VNNI, for which the fewest are exact.
    """
    machine = (architecture or "").lower()
    if machine in X86:
        if _has("x86-vnni", flags or ()):
            return "x86-vnni"
        return "x86" if not flags or "avx2" in flags else "x86-sse"
    if machine in ARM64 and flags is not None:
        return "arm64-dot" if _has("arm64-dot", flags) else "arm64-neon"
    return None


def variant_of(file: str, scheme: str) -> str | None:
    """Return the variant of a bundle's file by its name; None for what is no int8 file of ONNX Runtime."""
    if SCHEMES[scheme].source != FAKE_QUANTIZED or not file.endswith((".onnx", ".ort")):
        return None
    stem = file.rpartition(".")[0]
    return next((name for name in VARIANTS if stem.endswith(f"-{name}")), PORTABLE)


def file_of(scheme: str, variant: str) -> str:
    """Return the name of the ONNX file of a scheme in a variant."""
    return f"{scheme}.onnx" if variant == PORTABLE else f"{scheme}-{variant}.onnx"


def variants_on(processor: str, *, cannot_saturate: bool = False) -> tuple[str, ...]:
    """Return the variants that are exact on a class of processors, the fastest first.

    `cannot_saturate`: no pair of the file's products overflows 16 bits, whatever its inputs are.
    """
    found = PROCESSORS[processor]
    return found.unsaturated if cannot_saturate and found.unsaturated is not None else found.variants


def exact_on(variant: str, *, cannot_saturate: bool = False) -> tuple[str, ...]:
    """Return the classes of processors on which a variant is exact."""
    return tuple(name for name in PROCESSORS if variant in variants_on(name, cannot_saturate=cannot_saturate))


def fastest_on(variant: str, *, cannot_saturate: bool = False) -> tuple[str, ...]:
    """Return the classes of processors on which a variant is the fastest of those that are exact."""
    return tuple(name for name in PROCESSORS if variants_on(name, cannot_saturate=cannot_saturate)[0] == variant)


def is_for(variant: str | None, processor: str | None, *, cannot_saturate: bool = False) -> bool:
    """Whether a file is made for a class of processors: one that is not known has to prove itself by its answers."""
    return (
        variant is None or processor is None
        or variant in variants_on(processor, cannot_saturate=cannot_saturate)
    )


def in_words(processors: Collection[str]) -> str:
    """Return the names of classes of processors as a list for people."""
    return ", ".join(PROCESSORS[name].words for name in processors)


def has_fixed_kernels(versions: Mapping[str, str | None]) -> bool:
    """Whether the ONNX Runtime among these versions has right int8 kernels for VNNI and AMX; true where not known."""
    parts = (versions.get("onnxruntime") or "").split(".")[:2]
    if len(parts) < 2 or not all(part.isdigit() for part in parts):
        return True
    return tuple(map(int, parts)) >= FIXED_KERNELS


def _has(processor: str, flags: Collection[str]) -> bool:
    return bool({*PROCESSORS[processor].flags} & {*flags})
