"""What training says of its cost and its standing."""

import math

import pytest

from modgrok.config import preset
from modgrok.training.progress import cost, duration, standing


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 seconds"), (99, "99 seconds"), (720, "12 minutes"), (12240, "3.4 hours")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_cost_counts_the_steps_that_are_left():
    config = preset("desk", steps=6000)
    assert cost(config, 0, 0.25) == "6,000 steps of 250 ms: about 25 minutes on this machine."
    assert cost(config, 5000, 0.25).startswith("1,000 steps of 250 ms: about 4 minutes")


def test_a_run_that_guesses_says_so_and_one_that_learned_does_not():
    config = preset("desk")
    said = standing(config, {"step": 500, "train_loss": 2.38})
    assert "step 500" in said and "2.40" in said and "2,500" in said and "p = 11" in said
    assert standing(config, {"step": 4000, "train_loss": 1.3}) is None
    assert standing(config, {"step": 0, "train_loss": math.nan}) is None


def test_nothing_is_promised_where_nothing_was_measured():
    for config in (preset("paper"), preset("desk", p=17, n_tasks=4, batch_size=4)):
        assert standing(config, {"step": 5, "train_loss": 9.0}).endswith("it may last long.")
