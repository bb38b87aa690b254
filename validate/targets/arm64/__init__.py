"""A 64-bit Arm processor, emulated by QEMU in user mode: the real aarch64 wheels of LiteRT and ONNX Runtime.

Bits, accuracy and parity are those of Arm kernels. Time is the emulator's, so there is no latency; what is counted
is instructions per inference.

    processors.py   the CPU models: what QEMU is told and what /proc/cpuinfo says, which must match
    root.py         the root file system in a folder: where it is, whether it is complete, how it is made
    target.py       the target
    count.c         the instruction counter, a QEMU plug-in built on the spot
"""
