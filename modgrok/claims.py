"""The paper's claims 1 to 4, each judged from runs by a rule that is stated beside the numbers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgrok.evaluate import PHASES, early_stop, map_accuracy, phases, solves
from modgrok.runs import Run


class Claim(NamedTuple):
    """A claim of the paper and what runs say of it; minutes are core-minutes of training."""

    claim: str
    rule: str
    setting: str
    seeds: int
    measured: str
    verdict: str
    minutes: float


def verdict(outcomes: ArrayLike) -> str:
    """What seeds say together: each 1 if it agrees with the claim, -1 if it contradicts it, 0 if it does not tell."""
    outcomes = np.asarray(outcomes)
    if (outcomes == 1).all():
        return "shown"
    return "contrary" if (outcomes == -1).all() else "not shown"


def more_tasks(runs: NDArray[np.object_]) -> Claim:
    """Claim 1, first half: with more pre-training tasks comes generalisation to others.

    Args:
        runs: (seeds, alphas, n_tasks).
    """
    accuracy = map_accuracy(runs)["ood_train"]
    few, many = accuracy[:, :, 0].max(1), accuracy[:, :, -1].max(1)  # at the best α of each seed
    p, numbers = runs[0, 0, 0].config.p, [run.config.n_tasks for run in runs[0, 0]]
    passed = np.stack([solves(few, p), solves(many, p)]).astype(int)
    return Claim(
        "1. With more pre-training tasks a model goes from in-distribution to out-of-distribution generalisation",
        f"with {numbers[0]} tasks no α solves the o.o.d. tasks on training inputs, with {numbers[-1]} some α does",
        _setting(runs),
        len(runs),
        f"at the best α, {numbers[0]} tasks: {spread(few)}; {numbers[-1]} tasks: {spread(many)}",
        verdict(passed[1] - passed[0]),
        core_minutes(runs),
    )


def four_phases(runs: NDArray[np.object_]) -> Claim:
    """Claim 1, second half: the plane of tasks and inputs has four phases.

    Args:
        runs: (seeds, alphas, n_tasks).
    """
    reached = phases(map_accuracy(runs), runs[0, 0, 0].config.p)
    found = np.array([[(of_seed == i).any() for i in range(1, len(PHASES))] for of_seed in reached])
    counts = [f"{name} {(reached == i).sum()}" for i, name in enumerate(PHASES)]
    return Claim(
        "1. There are four phases in the plane of tasks and inputs",
        "each of the four phases is reached by some model of each seed",
        _setting(runs),
        len(runs),
        f"models at the end: {', '.join(counts)}",
        verdict(found.all(1)),
        core_minutes(runs),
    )


def in_context(runs: Sequence[Run]) -> Claim:
    """Claim 2: accuracy on tasks never trained on rises with the number of shots.

    Args:
        runs: differing in their seed.
    """
    curves = np.stack([run.shots["ood_train"][-1] for run in runs])
    p, last = runs[0].config.p, curves.shape[1] - 1
    shown = sorted({min(shot, last) for shot in (0, 1, 2, last // 2, last)})
    rises = solves(curves[:, -1], p) & ~solves(curves[:, 0], p)
    return Claim(
        "2. Out-of-distribution generalisation is in-context learning: accuracy rises with shots",
        f"o.o.d. tasks on training inputs are solved with {last} shots and not with none",
        _setting(runs),
        len(runs),
        "; ".join(f"{shot} shots: {spread(curves[:, shot])}" for shot in shown),
        verdict(rises.astype(int) - (curves[:, -1] <= curves[:, 0])),
        core_minutes(runs),
    )


def two_blocks(one: Sequence[Run], two: Sequence[Run]) -> Claim:
    """Claim 3: one block does not generalise out of distribution, two do.

    Args:
        one, two: runs of one and of two blocks, seed by seed.
    """
    p = one[0].config.p
    stops = [[early_stop(run.metrics["ood_train_acc"]) for run in group] for group in (one, two)]
    solved = np.array([[stop.generalises(p) for stop in group] for group in stops], dtype=int)
    best = [spread([stop.best for stop in group]) for group in stops]
    return Claim(
        "3. Two blocks are the least that generalise out of distribution",
        "stopped early, two blocks solve o.o.d. tasks on training inputs and one block does not",
        _setting([*one, *two]),
        len(one),
        f"one block: {best[0]}; two blocks: {best[1]}",
        verdict(solved[1] - solved[0]),
        core_minutes([*one, *two]),
    )


def transience(runs: Sequence[Run]) -> Claim:
    """Claim 4: a deep model's generalisation rises and falls.

    Args:
        runs: of one depth, differing in their seed. One that does not fall tells nothing: it may fall later.
    """
    p = runs[0].config.p
    stops = [early_stop(run.metrics["ood_train_acc"]) for run in runs]
    return Claim(
        f"4. In deeper models o.o.d. generalisation is transient ({runs[0].config.depth} blocks)",
        "o.o.d. tasks on training inputs are solved at the early-stopping point, and more than 0.05 is lost by the end",
        _setting(runs),
        len(runs),
        f"early-stopped: {spread([stop.best for stop in stops])}; at the end: {spread([stop.final for stop in stops])}",
        verdict([stop.transient(p) for stop in stops]),
        core_minutes(runs),
    )


def lasting_table(groups: Mapping[int, Sequence[Run]]) -> str:
    """Markdown, a row a depth: how many of its runs generalise when stopped early, and how many are then transient."""
    rows = [
        "| blocks | early-stopped | at the end | generalise | transient |",
        "| --- | --- | --- | --- | --- |",
    ]
    for depth, runs in groups.items():
        p, stops = runs[0].config.p, [early_stop(run.metrics["ood_train_acc"]) for run in runs]
        able, fell = (sum(getattr(stop, name)(p) for stop in stops) for name in ("generalises", "transient"))
        best, final = (spread([getattr(stop, name) for stop in stops]) for name in ("best", "final"))
        rows.append(f"| {depth} | {best} | {final} | {able} of {len(stops)} | {fell} of {len(stops)} |")
    return "\n".join(rows)


def table(claims: Sequence[Claim]) -> str:
    """Markdown, a row a claim."""
    head = ("claim", "setting", "seeds", "measured", "verdict", "core-minutes")
    lines = [head, ("---",) * len(head)]
    lines += [
        (c.claim, c.setting, c.seeds, c.measured, f"**{c.verdict}**", f"{c.minutes:.0f}") for c in claims
    ]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def spread(values: ArrayLike) -> str:
    """Mean, least and most."""
    return f"{np.mean(values):.2f} ({np.min(values):.2f} to {np.max(values):.2f})"


def core_minutes(runs: Sequence[Run] | NDArray[np.object_]) -> float:
    """Wall time of training times threads, in minutes, over all sessions at the size of the last."""
    records = [run.provenance for run in np.ravel(np.array(runs, dtype=object))]
    return sum(r["seconds"] * r["threads"] * r["processes"][-1] for r in records) / 60


def _setting(runs: Sequence[Run] | NDArray[np.object_]) -> str:
    """The fields that describe runs, with the values that they take."""
    configs = [run.config for run in np.ravel(np.array(runs, dtype=object))]
    words = []
    for field, word in (("p", "p"), ("n_tasks", "n"), ("alpha", "α"), ("depth", "d"), ("steps", "steps")):
        values = sorted({getattr(config, field) for config in configs})
        words.append(f"{word} = {', '.join(f'{value:g}' for value in values)}")
    return "; ".join(words)
