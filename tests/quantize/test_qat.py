from __future__ import annotations

import numpy as np
import pytest

from edgeship.config import QuantizeConfig
from edgeship.data import preprocess
from edgeship.errors import ModelError
from edgeship.model.resnet import build_resnet
from quantize import qat
from quantize.lower import lower
from quantize.ranges import FOLLOW


@pytest.fixture(scope="module")
def float_model(tiny_pipeline):
    return tiny_pipeline._float_model()


def trained(pipeline, model, **options):
    quantized = qat.prepare(lower(model), spec=pipeline.spec, ema_decay=0.9)
    qat.train(
        quantized, calibration=pipeline.splits.calibration, images=pipeline.splits.train, spec=pipeline.spec,
        config=QuantizeConfig(epochs=1, batch_size=32, **options), augmentation="none", teacher=model,
    )
    return quantized


def test_every_relu_starts_at_zero_after_training(tiny_pipeline, float_model):
    quantized = trained(tiny_pipeline, float_model)
    relus = [observer for observer in quantized.observers if observer.name.endswith(("act", "act1", "relu"))]
    assert len(relus) == 5
    assert all(float(observer.minimum) == 0.0 and float(observer.maximum) > 0 for observer in relus)


def test_the_weight_ranges_are_those_of_the_final_weights(tiny_pipeline, float_model):
    quantized = trained(tiny_pipeline, float_model)
    found = 0
    for layer in quantized.model.layers:
        for weight, quantizer, variables in getattr(layer, "_weight_vars", []):
            axes = tuple(range(len(weight.shape) - 1)) if quantizer.per_axis else None
            np.testing.assert_array_equal(variables["max_var"], np.abs(weight.numpy()).max(axis=axes))
            found += 1
    assert found == 7  # stem, two units of two, one projection, the head


def test_batch_norm_and_frozen_ranges_stand_still(tiny_pipeline, float_model):
    quantized = trained(tiny_pipeline, float_model, freeze_ranges_at=0.0)
    seeded = qat.prepare(lower(float_model), spec=tiny_pipeline.spec, ema_decay=0.9)
    qat.seed_ranges(seeded, tiny_pipeline.splits.calibration, spec=tiny_pipeline.spec)
    assert all(observer.mode == FOLLOW for observer in seeded.observers)
    for before, after in zip(seeded.observers, quantized.observers, strict=True):
        assert float(before.maximum) == float(after.maximum)
    moved = [
        before.name for before, after in zip(seeded.model.weights, quantized.model.weights, strict=True)
        if not np.array_equal(before, after)
    ]
    assert any("kernel" in name for name in moved)
    assert not any(word in name for name in moved for word in ("gamma", "beta", "moving_"))


def test_seeded_ranges_are_the_means_of_the_batch_extremes(tiny_pipeline, float_model):
    quantized = qat.prepare(lower(float_model), spec=tiny_pipeline.spec, ema_decay=0.9)
    qat.seed_ranges(quantized, tiny_pipeline.splits.calibration, spec=tiny_pipeline.spec)
    observer = quantized.observers[0]
    assert float(observer.maximum) == np.float32(np.mean([high for _, high in observer.seen]))
    image = preprocess(tiny_pipeline.splits.calibration.images[:4], tiny_pipeline.spec)
    assert np.isfinite(quantized.model(image)).all()


def test_a_dead_layer_is_named(tiny_pipeline):
    model = build_resnet(input_shape=(16, 16, 1), classes=10, stage_sizes=(1,), width=4)
    model.get_layer("stem_bn").beta.assign(np.full(4, -1e6))
    quantized = qat.prepare(lower(model), spec=tiny_pipeline.spec, ema_decay=0.9)
    with pytest.raises(ModelError, match="stem_act: only zeros on all calibration images; is the layer dead"):
        qat.seed_ranges(quantized, tiny_pipeline.splits.calibration, spec=tiny_pipeline.spec)
