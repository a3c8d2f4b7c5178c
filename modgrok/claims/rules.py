"""The paper's six claims, each a contrast whose unit of replication is named; `verdicts` says how they are decided."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgrok.analysis import activations, similarity, stats, structure
from modgrok.analysis.skill import (
    EASIER,
    MIN_FALL,
    PHASES,
    SOLVED,
    learned_training_set,
    map_skill,
    novel_at_end,
    ood_stop,
    phases,
    solves,
)
from modgrok.analysis.stats import SHARE
from modgrok.claims.verdicts import Claim, interval, seed_by_seed, structured
from modgrok.config import SETS
from modgrok.data import Data, grid
from modgrok.evaluate import COMBINATION, MULTIPLE
from modgrok.storage.runs import Run

INPUTS = {"ood_train": "training inputs", "ood_test": "test inputs"}
"""Set of o.o.d. tasks → its inputs, in words."""


def more_tasks(runs: NDArray[np.object_]) -> Claim:
    """Claim 1, first half: with more pre-training tasks comes generalisation to others.

    Args:
        runs: (seeds, alphas, n_tasks).
    """
    skills, numbers = map_skill(runs)["ood_train"], [run.config.n_tasks for run in runs[0, 0]]
    solved = (skills >= SOLVED).mean(1)  # (seeds, n_tasks), over all α
    rise = solved[:, -1] - solved[:, 0]
    correlation = np.array([stats.rank_correlation(np.broadcast_to(numbers, of.shape), of) for of in skills])
    return seed_by_seed(
        "1a. With more pre-training tasks a model goes from in-distribution to out-of-distribution generalisation",
        f"from {numbers[0]} to {numbers[-1]} tasks the share of all α at which o.o.d. tasks are solved (training "
        "inputs) rises by half or more, and over the whole map skill grows with the number of tasks (rank correlation)",
        "the share falls by half or more, and skill shrinks with the number of tasks",
        runs,
        np.where(correlation > 0, rise >= 0.5, 0) - np.where(correlation < 0, rise <= -0.5, 0),
        f"share of α solved with {numbers[0]} tasks: {interval(solved[:, 0], SHARE)}; with {numbers[-1]}: "
        f"{interval(solved[:, -1], SHARE)}; rank correlation: {interval(correlation, (-1, 1))}",
    )


def four_phases(runs: NDArray[np.object_]) -> Claim:
    """Claim 1, second half: the plane of tasks and inputs has four phases.

    Args:
        runs: (seeds, alphas, n_tasks).
    """
    reached, skills = phases(runs), map_skill(runs)
    solved = {name: values >= SOLVED for name, values in skills.items()}
    disorder = np.any([solved[name] & ~solved[less] for name in SETS for less in EASIER[name]], axis=0)
    able = (reached > 0).reshape(len(runs), -1).sum(1)
    found = np.array([[(of_seed == i).any() for i in range(1, len(PHASES))] for of_seed in reached])
    counts = ", ".join(f"{name} {(reached == i).sum()}" for i, name in enumerate(PHASES))
    mostly = 2 * disorder.reshape(len(runs), -1).sum(1) > able
    return seed_by_seed(
        "1b. There are four phases in the plane of tasks and inputs",
        "each of the four phases is reached by some model",
        "of the models that solve any set, most solve one without the easier ones, so that phases make no sense",
        runs,
        np.where(mostly, -1, found.all(1)),
        f"models at the end: {counts}; {disorder.sum()} of {able.sum()} solve a set without the easier ones",
    )


def in_context(runs: Sequence[Run]) -> Claim:
    """Claim 2: accuracy on tasks never trained on rises with the number of shots.

    Args:
        runs: differing in their seed.
    """
    curves, errors = np.stack([novel_at_end(run, "ood_train") for run in runs], axis=1)  # (seeds, K) each
    solved = np.array([solves(run, "ood_train")[-1] for run in runs])
    rises = curves[:, -1] - curves[:, 0] > 1.96 * np.hypot(errors[:, -1], errors[:, 0])
    last = curves.shape[1] - 1
    shown = sorted({min(shot, last) for shot in (0, 1, 2, last // 2, last)})
    by_shot = "; ".join(
        f"{shot} shot{'s' * (shot != 1)}: {interval(curves[:, shot], SHARE)}" for shot in shown
    )
    return seed_by_seed(
        "2. Out-of-distribution generalisation is in-context learning: accuracy rises with shots",
        "the model solves o.o.d. tasks on training inputs, and there its accuracy on queries that are no repeat rises "
        f"from 0 to {last} shots by more than its error",
        "it solves them, and its accuracy does not rise",
        runs,
        np.where(solved, np.where(rises, 1, -1), 0),
        f"chance {1 / runs[0].config.p:.2f}; {by_shot}; {_count(solved, 'solve them')}",
    )


def two_blocks(one: Sequence[Run], two: Sequence[Run]) -> Claim:
    """Claim 3: one block does not generalise out of distribution, two do.

    Args:
        one, two: runs of one and of two blocks, seed by seed.
    """
    best = np.array([[ood_stop(run).best for run in group] for group in (one, two)])
    known = np.array([[learned_training_set(run) for run in group] for group in (one, two)])
    solved = (best >= SOLVED) & known
    words = [
        f"{name} {interval(of)} ({_count(knows, 'learned their training set')})"
        for name, of, knows in zip(("one block", "two blocks"), best, known, strict=True)
    ]
    return seed_by_seed(
        "3. Two blocks are the least that generalise out of distribution",
        "both learned their training set, and stopped early two blocks solve o.o.d. tasks on training inputs and one "
        "block does not",
        "one block solves them",
        [*one, *two],
        np.where(solved[0], -1, solved[1] & known.all(0)),
        f"skill, stopped early: {'; '.join(words)}",
    )


def transience(shallow: Sequence[Run], deep: Sequence[Run], name: str = "ood_train") -> Claim:
    """Claim 4: a deep model's generalisation rises and falls, a shallow one's lasts.

    Args:
        shallow, deep: runs of two depths in one setting, seed by seed. A model that never solved the o.o.d. tasks, or
            did not learn its training set, has nothing to keep, and tells nothing.
        name: "ood_train" or "ood_test", the inputs.
    """
    stops = [[ood_stop(run, name) for run in group] for group in (shallow, deep)]
    fell = np.array([[stop.is_transient for stop in group] for group in stops])
    able = np.array([[stop.is_solved for stop in group] for group in stops])
    able &= [[learned_training_set(run) for run in group] for group in (shallow, deep)]
    depths = [group[0].config.depth for group in (shallow, deep)]
    words = [
        f"{depth} blocks {interval([stop.best for stop in group])} stopped early, "
        f"{interval([stop.final for stop in group])} at the end ({_count(of, 'fell')})"
        for depth, group, of in zip(depths, stops, fell, strict=True)
    ]
    return seed_by_seed(
        f"4. In deeper models o.o.d. generalisation is transient ({INPUTS[name]}, {depths[1]} blocks against "
        f"{depths[0]})",
        f"both solve o.o.d. tasks on {INPUTS[name]} at some time; then {depths[1]} blocks lose skill, more than "
        f"{MIN_FALL} and than noise explains, and {depths[0]} do not",
        f"{depths[0]} blocks lose it and {depths[1]} do not",
        [*shallow, *deep],
        np.where(able.all(0), fell[1].astype(int) - fell[0], 0),
        f"skill: {'; '.join(words)}",
    )


def parity(runs: Sequence[Run]) -> Claim:
    """Claim 5, in the embedding: odd and even logarithms lie apart (F1e).

    Args:
        runs: of one p; see `verdicts.distinct`.
    """
    p = runs[0].config.p
    ranks = [structure.parity_rank(run.model().embed.weight.detach().numpy(), p) for run in runs]
    splits = ranks[0][1]
    return structured(
        f"of {splits} ways to halve the numbers 1 … {p - 1}, odd and even discrete logarithms differ most in the "
        "embedding",
        runs,
        [rank == 1 for rank, _ in ranks],
        1 / splits,
    )


def waves(runs: Sequence[Run]) -> Claim:
    """Claim 5, in a head of the first block: numbers in the order of their logarithm (F1d).

    Args:
        runs: see `verdicts.distinct`.
    """
    what = "at y some head of block 0 writes x in waves of its discrete logarithm"
    return _against_other_names(what, "heads", runs, wave_probability)


def ratios(runs: Sequence[Run]) -> Claim:
    """Claim 5, in what the blocks write: pairs of one ratio x/y are alike (F7).

    Args:
        runs: see `verdicts.distinct`.
    """
    what = "at y, after some block, pairs of one ratio x/y are alike"
    return _against_other_names(what, "blocks", runs, ratio_probability)


def _against_other_names(
    what: str, places: str, runs: Sequence[Run], probability: Callable[[Run], float]
) -> Claim:
    """Claim 5 where a run has a structure if random names for the numbers would hardly show as much of it."""
    return structured(
        f"{what}, more than if the numbers had other names (mean over {CONTEXTS} contexts, P < {CHANCE}, all {places} "
        "counted)",
        runs,
        [probability(run) < CHANCE for run in runs],
        CHANCE,
    )


CONTEXTS = 20
"""Contexts that a measure of structure is the mean of."""

CHANCE = 0.05
"""What chance passes of the runs' tests for a wave, or for likeness by ratio, at most."""


def wave_probability(run: Run, shots: int = 4) -> float:
    """How probable, if numbers had random names, so large a log wave of x in some head of block 0 would be (F1d).

    Args:
        run: its last checkpoint is judged.
        shots: examples in front of the pair that is looked at, at most; fewer where sequences are shorter.
    """
    shots = min(shots, run.config.n_examples - 2)
    model, p = run.model(), run.config.p
    drawn = zip(*activations.draw_contexts(Data(run.config), CONTEXTS), strict=True)
    at_y = [activations.head_features(model, context[:shots], task)[0, :, 1] for context, task in drawn]
    log = structure.discrete_log(p)[grid(p)[:, 0]] - 1
    means = [[structure.class_means(head[log >= 0], log[log >= 0]) for head in heads] for heads in at_y]
    spectra = np.array([[structure.log_spectrum(of) for of in heads] for heads in means])
    return stats.min_p_value(spectra.mean(0).max(-1))  # (heads, renamings)


def ratio_probability(run: Run, shots: int = 4) -> float:
    """How probable, if numbers had random names, such likeness by ratio at y after some block would be (F7).

    Pairs of one ratio must be more alike than others: a score that is negative, if less so than by chance, is none.

    Args:
        run, shots: as in `wave_probability`.
    """
    shots = min(shots, run.config.n_examples - 2)
    model = run.model()
    drawn = zip(*activations.draw_contexts(Data(run.config), CONTEXTS), strict=True)
    at_y = [activations.block_features(model, context[:shots], task)[:, 1] for context, task in drawn]
    alike = [[similarity.cosine_similarity(of, center=True) for of in blocks] for blocks in at_y]
    each = similarity.contrast(alike, similarity.ratio_groupings(run.config.p))  # (contexts, depth, shuffles)
    scores = [stats.compare_with_null(of_block) for of_block in each.swapaxes(0, 1)]
    return min(1.0, run.config.depth * min(of.p_value if of.value > 0 else 1.0 for of in scores))


def combination(two: Sequence[Run], four: Sequence[Run]) -> Claim:
    """Claim 6, first half: two blocks match ratios, four also combine examples.

    Args:
        two, four: runs of two and of four blocks, seed by seed.
    """
    p = four[0].config.p
    (a, error_a), (b, error_b) = (_pooled(group, COMBINATION) for group in (two, four))
    multiples = [_pooled(group, MULTIPLE)[0] for group in (two, four)]
    clear = np.maximum(0.1, 1.96 * np.hypot(error_a, error_b))
    agrees = (multiples[0] >= (1 + 1 / p) / 2) & (b - 1 / p > 1.96 * error_b) & (b - a > clear)
    return seed_by_seed(
        "6a. Two blocks match ratios; four also combine examples",
        "both learned their training set; of the o.o.d. queries (training inputs) that are another multiple two blocks "
        "have more than half of the way from a guess to all right, and on those that need a combination four blocks "
        "are above chance, and above two blocks by 0.1, each by more than the error",
        "on those that need a combination two blocks are above four by 0.1 and more than the error",
        [*two, *four],
        np.where(_learned(two, four), agrees.astype(int) - (a - b > clear), 0),
        f"combinations: two blocks {interval(a, SHARE)}, four {interval(b, SHARE)}, chance {1 / p:.2f}; other "
        f"multiples: two blocks {interval(multiples[0], SHARE)}, four {interval(multiples[1], SHARE)}",
    )


def shift(two: Sequence[Run], four: Sequence[Run]) -> Claim:
    """Claim 6, second half: with shots four blocks shift to combining examples, and two do not.

    Args:
        two, four: as in `combination`.
    """
    half, shots = (four[0].config.n_examples + 1) // 2, four[0].config.n_examples
    early, late = (
        np.array([_pooled(group, COMBINATION, part) for group in (two, four)])  # (depths, 2, runs)
        for part in (slice(0, half), slice(half, shots))
    )
    rise, errors = late[:, 0] - early[:, 0], np.hypot(late[:, 1], early[:, 1])
    clear = np.maximum(0.1, 1.96 * np.hypot(*errors))
    return seed_by_seed(
        "6b. With more shots four blocks shift to combining examples, two do not",
        "both learned their training set, and from the earlier half of the shots to the later accuracy on o.o.d. "
        "queries (training inputs) that need a combination rises in four blocks, by 0.1 more than in two, each by "
        "more than the error",
        "it rises in two blocks by 0.1 more than in four, and by more than the error",
        [*two, *four],
        np.where(
            _learned(two, four),
            ((rise[1] > 1.96 * errors[1]) & (rise[1] - rise[0] > clear)).astype(int)
            - ((rise[0] > 1.96 * errors[0]) & (rise[0] - rise[1] > clear)),
            0,
        ),
        f"rise: two blocks {interval(rise[0])}, four {interval(rise[1])}",
    )


def _learned(one: Sequence[Run], other: Sequence[Run]) -> NDArray[np.bool_]:
    """Whether both runs of a seed learned their training set."""
    return np.array(
        [learned_training_set(a) and learned_training_set(b) for a, b in zip(one, other, strict=True)]
    )


def lasting_table(groups: Mapping[int, Sequence[Run]]) -> str:
    """Markdown, two rows a depth, one for each kind of inputs: which of its runs learned their training set, solved
    o.o.d. tasks when stopped early, and then fell."""
    rows = [
        "| blocks | inputs | skill, stopped early | at the end | learned the training set | solve | transient |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for depth, runs in groups.items():
        for name in INPUTS:
            stops = [ood_stop(run, name) for run in runs]
            best, final = (interval([getattr(stop, at) for stop in stops]) for at in ("best", "final"))
            told = (
                map(learned_training_set, runs),
                (stop.is_solved for stop in stops),
                (stop.is_transient for stop in stops),
            )
            counts = " | ".join(f"{sum(of)} of {len(stops)}" for of in told)
            rows.append(f"| {depth} | {name.removeprefix('ood_')} | {best} | {final} | {counts} |")
    return "\n".join(rows)


def fallen_table(runs: Iterable[Run]) -> str:
    """Markdown, a row for each p and depth: how many runs learned their training set, and how many of these solved
    o.o.d. tasks at their best moment, and fell."""
    groups: dict[tuple[int, int], list[Run]] = {}
    for run in filter(learned_training_set, runs):
        groups.setdefault((run.config.p, run.config.depth), []).append(run)
    rows = [f"| $p$ | blocks | runs | {' | '.join(f'solve, {of} | then fall' for of in INPUTS.values())} |"]
    rows.append("| --- | --- | --- | --- | --- | --- | --- |")
    for of, group in sorted(groups.items()):
        stops = [[ood_stop(run, name) for run in group] for name in INPUTS]
        counts = [
            sum(getattr(stop, what) for stop in each)
            for each in stops
            for what in ("is_solved", "is_transient")
        ]
        rows.append(f"| {' | '.join(map(str, (*of, len(group), *counts)))} |")
    return "\n".join(rows)


def _count(of: ArrayLike, what: str) -> str:
    return f"{np.sum(of)} of {len(np.asarray(of))} {what}"


def _pooled(runs: Sequence[Run], kind: int, shots: slice = slice(None)) -> np.ndarray:
    """Accuracy of runs on a kind of o.o.d. query, all of these shots together, and its standard error: (2, runs).

    Queries of one sequence are not independent: the error counts those at one number of shots only.
    """
    right = np.array([run.correct["ood_train"][-1, kind, shots].sum() for run in runs])
    asked = np.array([run.queries["ood_train"][kind, shots] for run in runs])  # (runs, shots)
    share = right / np.maximum(asked.sum(1), 1)
    return np.stack([share, np.sqrt(share * (1 - share) / np.maximum(asked.max(1), 1))])
