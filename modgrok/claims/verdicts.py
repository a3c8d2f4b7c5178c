"""Verdicts of several runs on a claim, and the rows of the tables that show them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgrok.analysis.skill import learned_training_set, solves
from modgrok.analysis.stats import (
    binomial_tail,
    share_interval,
    stratified_exchange_test,
)
from modgrok.config import preset
from modgrok.storage.runs import Run

Runs = Run | Iterable | Mapping
"""Runs, nested at will."""

VERDICTS = {
    "shown": "every seed agrees with the claim, and there are at least three",
    "contrary": "every seed contradicts it, and there are at least three",
    "needs a larger p": "of at least three seeds none can tell, since what the claim presupposes holds in none",
    "not shown": "anything else: the seeds differ, or neither agree nor contradict, or are too few",
}
"""Verdict → its rule."""

CANNOT_TELL = np.nan
"""Outcome of a seed in which the presupposition of the claim does not hold."""


NONE_TAUGHT = "None of these runs learned its training set, so there is nothing to count."
"""What stands in place of a table of runs that generalise, and of their control, if there are none."""


class Rule(NamedTuple):
    """How a claim is judged.

    Attributes:
        claim: the claim in a sentence.
        presupposes: condition without which a seed cannot tell.
        agrees: condition for a seed to count for the claim.
        contradicts: condition for it to count against the claim.
    """

    claim: str
    presupposes: str
    agrees: str
    contradicts: str


class Claim(NamedTuple):
    """A claim of the paper with the verdict of runs.

    Attributes:
        rule: how the claim is judged.
        verdict: a key of VERDICTS.
        p: modulus of the runs.
        measured: name of a measure → its values, as text.
        units: numbers of seeds or runs, and of those that can tell, as text.
        setting: field of the runs' configs → its values, as text.
    """

    rule: Rule
    verdict: str
    p: int
    measured: Mapping[str, str]
    units: str
    setting: Mapping[str, str]


def verdict(outcomes: ArrayLike, p: int) -> str:
    """The verdict of all seeds together, a key of VERDICTS; from the paper's p on never "needs a larger p".

    outcomes: (seeds,) 1 if a seed agrees with the claim, -1 if it contradicts it, 0 if neither, CANNOT_TELL if the
    presupposition of the claim does not hold.
    """
    outcomes = np.asarray(outcomes, dtype=float)
    if len(outcomes) >= 3:
        if (outcomes == 1).all():
            return "shown"
        if (outcomes == -1).all():
            return "contrary"
        if np.isnan(outcomes).all() and p < preset("paper").p:
            return "needs a larger p"
    return "not shown"


def seed_by_seed(rule: Rule, runs: Runs, outcomes: ArrayLike, measured: Mapping[str, str]) -> Claim:
    """The claim with its `verdict` from the outcome of each seed, (seeds,); `measured` as in `Claim`."""
    n_able, p = np.isfinite(outcomes).sum(), flat(runs)[0].config.p
    units = f"seeds: {len(np.asarray(outcomes))}, able to tell: {n_able}"
    return Claim(rule, verdict(outcomes, p), p, measured, units, setting(runs))


def contrasted(runs: Sequence[Run]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which runs solve o.o.d. tasks (training inputs) at the end, and which are their control: (runs,) bool each.

    A control run learned its training set and does not solve o.o.d. tasks, though it has some.
    """
    is_solving = np.array([solves(run, "ood_train")[-1] for run in runs], dtype=bool)
    is_taught = [learned_training_set(run) and bool(run.queries["ood_train"].any()) for run in runs]
    return is_solving, ~is_solving & is_taught


def structured(structure: str, runs: Sequence[Run], is_present: ArrayLike, chance: float) -> Claim:
    """Claim 5: models that generalise have a structure that the control, and chance, do not explain.

    The unit is the run. All runs are judged together, since chance alone gives some of them the structure. Runs of one
    seed resemble each other, so in the comparison with the control runs change places within their seed only.

    Args:
        structure: the structure, in a sentence.
        runs: runs of one p, in any setting.
        is_present: (runs,) whether a run has the structure.
        chance: probability that a model without structure passes.
    """
    is_present, (is_solving, is_control) = np.asarray(is_present, dtype=bool), contrasted(runs)
    seeds, p = np.array([run.config.seed for run in runs]), runs[0].config.p
    is_counted = is_solving | is_control
    by_chance = binomial_tail(is_present[is_solving].sum(), is_solving.sum(), chance)
    p_more, p_fewer = stratified_exchange_test(*(a[is_counted] for a in (is_present, is_solving, seeds)))
    n_able = len(set(seeds[is_solving]) & set(seeds[is_control]))
    solving, control = share(is_present[is_solving]), share(is_present[is_control])
    measured = {"runs that solve": solving, "control": control}
    if is_solving.any() and is_control.any():
        measured = {
            f"runs that solve ({_depths(runs, is_solving)})": solving,
            "by chance": f"{chance:.2g} of them (P = {by_chance:.1g})",
            f"control ({_depths(runs, is_control)})": f"{control} (P = {p_more:.1g})",
        }
    outcome = int(by_chance < 0.01 and p_more < 0.05) or -int(p_fewer < 0.05)
    outcomes = np.full(n_able, outcome) if n_able else np.full(len(set(seeds)), CANNOT_TELL)
    return Claim(
        Rule(
            f"5. Representations are structured: {structure}",
            "three seeds or more have both runs that solve o.o.d. tasks (training inputs) at the end and control runs: "
            "these learned their training set and do not solve them",
            "more of the runs that solve have it than chance explains (P < 0.01), and than the control explains (P < "
            "0.05, exact, over all exchanges of runs of the same seed)",
            "fewer of them have it than of the control (P < 0.05)",
        ),
        verdict(outcomes, p),
        p,
        measured,
        f"runs: {is_counted.sum()} of {len(runs)}; seeds: {len(set(seeds))}, able to tell: {n_able}",
        setting(runs),
    )


def distinct(runs: Runs) -> list[Run]:
    """Independent replicates: the longest run of each group whose configs differ only in length, scoring or saving."""
    ignored = {
        "steps", "warmup_steps", "eval_every", "n_checkpoints", "checkpoint_every", "eval_sequences", "mixed_precision",
    }  # fmt: skip
    longest: dict[str, Run] = {}
    for run in sorted(flat(runs), key=lambda run: run.config.steps):
        unused = ignored | ({"muon_lr"} if run.config.optimizer == "adamw" else set())
        fields = run.config.to_dict().items()
        longest[str([field for field in fields if field[0] not in unused])] = run
    return list(longest.values())


def seeds_of_every_depth(runs: Iterable[Run]) -> dict[int, list[Run]]:
    """Depth → its longest runs by seed, of the seeds that every depth has: what rules that contrast depths take."""
    by_depth: dict[int, dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: (run.config.depth, run.config.seed, run.config.steps)):
        by_depth.setdefault(run.config.depth, {})[run.config.seed] = run
    seeds = set.intersection(*map(set, by_depth.values())) if by_depth else set()
    return {
        depth: [run for run in group.values() if run.config.seed in seeds]
        for depth, group in by_depth.items()
    }


def trained_alike(runs: Iterable[Run]) -> list[Run]:
    """The runs without a curriculum, as in the paper; those with one only where there are no others."""
    runs = list(runs)
    return [run for run in runs if not run.config.curriculum] or runs


# --- rows of tables -------------------------------------------------------------------------------------

CLAIM_HEAD = ("claim", "verdict", "measured", "units", "setting")
RULE_HEAD = ("claim", "presupposes", "agrees", "contradicts")


def claim_rows(claims: Sequence[Claim]) -> list[list[str]]:
    """A row for each claim, under CLAIM_HEAD."""
    return [
        [
            claim.rule.claim,
            f"p = {claim.p}: **{claim.verdict}**",
            "; ".join(f"{name}: {values}" for name, values in claim.measured.items()),
            claim.units,
            "; ".join(f"{field} = {values}" for field, values in claim.setting.items()),
        ]
        for claim in claims
    ]


def rule_rows(claims: Sequence[Claim]) -> list[Rule]:
    """The rules of claims, each once, under RULE_HEAD."""
    return list(dict.fromkeys(claim.rule for claim in claims))


# --- numbers as text ------------------------------------------------------------------------------------


def by_seed(values: ArrayLike) -> str:
    """The values of seeds, (n,), as text such as "0.91, 0.87"; few values are listed, not summarised."""
    return ", ".join(f"{value:z.2f}" for value in np.asarray(values, dtype=float))


def share(is_true: ArrayLike) -> str:
    """Number of true units in (n,) bool with the 95 % interval of their share, as text: "2 of 3 (0.21 to 0.94)"."""
    if not np.size(is_true):
        return count(is_true)
    _, low, high = share_interval(is_true)
    return f"{count(is_true)} ({low:.2f} to {high:.2f})"


def count(is_true: ArrayLike) -> str:
    """Number of true units in (n,) bool, as text: "2 of 3", or "none here" where n is 0."""
    return f"{int(np.sum(is_true))} of {np.size(is_true)}" if np.size(is_true) else "none here"


FIELDS = {
    "p": "p", "tasks": "n_tasks", "α": "alpha", "blocks": "depth", "width": "n_embd", "examples": "n_examples",
    "steps": "steps", "seed": "seed",
}  # fmt: skip
"""Label of a field that describes a run → its name in the config."""


def describe(runs: Runs) -> dict[str, str]:
    """The fields that describe runs, and whether they had a curriculum: label → every value that they take, as text."""
    configs = [run.config for run in flat(runs)]
    values = {
        label: sorted({getattr(config, field) for config in configs}) for label, field in FIELDS.items()
    }
    values["steps"] = [f"{n_steps:,}" for n_steps in values["steps"]]
    values["curriculum"] = sorted(set(map(curriculum, flat(runs))))
    return {label: ", ".join(map(str, numbers)) for label, numbers in values.items()}


def setting(runs: Runs) -> dict[str, str]:
    """The fields that `describe` runs, and their arithmetic."""
    return describe(runs) | {"arithmetic": ", ".join(sorted(set().union(*map(arithmetic, flat(runs)))))}


def arithmetic(run: Run) -> set[str]:
    """The kinds of arithmetic of a run's sessions, such as "bf16"."""
    return {session.split(",")[0] for session in run.provenance.get("arithmetic", ())}


def curriculum(run: Run) -> str:
    """Whether a run was trained with a curriculum, "yes" or "no"; the paper used none."""
    return "yes" if run.config.curriculum else "no"


def _depths(runs: Sequence[Run], is_chosen: NDArray[np.bool_]) -> str:
    """The numbers of blocks of the chosen runs, as text."""
    depths = sorted({run.config.depth for run, chosen in zip(runs, is_chosen, strict=True) if chosen})
    return f"d = {', '.join(map(str, depths))}"


def flat(runs: Runs) -> list[Run]:
    """Nested runs in a row, without those that are missing (None)."""
    if not isinstance(runs, Iterable):
        return [runs] if runs else []
    parts = runs.values() if isinstance(runs, Mapping) else runs
    return [run for part in parts for run in flat(part)]
