"""Verdicts: what runs say together of a claim, how many of them it takes, and the tables that tell it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgrok.analysis.skill import learned_training_set, solves
from modgrok.analysis.stats import (
    binomial_tail,
    mean_interval,
    share_interval,
    sign_flip_test,
    stratified_exchange_test,
)
from modgrok.claims.cost import core_minutes
from modgrok.config import Config
from modgrok.storage.runs import Run

Runs = Sequence[Run] | NDArray[np.object_]

MIN_SEEDS = 3
"""With fewer, nothing is shown, nor its contrary."""


class Claim(NamedTuple):
    """A claim of the paper and what runs say of it.

    Attributes:
        claim: in a sentence.
        agrees, contradicts: what one unit must do to count for the claim, or against it.
        setting: of the runs.
        units: how many there are, of what: seeds, as a rule.
        measured: numbers with 95 % intervals over these units.
        verdict: "shown", "not shown" or "contrary".
        minutes: core-minutes of training.
        p: modulus of the runs.
    """

    claim: str
    agrees: str
    contradicts: str
    setting: str
    units: str
    measured: str
    verdict: str
    minutes: float
    p: int


def verdict(outcomes: ArrayLike, min_seeds: int = MIN_SEEDS) -> str:
    """What seeds say together: each 1 if it agrees with the claim, -1 if it contradicts it, 0 if it does not tell."""
    outcomes = np.asarray(outcomes)
    if len(outcomes) >= min_seeds and (outcomes == 1).all():
        return "shown"
    return "contrary" if len(outcomes) >= min_seeds and (outcomes == -1).all() else "not shown"


def seed_by_seed(
    claim: str, agrees: str, contradicts: str, runs: Runs, outcomes: ArrayLike, measured: str
) -> Claim:
    """A claim that seeds decide, one by one."""
    n = len(np.asarray(outcomes))
    return Claim(
        claim, agrees, contradicts, _setting(runs), _words(n, "seed"), measured + _too_few(n),
        verdict(outcomes), core_minutes(_flat(runs)), _flat(runs)[0].config.p,
    )  # fmt: skip


def contrasted(runs: Sequence[Run]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which runs solve o.o.d. tasks (training inputs) at the end, and which are their control: (runs,) each.

    A control learned its training set and does not solve them: of a model that learned nothing, or for which all tasks
    were pre-training tasks, nothing follows.
    """
    able = np.array([solves(run, "ood_train")[-1] for run in runs], dtype=bool)
    return able, ~able & [learned_training_set(run) and run.queries["ood_train"].any() for run in runs]


def structured(what: str, runs: Sequence[Run], found: ArrayLike, chance: float) -> Claim:
    """Claim 5: models that generalise have a structure that others, and chance, do not have.

    Here the unit is the run, and all of them are judged together: by chance some would have the structure, too. Runs
    of one seed resemble each other, so that only these change places in the comparison with the control.

    Args:
        what: the structure, in a sentence.
        runs: those that were looked at, of whatever setting.
        found: (runs,) whether each has it.
        chance: probability that a model without structure passes.
    """
    found, (able, control) = np.asarray(found, dtype=bool), contrasted(runs)
    hits, seed = int(found[able].sum()), np.array([run.config.seed for run in runs])
    by_chance = binomial_tail(hits, int(able.sum()), chance)
    counted = able | control
    more, fewer = stratified_exchange_test(found[counted], able[counted], seed[counted])
    decided = "shown" if by_chance < 0.01 and more < 0.05 else "contrary" if fewer < 0.05 else "not shown"
    with_both, left_out = len(set(seed[able]) & set(seed[control])), int((~counted).sum())
    beside = (
        f"of the control{_depths(runs, control)}: {share(found[control])}"
        if control.any()
        else "there is no control, a run that learned its training set and does not solve them"
    )
    return Claim(
        f"5. Representations are structured: {what}",
        "it is found in more of the runs that solve o.o.d. tasks (training inputs) at the end than chance (P < 0.01) "
        "and than the control (P < 0.05, exact, over all exchanges of runs of the same seed) explain; the control are "
        "runs that learned their training set and do not solve them",
        "it is found in fewer of them than of the control (P < 0.05)",
        _setting(runs),
        f"{_words(int(counted.sum()), 'run')} of {_words(len(set(seed[counted])), 'seed')}"
        + f" ({left_out} others did not learn their training set)" * (left_out > 0),
        f"of runs that solve{_depths(runs, able)}: {share(found[able])}, by chance {chance:.2g} of them "
        f"(P = {by_chance:.1g}); {beside}"
        + (f" (P = {more:.1g})" + _too_few(with_both, " with both") if control.any() else ""),
        decided if with_both >= MIN_SEEDS else "not shown",
        core_minutes(_flat(runs)),
        runs[0].config.p,
    )


def distinct(runs: Runs) -> list[Run]:
    """Of runs that differ in their length, or in nothing that weights tell, the longest: they are no replicates."""
    longest: dict[Config, Run] = {}
    aside = dict(
        steps=1,
        warmup_steps=0,
        eval_every=1,
        n_checkpoints=1,
        checkpoint_every=1,
        eval_sequences=1,
        mixed_precision="no",
    )
    for run in sorted(_flat(runs), key=lambda run: run.config.steps):
        unused = {"muon_lr": 1.0} if run.config.optimizer == "adamw" else {}
        longest[replace(run.config, **aside, **unused)] = run
    return list(longest.values())


def table(claims: Sequence[Claim]) -> str:
    """Markdown, a row a claim."""
    head = ("claim", "verdict", "measured", "units", "setting", "core-minutes")
    lines = [head, ("---",) * len(head)]
    lines += [
        (c.claim, f"**{c.verdict}**, p = {c.p}", c.measured, c.units, c.setting, f"{c.minutes:.0f}")
        for c in claims
    ]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def rules(claims: Sequence[Claim]) -> str:
    """Markdown, an item a claim: what counts for it, and what against."""
    items = [f"- *{c.claim}.* Agrees: {c.agrees}. Contradicts: {c.contradicts}." for c in claims]
    return "\n".join(dict.fromkeys(items))


def interval(values: ArrayLike, within: tuple[float, float] = (-np.inf, np.inf)) -> str:
    """Mean and 95 % interval over units (n,), as by `mean_interval`; the mean alone of a single one.

    Units that agree exactly have no spread from which an interval could be told.
    """
    mean, low, high = mean_interval(values, within)
    if np.isclose(low, high):
        return f"{mean:z.2f} (all alike)"
    return f"{mean:z.2f} ({low:z.2f} to {high:z.2f})" if np.isfinite(low) else f"{mean:z.2f}"


def share(of: ArrayLike) -> str:
    """How many of some units (n,), bool, it is true of, with the 95 % interval of the share."""
    of = np.asarray(of, dtype=bool)
    _, low, high = share_interval(of.sum(), len(of))
    return f"{of.sum()} of {len(of)} ({low:.2f} to {high:.2f})" if len(of) else "0 of 0"


def apart(values: ArrayLike, base: ArrayLike) -> int:
    """1 where all values lie above all of the base (any length), −1 where below, 0 where they overlap.

    A nan, the step of what was never reached, counts as later than any number.
    """
    values, base = (np.where(np.isnan(of), np.inf, of) for of in (values, base))
    return int(values.min() > base.max()) - int(values.max() < base.min())


def paired(one: ArrayLike, other: ArrayLike) -> list:
    """Cells of a row that sets two conditions beside each other, pair by pair.

    Args:
        one, other: (n,) what was measured in each; pairs with a nan are left out.

    Returns:
        how many pairs are left; the means of one and of other, and of their difference, with its interval over pairs;
        P of `sign_flip_test`. Dashes where no pair is left.
    """
    one, other = (np.asarray(values, dtype=float) for values in (one, other))
    known = np.isfinite(one) & np.isfinite(other)
    if not known.any():
        return [0, *"–" * 4]
    differ = (one - other)[known]
    means = (f"{of[known].mean():z.2f}" for of in (one, other))
    return [known.sum(), *means, interval(differ), f"{sign_flip_test(differ):.2g}"]


def _too_few(seeds: int, which: str = "") -> str:
    return "" if seeds >= MIN_SEEDS else f"; {_words(seeds, 'seed')}{which} only, a verdict takes {MIN_SEEDS}"


def _words(n: int, unit: str) -> str:
    return f"{('no', 'one', 'two')[n] if n < 3 else n} {unit}{'' if n == 1 else 's'}"


def _depths(runs: Runs, which: NDArray[np.bool_]) -> str:
    """In brackets the numbers of blocks of some of the runs; nothing if there are none."""
    depths = sorted({run.config.depth for run, counts in zip(runs, which, strict=True) if counts})
    return f" (d = {', '.join(map(str, depths))})" if depths else ""


def _flat(runs: Runs) -> list[Run]:
    return list(np.ravel(np.array(runs, dtype=object)))


def _setting(runs: Runs) -> str:
    """The fields that describe runs, with the values that they take, and how they were computed if that differs."""
    configs, words = [run.config for run in _flat(runs)], []
    for field, word in (("n_tasks", "n"), ("alpha", "α"), ("depth", "d"), ("steps", "steps")):
        values = sorted({getattr(config, field) for config in configs})
        words.append(f"{word} = {', '.join(f'{value:g}' for value in values)}")
    computed = {how.split(",")[0] for run in _flat(runs) for how in run.provenance.get("arithmetic", ())}
    return "; ".join(words + [", ".join(sorted(computed))] * (len(computed) > 1))
