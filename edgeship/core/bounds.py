"""How near a file that computes in float must be to the float model, by its scheme: what rounding alone leaves.

A signal-to-quantization-noise ratio (SQNR) adds up as noise powers do: with products (convolutions, matrix products) in
a row that each bring the relative noise power n, the last one's result has n times their number, unless one of them
amplifies it. So a bound here is the noise of one product, times the number of products in the file, with `MARGIN_DB`
for what amplifies: a difference of two large numbers, or a softmax, whose output's relative error is the absolute error
of its logits. The products of a file are never all in a row, so the number errs to the safe side.
"""

from __future__ import annotations

import math

from edgeship.core.schemes import SCHEMES

# float32. One addition is rounded by at most 2^-24 of its result, 0.42 x 2^-24 (-152 dB) in the root mean square over
# all mantissas. Summing k terms one by one rounds partial sums that grow like the square root of their number: noise
# k/2 times that of one addition; k = 4608 (3x3 kernels on 512 channels) is 34 dB. 200 such sums in a row are 23 dB
# more: 152 - 34 - 23 = 95 dB. Kernels add in 4 to 16 lanes, so files measure better: 115 to 150 dB.
FLOAT32_DB = 95.0
# A sigmoid is 1 at most, and its kernels are right to half a step of float32 at 1. Nearer to 0 they need not be: ONNX
# Runtime's takes -18 for everything below (its clamp, onnxruntime/core/mlas/lib/logistic.cpp) and answers 1.5e-8 where
# Keras answers 1e-9. Of a network whose answers are all that sure, such a difference would be all of the signal.
SIGMOID_RESOLUTION = 2.0**-24
# float16. A weight is rounded by at most 2^-11 of its value: 0.42 x 2^-11 in the root mean square, as above.
FLOAT16_NOISE = (0.42 * 2**-11) ** 2
# int8 weights, one scale per output channel: a step is max|w|/127 and its rounding uniform noise of 1/12 step^2
# (Bennett 1948). The largest weight of a channel is 3 to 6 times the root mean square: of a thousand weights 3.2 times
# for a normal distribution, 5 times for one with tails as heavy as Laplace's.
PEAK = 6.0
INT8_WEIGHTS_NOISE = (PEAK / 127) ** 2 / 12
# Activations quantized when they are computed: the same with 255 steps between the smallest and the largest value, or
# 127 on either side of zero, which LiteRT takes.
DYNAMIC_NOISE = (PEAK / 127) ** 2 / 12
# What amplifies. It is not derived but measured: up to 23 dB on networks of random weights whose last layer tells kinds
# of images apart by a fraction of its input (benchmarks/families.py). The export, which has the model at hand, measures
# it for the network itself (export/proof/proof.py).
MARGIN_DB = 24.0
# Two files whose errors are independent and of one size are 3 dB farther from each other than from the float model.
INDEPENDENT_DB = 10 * math.log10(2)

# Two files with the same integer weights give the same top-1 on all but 0.3 to 0.6 % of the images (measured between
# any two kernels on 34 layers); three times that, and no more, needs no explanation.
LEAST_AGREEMENT = 0.98

# Answers that noise turns over: those whose two best classes are nearer to each other than the noise. The outputs of an
# image are at most 1 in the root of their squares, so the difference of two of them has noise below r = 10^(-dB/20),
# and moves by 0.4 r on the average towards the wrong side. Margins between the two best are spread over 0...1; of a
# network that is hardly trained twice as many are small.
MARGIN_DENSITY = 2.0


def least_sqnr_db(scheme: str, *, products: int) -> float | None:
    """The least SQNR, in dB, that a right file of `scheme` has against the float model it was made of.

    Args:
        scheme: a name of `edgeship.core.schemes.SCHEMES`.
        products: the convolutions and matrix products with constant weights in the file.

    Returns:
        None for a scheme that computes in integers: its error is the calibration's, which its accuracy tells.
    """
    if SCHEMES[scheme].activations != "float32":
        return None
    noise = relative_noise(scheme)
    if not noise:
        return FLOAT32_DB
    return min(FLOAT32_DB, -10 * math.log10(noise * max(products, 1)) - MARGIN_DB)


def relative_noise(scheme: str) -> float:
    """The noise power that one product of a file of `scheme` brings, relative to its result; 0 for float32 weights."""
    made, noise = SCHEMES[scheme], 0.0
    if made.weights == "float16":
        noise += FLOAT16_NOISE
    if made.weights == "int8":
        noise += INT8_WEIGHTS_NOISE
    if made.dynamic:
        noise += DYNAMIC_NOISE
    return noise


def least_sqnr_between_formats_db(scheme: str) -> float | None:
    """The least SQNR, in dB, of two files of `scheme` in two formats, one as the signal of the other.

    They hold the same numbers, so where both compute in float32 they differ by float32 rounding. None for integer
    schemes, and where each runtime quantizes activations in its own way: see `least_sqnr_of_siblings_db`.
    """
    made = SCHEMES[scheme]
    return FLOAT32_DB if made.activations == "float32" and not made.dynamic else None


def least_sqnr_of_siblings_db(first_db: float, second_db: float) -> float:
    """The least SQNR, in dB, of two files of one model that round in two ways, one as the signal of the other.

    Each has an error against the float model, which the network's own amplification is in. Two right files share most
    of it (weights, scales), and differ by the rounding of their kernels; were all of it independent, they would be
    3 dB farther from each other than from the model. A file that is worse than the other by more than that computes
    something else than the other.

    Args:
        first_db: SQNR of one against the float model.
        second_db: of the other.
    """
    return max(first_db, second_db) - INDEPENDENT_DB


def least_agreement_of_siblings(first: float, second: float) -> float:
    """The least share of images that two right files of one model give the same top-1, where they round in two ways.

    Rounding turns over the answers whose two best classes are nearer to each other than its noise, so many in
    proportion to the noise. With independent errors of one size the noise between two files is 3 dB above, that is
    sqrt(2) times, the noise between each and the float model (`least_sqnr_of_siblings_db`), and so are the answers that
    differ. Of a wrong and a right file the right one is near to the float model, and the wrong one far from both.

    Args:
        first: the share of images that one gives the float model's top-1.
        second: of the other.
    """
    return max(0.0, 1 - math.sqrt(2) * (1 - max(first, second)))


def least_agreement(scheme: str, *, products: int) -> float | None:
    """The least share of images that a right file gives the float model's top-1; None as `least_sqnr_db`."""
    bound_db = least_sqnr_db(scheme, products=products)
    if bound_db is None:
        return None
    return max(0.0, 1 - 0.4 * MARGIN_DENSITY * 10 ** (-bound_db / 20))
