"""What a training run says while it runs: the phase that begins, and whether it still guesses."""

import math
from collections.abc import Mapping, Sequence

from modgrok.config import Config

FIRST_PLATEAU = {7: 1000, 11: 2500, 13: 1000}
"""p → steps that the CPU presets usually guess for, as measured (see the book's log of the regime)."""

GUESSING = 0.97
"""A training loss above this share of ln p is that of a model which has learned next to nothing."""


def phase_start(config: Config, starts: Sequence[int]) -> str:
    """The phase of the curriculum that has just begun, in a sentence, given the steps at which phases began."""
    phase = config.phases[len(starts) - 1]
    words = [
        f"{count} {phase.unit if count > 1 else phase.unit[:-1]}" if count else "uniform pairs"
        for count in dict.fromkeys(phase.counts)
    ]
    return (
        f"step {starts[-1]:,}: phase {len(starts)} of {len(config.phases)} begins, {phase.n_examples} examples from "
        f"{' or '.join(words)}."
    )


def standing(config: Config, row: Mapping[str, float]) -> str | None:
    """Where a run stands by its last row of metrics, in a sentence, if it only guesses as yet; else None."""
    guess = math.log(config.p)
    if not row["train_loss"] > GUESSING * guess:  # nan before the first step
        return None
    is_measured = config.optimizer == "muon" and not config.curriculum and config.p in FIRST_PLATEAU
    outlook = "it may last long"
    if is_measured:
        outlook = f"usual for the first {FIRST_PLATEAU[config.p]:,} steps or so at p = {config.p}"
    loss = f"loss {row['train_loss']:.2f}, a guess costs {guess:.2f}"
    return f"step {row['step']:,}: still on the first plateau ({loss}); {outlook}."
