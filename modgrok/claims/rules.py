"""The paper's six claims, each judged by a rule with a control; `verdicts` says how seeds decide together."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from modgrok.analysis import circles, similarity, stats, structure
from modgrok.analysis.skill import (
    EASIER,
    MIN_FALL,
    PHASES,
    SOLVED,
    learned_training_set,
    map_skill,
    novel_by_shot,
    ood_stop,
    phases,
    solves,
)
from modgrok.claims.verdicts import (
    CANNOT_TELL,
    Claim,
    Rule,
    by_seed,
    count,
    curriculum,
    seed_by_seed,
    structured,
)
from modgrok.config import SETS
from modgrok.evaluate import COMBINATION, MULTIPLE
from modgrok.storage.runs import Run

INPUTS = {"ood_train": "training inputs", "ood_test": "test inputs"}
"""Set of o.o.d. tasks → its inputs, in words."""

BOTH_TAUGHT = "both models of the seed learned their training set"


# --- claim 1: phases ------------------------------------------------------------------------------------


def more_tasks(runs: NDArray[np.object_]) -> Claim:
    """Claim 1, first half, of runs (seeds, alphas, n_tasks): with more tasks a model generalises to other tasks."""
    skills, n_tasks = map_skill(runs)["ood_train"], [run.config.n_tasks for run in runs[0, 0]]
    solved = (skills >= SOLVED).mean(1)  # (seeds, n_tasks), over all α
    rise = solved[:, -1] - solved[:, 0]
    correlation = [stats.rank_correlation(np.broadcast_to(n_tasks, seed.shape), seed) for seed in skills]
    correlation = np.array(correlation)
    rule = Rule(
        "1a. With more pre-training tasks a model goes from in-distribution to out-of-distribution generalisation",
        "nothing",
        "from the fewest to the most tasks the share of all α at which o.o.d. tasks are solved (training inputs) rises "
        "by half or more, and over the whole map skill grows with the number of tasks (rank correlation)",
        "the share falls by half or more, and skill shrinks with the number of tasks",
    )
    return seed_by_seed(
        rule,
        runs,
        np.where(correlation > 0, rise >= 0.5, 0) - np.where(correlation < 0, rise <= -0.5, 0),
        {
            f"share of α solved with {n_tasks[0]} tasks": by_seed(solved[:, 0]),
            f"with {n_tasks[-1]}": by_seed(solved[:, -1]),
            "rank correlation": by_seed(correlation),
        },
    )


def four_phases(runs: NDArray[np.object_]) -> Claim:
    """Claim 1, second half, of runs (seeds, alphas, n_tasks): the plane of tasks and inputs has four phases."""
    reached, skills = phases(runs), map_skill(runs)
    is_solved = {name: values >= SOLVED for name, values in skills.items()}
    is_disordered = np.any(
        [is_solved[name] & ~is_solved[easier] for name in SETS for easier in EASIER[name]], axis=0
    )
    n_able, n_disordered = (is_able.sum((1, 2)) for is_able in (reached > 0, is_disordered))
    is_mostly_disordered = 2 * n_disordered > n_able
    is_reached = np.array([[(seed == i).any() for i in range(1, len(PHASES))] for seed in reached])
    is_squeezed = is_reached[:, 0] & is_reached[:, -1] & ~is_reached.all(1)
    rule = Rule(
        "1b. There are four phases in the plane of tasks and inputs",
        "the plane has room for all phases, so that a seed with the first and the last has those between, too",
        "each of the four phases is reached by some model",
        "of the models that solve any set, most solve one without the easier ones, so that phases make no sense",
    )
    return seed_by_seed(
        rule,
        runs,
        np.select([is_mostly_disordered, is_reached.all(1), is_squeezed], [-1, 1, CANNOT_TELL]),
        {name: str((reached == i).sum()) for i, name in enumerate(PHASES)}
        | {"solve a set without the easier ones": f"{is_disordered.sum()} of {n_able.sum()}"}
        if n_able.any()
        else {"solve any set": "none"},
    )


# --- claims 2 to 4: shots, depth, transience ------------------------------------------------------------


def in_context(runs: Sequence[Run]) -> Claim:
    """Claim 2, of runs that differ in their seed: accuracy on o.o.d. tasks rises with the number of shots."""
    curves = np.array([novel_by_shot(run)["ood_train"][-1] for run in runs])  # (seeds, K)
    n_queries = np.array([run.queries["ood_train"][MULTIPLE:].sum(0) for run in runs])
    errors = np.sqrt(curves * (1 - curves) / np.maximum(n_queries, 1))
    is_solved = np.array([solves(run, "ood_train")[-1] for run in runs])
    is_rising = curves[:, -1] - curves[:, 0] > 1.96 * np.hypot(errors[:, -1], errors[:, 0])
    last = curves.shape[1] - 1
    rule = Rule(
        "2. Out-of-distribution generalisation is in-context learning: accuracy rises with shots",
        "the model solves o.o.d. tasks on training inputs",
        "there its accuracy on queries that are no repeat rises from no shot to the last by more than its error",
        "its accuracy does not rise",
    )
    return seed_by_seed(
        rule,
        runs,
        np.where(is_solved, np.where(is_rising, 1, -1), CANNOT_TELL),
        {"chance": f"{1 / runs[0].config.p:.2f}"}
        | {f"shots {shot}": by_seed(curves[:, shot]) for shot in sorted({0, 1, 2, last // 2, last})}
        | {"solve them": count(is_solved)},
    )


def two_blocks(single: Sequence[Run], double: Sequence[Run]) -> Claim:
    """Claim 3, of runs of one and of two blocks, seed by seed: one does not generalise out of distribution, two do."""
    best = np.array([[ood_stop(run).best for run in group] for group in (single, double)])
    is_taught = np.array([[learned_training_set(run) for run in group] for group in (single, double)])
    is_solved = (best >= SOLVED) & is_taught
    measured = {}
    for blocks, skills, taught in zip(("one block", "two blocks"), best, is_taught, strict=True):
        measured[f"{blocks}, skill when stopped early"] = by_seed(skills)
        measured[f"{blocks}, learned the training set"] = count(taught)
    rule = Rule(
        "3. Two blocks are the least that generalise out of distribution",
        BOTH_TAUGHT,
        "stopped early, two blocks solve o.o.d. tasks on training inputs and one block does not",
        "one block solves them",
    )
    is_able = is_taught.all(0) | is_solved[0]
    outcomes = np.where(is_solved[0], -1, is_solved[1].astype(int))
    return seed_by_seed(rule, [*single, *double], np.where(is_able, outcomes, CANNOT_TELL), measured)


def transience(shallow: Sequence[Run], deep: Sequence[Run], set_name: str = "ood_train") -> Claim:
    """Claim 4, of two depths in one setting, seed by seed: a deep model's generalisation rises and falls.

    set_name: "ood_train" or "ood_test".
    """
    moments = np.array([_best_moments(group, set_name) for group in (shallow, deep)])  # (2, 4, seeds)
    is_able = moments[:, 2].all(0) & _are_taught(shallow, deep)
    depths, inputs = [group[0].config.depth for group in (shallow, deep)], INPUTS[set_name]
    rule = Rule(
        f"4. In deeper models o.o.d. generalisation is transient ({inputs}, depth {depths[1]} against {depths[0]})",
        f"both models of the seed learned their training set, and solve o.o.d. tasks on {inputs} at some time",
        f"then depth {depths[1]} loses skill, more than {MIN_FALL} and than noise explains; depth {depths[0]} does not",
        f"depth {depths[0]} loses it and depth {depths[1]} does not",
    )
    measured = {}
    for depth, (best, final, _, is_fallen) in zip(depths, moments, strict=True):
        measured[f"depth {depth}, skill when stopped early"] = by_seed(best)
        measured |= {f"depth {depth}, at the end": by_seed(final), f"depth {depth}, fell": count(is_fallen)}
    outcomes = np.where(is_able, moments[1, 3] - moments[0, 3], CANNOT_TELL)
    return seed_by_seed(rule, [*shallow, *deep], outcomes, measured)


LASTING_HEAD = ("blocks", "inputs", "skill, stopped early", "at the end", "learned", "solve", "fall")


def lasting_rows(groups: Mapping[int, Sequence[Run]]) -> list[list]:
    """Count the runs of each depth that learned their training set, that solved o.o.d. tasks, and that then fell.

    There are two rows under LASTING_HEAD for each depth (training inputs, test inputs).
    """
    rows = []
    for depth, runs in groups.items():
        is_taught = [learned_training_set(run) for run in runs]
        for set_name, inputs in INPUTS.items():
            best, final, is_solved, is_fallen = _best_moments(runs, set_name)
            skills = [by_seed(best), by_seed(final)]
            rows.append([depth, inputs, *skills, *map(count, (is_taught, is_solved, is_fallen))])
    return rows


def _best_moments(runs: Iterable[Run], set_name: str) -> NDArray:
    """Skill when stopped early and at the end, and whether a run then solves the set, and falls: (4, runs)."""
    return np.transpose([ood_stop(run, set_name)[1:] for run in runs])


FALLEN_HEAD = (
    "$p$", "blocks", "curriculum", "runs", "solve, training inputs", "then fall", "solve, test inputs", "then fall",
)  # fmt: skip


def fallen_rows(runs: Iterable[Run]) -> list[tuple]:
    """Rows under FALLEN_HEAD, one for each p, depth and way of training of the runs that learned their training set.

    They count the runs that solve o.o.d. tasks at their best moment, and those that then fall (`EarlyStop`).
    """
    groups: dict[tuple[int, int, str], list[Run]] = {}
    for run in filter(learned_training_set, runs):
        groups.setdefault((run.config.p, run.config.depth, curriculum(run)), []).append(run)
    return [
        (*key, len(group), *(int(n) for name in INPUTS for n in _best_moments(group, name)[2:].sum(1)))
        for key, group in sorted(groups.items())
    ]


# --- claim 5: structure ---------------------------------------------------------------------------------

CHANCE = 0.05
"""Largest share of runs without structure that pass the test for a wave, or for likeness by ratio."""


def parity(runs: Sequence[Run]) -> Claim:
    """Claim 5, in the embedding of `verdicts.distinct` runs of one p: odd and even logarithms lie apart (F1e)."""
    p = runs[0].config.p
    ranks, n_splits = zip(*(parity_rank(run) for run in runs), strict=True)
    return structured(
        f"of {n_splits[0]} ways to halve the numbers 1 … {p - 1}, odd and even discrete logarithms differ most in the "
        "embedding",
        runs,
        np.array(ranks) == 1,
        1 / n_splits[0],
    )


def parity_rank(run: Run) -> tuple[int, int]:
    """Rank of the split by parity of the logarithm in a run's embedding, and the number of splits."""
    return structure.parity_rank(run.model().embed.weight.detach().numpy(), run.config.p)


BEYOND = (
    f", more than if the numbers had other names (mean over {circles.N_CONTEXTS} contexts, P < {CHANCE}, all "
)
"""What has to hold of a structure, up to the name of the places that are counted."""


def waves(runs: Sequence[Run]) -> Claim:
    """Claim 5, in heads of block 0 of `verdicts.distinct` runs: x is written as waves of its logarithm (F1d)."""
    sentence = f"at y some head of block 0 writes x in waves of its discrete logarithm{BEYOND}heads counted)"
    return structured(sentence, runs, [circles.wave_probability(run) < CHANCE for run in runs], CHANCE)


def ratios(runs: Sequence[Run]) -> Claim:
    """Claim 5, in the stream after the blocks of `verdicts.distinct` runs: pairs of one ratio x/y are alike (F7)."""
    sentence = f"at y, after some block, pairs of one ratio x/y are alike{BEYOND}blocks counted)"
    return structured(sentence, runs, [similarity.ratio_p_value(run) < CHANCE for run in runs], CHANCE)


# --- claim 6: algorithms --------------------------------------------------------------------------------


def combination(shallow: Sequence[Run], deep: Sequence[Run]) -> Claim:
    """Claim 6, first half, of runs of two and of four blocks, seed by seed: two match ratios, four combine examples."""
    p = deep[0].config.p
    combined, matched = (
        [pooled_accuracy(group, kind) for group in (shallow, deep)] for kind in (COMBINATION, MULTIPLE)
    )
    (low, low_error), (high, high_error) = combined
    margin = np.maximum(0.1, 1.96 * np.hypot(low_error, high_error))
    is_matching = matched[0][0] >= (1 + 1 / p) / 2
    is_agreeing = is_matching & (high - 1 / p > 1.96 * high_error) & (high - low > margin)
    rule = Rule(
        "6a. Two blocks match ratios; four also combine examples",
        BOTH_TAUGHT,
        "of the o.o.d. queries (training inputs) that are another multiple two blocks have more than half of the way "
        "from a guess to all correct, and on those that need a combination four blocks are above chance, and above "
        "two blocks by 0.1, each by more than the error",
        "on those that need a combination two blocks are above four by 0.1 and more than the error",
    )
    outcomes = is_agreeing.astype(int) - (low - high > margin)
    return seed_by_seed(
        rule,
        [*shallow, *deep],
        np.where(_are_taught(shallow, deep), outcomes, CANNOT_TELL),
        {
            "combinations, two blocks": by_seed(low),
            "four": by_seed(high),
            "chance": f"{1 / p:.2f}",
            "other multiples, two blocks": by_seed(matched[0][0]),
            "four blocks": by_seed(matched[1][0]),
        },
    )


def shift(shallow: Sequence[Run], deep: Sequence[Run]) -> Claim:
    """Claim 6, second half, of such runs: with more shots four blocks shift to combining examples, and two do not."""
    half, shots = (deep[0].config.n_examples + 1) // 2, deep[0].config.n_examples
    groups, parts = (shallow, deep), (slice(0, half), slice(half, shots))
    accuracies = [[pooled_accuracy(group, COMBINATION, part) for group in groups] for part in parts]
    early, late = np.array(accuracies)  # (depths, 2, runs) each
    rise, errors = late[:, 0] - early[:, 0], np.hypot(late[:, 1], early[:, 1])
    margin = np.maximum(0.1, 1.96 * np.hypot(*errors))
    agrees = (rise[1] > 1.96 * errors[1]) & (rise[1] - rise[0] > margin)
    contradicts = (rise[0] > 1.96 * errors[0]) & (rise[0] - rise[1] > margin)
    rule = Rule(
        "6b. With more shots four blocks shift to combining examples, two do not",
        BOTH_TAUGHT,
        "from the earlier half of the shots to the later, accuracy on o.o.d. queries (training inputs) that need a "
        "combination rises in four blocks, by 0.1 more than in two, each by more than the error",
        "it rises in two blocks by 0.1 more than in four, and by more than the error",
    )
    outcomes = np.where(_are_taught(shallow, deep), agrees.astype(int) - contradicts, CANNOT_TELL)
    measured = {"rise, two blocks": by_seed(rise[0]), "four": by_seed(rise[1])}
    return seed_by_seed(rule, [*shallow, *deep], outcomes, measured)


def pooled_accuracy(runs: Sequence[Run], kind: int, shots: slice = slice(None)) -> NDArray:
    """Accuracy at the end on a kind of o.o.d. query (training inputs), some shots together, and its error: (2, runs).

    kind: index of `evaluate.KINDS`. Queries of one sequence are not independent, so the standard error counts queries
    at one number of shots only.
    """
    n_correct = np.array([run.correct["ood_train"][-1, kind, shots].sum() for run in runs])
    n_queries = np.array([run.queries["ood_train"][kind, shots] for run in runs])  # (runs, shots)
    accuracy = n_correct / np.maximum(n_queries.sum(1), 1)
    return np.array([accuracy, np.sqrt(accuracy * (1 - accuracy) / np.maximum(n_queries.max(1), 1))])


def _are_taught(first: Sequence[Run], second: Sequence[Run]) -> NDArray[np.bool_]:
    """Whether both runs of a seed learned their training set: (seeds,)."""
    pairs = zip(first, second, strict=True)
    return np.array([all(map(learned_training_set, pair)) for pair in pairs])
