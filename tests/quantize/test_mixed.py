"""Which layers stay in float: ranked trials until the bound is met, then the ones that are not needed go back."""

from __future__ import annotations

import pytest

from edgeship.core.errors import ModelError
from edgeship.quantize.mixed import choose_float_layers

RANKED = ("a", "b", "c", "d", "e", "f")


def choose(top1_of, *, bound=0.01):
    return choose_float_layers(RANKED, top1_of, float_top1=0.9, max_accuracy_drop=bound, images=512)


def test_nothing_stays_in_float_where_int8_is_good_enough():
    choice = choose(lambda kept: 0.895)
    assert choice.kept == ()
    assert len(choice.trials) == 1
    assert choice.sentence == (
        "no layer stays in float: on 512 calibration images float has 90.00%, all int8 89.50%, this 89.50%; "
        "allowed is a drop of 1.00%"
    )


def test_the_most_expensive_layers_first_and_only_as_many_as_needed():
    choice = choose(lambda kept: 0.89 if len(kept) >= 2 else 0.5)
    assert choice.kept == ("a", "b")
    assert choice.trials[0].kept == ()


def test_a_layer_that_turns_out_not_to_be_needed_is_given_back():
    # Only "c" matters; the ranking put two others before it.
    choice = choose(lambda kept: 0.9 if "c" in kept else 0.6)
    assert choice.kept == ("c",)
    assert "1 layers stay in float (c)" in choice.sentence
    assert [trial.kept for trial in choice.trials] == [
        (), ("a",), ("a", "b"), ("a", "b", "c"), ("b", "c"), ("c",),
    ]


def test_the_bound_is_a_drop_and_meeting_it_exactly_is_enough():
    assert choose(lambda kept: 0.89, bound=0.01).kept == ()  # 0.9 - 0.89 is a little more than 0.01 in binary
    assert choose(lambda kept: 0.89 if kept else 0.888, bound=0.01).kept == ("a",)
    assert choose(lambda kept: 0.95, bound=0.0).kept == ()


def test_half_of_the_layers_in_float_is_refused():
    with pytest.raises(ModelError, match=r"the 3 most sensitive of 6 layers in float, top-1 .* 10.00%, float 90.00%"):
        choose(lambda kept: 0.1)


def test_the_record_is_plain_json():
    record = choose(lambda kept: 0.9 if kept else 0.1).record
    assert record["kept"] == ("a",)
    assert record["trials"][0] == {"kept": (), "top1": 0.1}
    assert record["sentence"].startswith("1 layers stay in float (a)")
