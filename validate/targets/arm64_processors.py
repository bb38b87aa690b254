"""The CPU models that can be emulated: what QEMU is told, and the /proc/cpuinfo that belongs to it.

LiteRT and ONNX Runtime choose their kernels by these features, some by the auxiliary vector, some by /proc/cpuinfo;
QEMU 7.2 shows programs the host's /proc/cpuinfo, and both runtimes crash on it (an x86 file on an Arm processor).
"""

from __future__ import annotations

from dataclasses import dataclass

CORES = 2
NEON = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
DOT_PRODUCTS = f"{NEON} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
MATRIX_PRODUCTS = (
    f"{DOT_PRODUCTS} jscvt fcma sha3 sm3 sm4 sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp sve2 "
    "sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 rng bti"
)


@dataclass(frozen=True, kw_only=True)
class Processor:
    """One CPU model. Numbers are those of the architecture's main ID register (MIDR_EL1)."""

    qemu: str  # the argument of -cpu
    features: str
    implementer: str
    variant: str
    part: str
    revision: int
    stands_for: str

    @property
    def cpuinfo(self) -> str:
        """The text of /proc/cpuinfo."""
        return "".join(
            f"processor\t: {number}\nBogoMIPS\t: 50.00\nFeatures\t: {self.features}\n"
            f"CPU implementer\t: {self.implementer}\nCPU architecture: 8\nCPU variant\t: {self.variant}\n"
            f"CPU part\t: {self.part}\nCPU revision\t: {self.revision}\n\n"
            for number in range(CORES)
        )


PROCESSORS: dict[str, Processor] = {
    "cortex-a53": Processor(
        qemu="cortex-a53", features=NEON, implementer="0x41", variant="0x0", part="0xd03", revision=4,
        stands_for="plain NEON: Raspberry Pi 3, cheap phones and boards",
    ),
    "cortex-a76": Processor(
        qemu="cortex-a76", features=DOT_PRODUCTS, implementer="0x41", variant="0x4", part="0xd0b", revision=1,
        stands_for="8-bit dot products: Raspberry Pi 5, most phones since 2019",
    ),
    # With SME, QEMU 7.2 gives wrong int8 results (LiteRT: 76 of 80 outputs differ), so it is off.
    "max": Processor(
        qemu="max,sme=off", features=MATRIX_PRODUCTS, implementer="0x00", variant="0x0", part="0x051", revision=0,
        stands_for="8-bit matrix products (i8mm): phones since about 2022",
    ),
}
DEFAULT = "cortex-a76"
