"""What training says of its cost and its standing."""

import math

import pytest

from modgrok.config import preset
from modgrok.training.progress import cost, duration, phase_start, standing


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 seconds"), (99, "99 seconds"), (720, "12 minutes"), (12240, "3.4 hours")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_cost_counts_the_steps_that_are_left():
    config = preset("desk", steps=6000)
    assert cost(config, [0], 0, 0.25) == "6,000 steps of 250 ms: about 25 minutes on this machine."
    assert cost(config, [0], 5000, 0.25).startswith("1,000 steps of 250 ms: about 4 minutes")


def test_cost_counts_longer_sequences_as_longer_and_phases_as_long_as_they_may_last():
    config = preset("desk", steps=6000, curriculum="1x4:1000 2+0x8:2000 4x16:1000")
    # in units of 4 examples: 500 + 2 · 2000 + 4 · 3000 steps
    assert cost(config, [0], 500, 0.1) == "5,500 steps of 300 ms: about 28 minutes on this machine."
    assert cost(config, [0, 600], 600, 0.2).startswith(
        "5,400 steps of 326 ms"
    )  # 2000 + 6800, in units of 0.2 s


def test_a_phase_is_announced():
    config = preset("desk", curriculum="1x4:1000 1+2+0x8:2000")
    assert phase_start(config, [0, 750]) == (
        "step 750: phase 2 of 3 begins, 8 examples on 1 line or 2 lines or uniform pairs."
    )


def test_a_run_that_guesses_says_so_and_one_that_learned_does_not():
    config = preset("desk")
    said = standing(config, {"step": 500, "train_loss": 2.38})
    assert "step 500" in said and "2.40" in said and "2,500" in said and "p = 11" in said
    assert standing(config, {"step": 4000, "train_loss": 1.3}) is None
    assert standing(config, {"step": 0, "train_loss": math.nan}) is None


def test_nothing_is_promised_where_nothing_was_measured():
    for config in (preset("paper"), preset("desk", p=17, n_tasks=4, batch_size=4)):
        assert standing(config, {"step": 5, "train_loss": 9.0}).endswith("it may last long.")
