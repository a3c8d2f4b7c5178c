"""What training says of its phase and its standing."""

import math

from modgrok.config import preset
from modgrok.training.progress import phase_start, standing


def test_a_phase_is_announced():
    config = preset("desk", curriculum="1x4:1000 1+2+0x8:2000")
    assert phase_start(config, [0, 750]) == (
        "step 750: phase 2 of 3 begins, 8 examples from 1 line or 2 lines or uniform pairs."
    )


def test_a_run_that_guesses_says_so_and_one_that_learned_does_not():
    config = preset("desk")
    message = standing(config, {"step": 500, "train_loss": 2.38})
    assert "step 500" in message and "2.40" in message and "2,500" in message and "p = 11" in message
    assert standing(config, {"step": 4000, "train_loss": 1.3}) is None
    assert standing(config, {"step": 0, "train_loss": math.nan}) is None


def test_nothing_is_promised_where_nothing_was_measured():
    for config in (preset("paper"), preset("desk", p=17, n_tasks=4, batch_size=4)):
        assert standing(config, {"step": 5, "train_loss": 9.0}).endswith("it may last long.")
