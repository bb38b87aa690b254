"""Inputs in the form that the models of MLPerf Tiny take, without the benchmark's data sets.

Each function returns `count` examples as float32, the same for the same seed. They stand in for the data the models
were trained on: every file is asked about the same inputs, and the float model's answers are what is right.
"""

from __future__ import annotations

import numpy as np

RATE = 16_000  # samples of a sound per second; each sound is one second
WINDOW, STEP = 480, 320  # samples: windows of 30 ms, one every 20 ms, make 49 frames
MELS, COEFFICIENTS = 40, 10
LOWEST_HZ, HIGHEST_HZ = 20.0, 4000.0
SMALLEST = 1e-6  # of an energy, so that silence has a logarithm
SMALLEST_CROP, LARGEST_CROP = 32, 300  # pixels of a photograph's side


def photographs(count: int, *, size: int, seed: int) -> np.ndarray:
    """Return squares of scikit-learn's two sample photographs, (count, size, size, 3), pixels from 0 to 255."""
    import tensorflow as tf
    from sklearn.datasets import load_sample_images

    generator, pictures = np.random.default_rng(seed), load_sample_images().images
    found = []
    for _ in range(count):
        picture, side = pictures[generator.integers(len(pictures))], generator.integers(SMALLEST_CROP, LARGEST_CROP)
        top, left = (generator.integers(length - side) for length in picture.shape[:2])
        crop = picture[top : top + side, left : left + side]
        found.append(tf.image.resize(crop, (size, size), antialias=True).numpy())
    return np.clip(np.rint(np.stack(found)), 0, 255).astype(np.float32)


def keywords(count: int, *, seed: int) -> np.ndarray:
    """Return mel-frequency cepstral coefficients of synthetic sounds, (count, 49, 10, 1)."""
    import tensorflow as tf

    sounds = np.stack([_sound(np.random.default_rng([seed, index])) for index in range(count)])
    power = tf.abs(tf.signal.stft(sounds, WINDOW, STEP, fft_length=512))
    to_mels = tf.signal.linear_to_mel_weight_matrix(MELS, power.shape[-1], RATE, LOWEST_HZ, HIGHEST_HZ)
    cepstrum = tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(power @ to_mels + SMALLEST))
    return cepstrum[..., :COEFFICIENTS, None].numpy()


def _sound(generator: np.random.Generator) -> np.ndarray:
    """One second: two or three syllables (a voice's harmonics under a formant, or a hiss) in silence or soft noise."""
    time = np.arange(RATE) / RATE
    sound = generator.choice([0.0, 1e-4, 1e-2]) * generator.normal(size=RATE)
    for _ in range(generator.integers(2, 4)):
        middle, width = generator.uniform(0.2, 0.8), generator.uniform(0.03, 0.12)
        loudness = generator.uniform(0.05, 1.0) * np.exp(-(((time - middle) / width) ** 2))
        loudness[loudness < 1e-3] = 0.0  # silence between syllables is silence, as in a recording that was cut
        if generator.random() < 0.3:
            sound += 0.3 * loudness * generator.normal(size=RATE)
            continue
        pitch = generator.uniform(90, 250) * (1 + generator.uniform(-0.3, 0.3) * (time - middle))
        phase, formant = 2 * np.pi * np.cumsum(pitch) / RATE, generator.uniform(300, 2500)
        for harmonic in range(1, 16):
            strength = np.exp(-(((harmonic * 160 - formant) / 500) ** 2)) + 0.05 / harmonic
            sound += 0.3 * loudness * strength * np.sin(harmonic * phase)
    return np.clip(sound, -1, 1).astype(np.float32)


def noise(count: int, *, shape: tuple[int, ...], low: float, high: float, seed: int) -> np.ndarray:
    """Return random values from `low` to `high` that change slowly along the first axis, (count, *shape)."""
    generator = np.random.default_rng(seed)
    slow = np.cumsum(generator.normal(size=(count, *shape)), axis=1)
    slow -= slow.min(axis=tuple(range(1, slow.ndim)), keepdims=True)
    slow /= slow.max(axis=tuple(range(1, slow.ndim)), keepdims=True)
    return (low + (high - low) * slow).astype(np.float32)
