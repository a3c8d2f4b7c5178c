"""What a training run says while it runs: what it will cost, and where it stands."""

import math
from collections.abc import Mapping

from modgrok.config import Config

FIRST_PLATEAU = {7: 1000, 11: 2500, 13: 1000}
"""p → steps that the CPU presets usually guess for, as measured (see the book's log of the regime)."""

GUESSING = 0.97
"""A training loss above this share of ln p is that of a model which has learned next to nothing."""


def duration(seconds: float) -> str:
    """A time in words: "40 seconds", "12 minutes", "3.4 hours"."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"


def cost(config: Config, step: int, step_seconds: float) -> str:
    """What the rest of a run will cost on this machine, evaluations not counted, in a sentence."""
    left = config.steps - step
    return f"{left:,} steps of {1000 * step_seconds:.0f} ms: about {duration(left * step_seconds)} on this machine."


def standing(config: Config, row: Mapping[str, float]) -> str | None:
    """Where a run stands by its last row of metrics, in a sentence, if it only guesses as yet; else None."""
    guess = math.log(config.p)
    if not row["train_loss"] > GUESSING * guess:  # nan before the first step
        return None
    usual = FIRST_PLATEAU.get(config.p) if config.optimizer == "muon" else None
    known = f"usual for the first {usual:,} steps or so at p = {config.p}" if usual else "it may last long"
    loss = f"loss {row['train_loss']:.2f}, a guess costs {guess:.2f}"
    return f"step {row['step']:,}: still on the first plateau ({loss}); {known}."
