"""A user's own training: tfmot refuses a layer of the user's own, edgeship takes it and its file is all integers."""

from __future__ import annotations

import numpy as np

from benchmarks.own_loop import NETWORKS, Work


def test_a_layer_of_the_users_own_is_refused_by_tfmot_and_trained_by_edgeship():
    generator = np.random.default_rng(0)
    labels = np.arange(320) % 10
    images = (generator.random((320, 28, 28)) * 0.2 + 0.08 * labels[:, None, None]).astype(np.float32)
    work = Work(images=images, labels=labels, test=images[:50], test_labels=labels[:50], learning_rate=1e-3)
    rows = [row.split(" | ") for row in work.rows("with a layer of its own", seed=0, epochs=1, trained_epochs=1)]
    assert [row[0] for row in rows] == ["float, Keras", "tfmot", "edgeship, not trained", "edgeship"]
    assert {len(row) for row in rows} == {4}
    assert "Features" in rows[1][1] and "is not supported" in rows[1][1]
    assert {row[3] for row in rows[2:]} == {"5/5"}
    assert list(NETWORKS) == ["plain", "with a layer of its own"]
