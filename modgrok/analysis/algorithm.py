"""The algorithm that a model follows: its answers beside those of exact predictors (claim 6)."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modgrok.analysis.activations import draw_contexts
from modgrok.config import Config, preset
from modgrok.data import Data, paired_sequences
from modgrok.evaluate import (
    COMBINATION,
    MULTIPLE,
    REFERENCES,
    correct_grid,
    divergence,
    is_certain,
    is_correct,
    log_probabilities,
    prepare_questions,
    query_kinds,
    reference_accuracy,
    targets,
)
from modgrok.predictors import expected_accuracy, modular_regression, predictors, ratio_matches
from modgrok.storage.runs import Run

ALGORITHMS = ("look-up", "ratio matching", "zero line", "regression")
"""The exact predictors that `agreement_by_shot` compares a model with, in the order of its result."""


def zero_line(tokens: Tensor, p: int) -> Tensor:
    """Regression that starts from an example with z = 0; without such an example a uniform guess.

    A task that is not (0, 0) maps the p - 1 non-zero multiples of one pair to 0: its *zero line*. An example with
    z = 0 shows this line and with it the ratio a : b; an example off the line then gives the scale. Tokens are (B, 3·K)
    or (B, 3·K - 1), the log-probabilities (B, K, p). Errors are those of `predictors.look_up`.
    """
    exact = modular_regression(tokens, p)
    is_shown = torch.nn.functional.pad(shows_zero_line(tokens), (1, 0))[:, : exact.shape[1]].cumsum(1) > 0
    return torch.where(is_shown[..., None], exact, -np.log(p))


def shows_zero_line(tokens: Tensor) -> Tensor:
    """Which examples of tokens (B, 3·K) or (B, 3·K - 1) have z = 0 for a pair other than (0, 0): (B, K) bool.

    Without the last z there are K - 1 columns.
    """
    z = tokens[:, 2::3]
    x, y = (tokens[:, i::3][:, : z.shape[1]] for i in (0, 1))
    return (z == 0) & ((x != 0) | (y != 0))


def both_numbers_matter(tokens: Tensor, tasks: Tensor) -> Tensor:
    """Which sequences of tokens (B, 3·K) have a task with a ≠ 0 and b ≠ 0, if the tasks (n, 2) take turns: (B,) bool.

    With a = 0 or b = 0 one number of one example determines every answer, without regression.
    """
    return (tasks != 0).all(1)[torch.arange(len(tokens)) % len(tasks)]


def agreement_by_shot(run: Run) -> np.ndarray:
    """Share of the answers of a run's last checkpoint that each of `ALGORITHMS` predicts, by number of shots.

    A certain algorithm predicts that the model gives its answer; an uncertain one, that the model answers wrongly. A
    query counts only if some algorithm is certain of its answer and another is not. There are 2,000 sequences of o.o.d.
    tasks on training inputs; those with a = 0 or b = 0 are left out if there are others.

    Returns:
        (algorithms, K) shares; nan at a number of shots with fewer than 50 such queries.
    """
    data, p = Data(run.config), run.config.p
    tokens = data.evaluation_set("ood_train", 2000)
    both_matter = both_numbers_matter(tokens, data.tasks["ood"])
    tokens = tokens[both_matter] if both_matter.any() else tokens
    exact = predictors(p) | {"zero line": partial(zero_line, p=p)}
    beliefs = torch.stack([log_probabilities(exact[name], tokens) for name in ALGORITHMS])
    is_sure = is_certain(beliefs)  # (algorithms, B, K)
    is_counted = is_sure.any(0) & ~is_sure.all(0)
    answers = log_probabilities(run.model(), tokens).argmax(-1)
    is_foretold = torch.where(is_sure, beliefs.argmax(-1) == answers, answers != targets(tokens))
    n_queries = is_counted.sum(0).double()
    return ((is_foretold & is_counted).sum(1) / n_queries.where(n_queries >= 50, torch.nan)).numpy()


def nearest_cells(agreement: np.ndarray, shots: list[int], repeats: float) -> list[str]:
    """The algorithm that predicts most answers at some numbers of shots, as table cells: "ratio matching (0.91)".

    Where `agreement_by_shot`, (algorithms, K), is nan the cell is "nan". A model whose accuracy on repeats is below one
    half does not even copy, and no algorithm is named.
    """
    if repeats < 0.5:
        return ["none"] * len(shots)
    return [
        f"{ALGORITHMS[shares.argmax()]} ({shares.max():.2f})" if np.isfinite(shares).all() else "nan"
        for shares in agreement.T[shots]
    ]


def table_shots(shots: list[int]) -> list[int]:
    """The numbers of shots that a table of algorithms shows: those of `shots` but 0, and 3 or, if less, the largest."""
    return sorted({*shots, min(3, max(shots))} - {0})


def kind_curves(run: Run) -> np.ndarray:
    """Accuracy of a run at each evaluation on repeats, other multiples and combinations: (E, 3).

    On o.o.d. tasks with training inputs, all shots together.
    """
    n_correct, n_queries = run.correct["ood_train"].sum(-1), run.queries["ood_train"].sum(-1)
    return (n_correct / np.maximum(n_queries, 1))[:, :3]


KIND_COLUMNS = (
    "repeats",
    "multiples",
    "combinations",
    "combinations, a, b ≠ 0",
    "multiples, neither is 0",
    "multiples, x = 0",
    "multiples, y = 0",
)
"""Name of each number that `kind_row` returns: a kind of query, and what holds of its task or of x and y."""


def kind_row(run: Run) -> np.ndarray:
    """Accuracies of a run's last checkpoint on o.o.d. tasks, training inputs, all shots together: (7,).

    They are named by `KIND_COLUMNS`; nan below 10 queries.
    """
    data = Data(run.config)
    tokens = data.evaluation_set("ood_train")
    is_right, kinds = is_correct(run.model(), tokens), query_kinds(tokens, run.config.p)
    x, y, is_multiple = tokens[:, 0::3], tokens[:, 1::3], kinds == MULTIPLE
    cells = [(kinds == COMBINATION) & both_numbers_matter(tokens, data.tasks["ood"])[:, None]]
    cells += [is_multiple & place for place in (x * y > 0, (x == 0) & (y > 0), (x > 0) & (y == 0))]
    shares = [float(is_right[cell].double().mean()) if cell.sum() >= 10 else np.nan for cell in cells]
    return np.array([*kind_curves(run)[-1], *shares])


# --- beside the exact predictors, on the evaluation sets ------------------------------------------------


class Comparison(NamedTuple):
    """A model beside each of `REFERENCES` on one set, by number of shots (F1c): means over sequences.

    Attributes:
        accuracy: (K,) of the model, ties broken at random.
        reference_accuracy: predictor → (K,).
        distance: predictor → (K,) relative entropy from its probabilities to the model's, in nats.
    """

    accuracy: np.ndarray
    reference_accuracy: dict[str, np.ndarray]
    distance: dict[str, np.ndarray]


def compare_on_sets(run: Run, step: int, n: int) -> dict[str, Comparison]:
    """Compare a run's checkpoint with the exact predictors on n sequences of each non-empty set: set → comparison.

    step: the checkpoint's step; 0 stands for the last checkpoint.
    """
    data, model, comparisons = Data(run.config), run.model(step or run.steps[-1]), {}
    for set_name in data.sets:
        tokens = data.evaluation_set(set_name, n)
        questions = prepare_questions(tokens, run.config.p, data.tasks["id"])
        log_p = log_probabilities(model, tokens)
        beliefs = dict(zip(REFERENCES, questions.references, strict=True))
        comparisons[set_name] = Comparison(
            expected_accuracy(log_p, targets(tokens)).mean(0).numpy(),
            reference_accuracy(questions),
            {name: divergence(belief, log_p).mean(0).numpy() for name, belief in beliefs.items()},
        )
    return comparisons


PAPER_ACCURACY = np.array([0.03, 0.07, 0.09, 0.22, 0.43, 0.53, 0.68, 0.73, 0.80, 0.85, 0.87, 0.93])
"""Accuracy of the paper's model on o.o.d. tasks after 0 to 11 shots (F1c), which reports whole percents."""


def paper_references(n: int = 1000) -> dict[str, np.ndarray]:
    """Accuracy of each of `REFERENCES` in the paper's setting: name → (K,), on n sequences of o.o.d. tasks."""
    data = Data(preset("paper"))
    tokens = data.evaluation_set("ood_train", n)
    return reference_accuracy(prepare_questions(tokens, data.config.p, data.tasks["id"]))


def belief_gap(first: str, second: str, config: Config) -> float:
    """Largest difference between the probabilities of two of `predictors.predictors`, on 500 o.o.d. sequences."""
    tokens, exact = Data(config).evaluation_set("ood_train", 500), predictors(config.p)
    gap = log_probabilities(exact[first], tokens).exp() - log_probabilities(exact[second], tokens).exp()
    return float(gap.abs().max())


# --- all queries of a context ---------------------------------------------------------------------------


def replicates(groups: dict[str, list[Run]]) -> dict[str, dict[str, Run]]:
    """Rearrange groups of runs by seed: "seed 0" → label of a group → its run with that seed.

    Only seeds that every group has are returned. The first seed is that whose run in the last group is nearest to
    regression: by the stored relative entropy on o.o.d. tasks, training inputs, at the end, a mean over all numbers of
    shots. The other seeds keep their order. Groups without a common seed give one entry, "first runs", with the first
    run of each group.
    """
    by_seed = {label: {run.config.seed: run for run in runs} for label, runs in groups.items()}
    *_, deepest = by_seed.values()
    seeds = [seed for seed in next(iter(by_seed.values())) if all(seed in runs for runs in by_seed.values())]
    if not seeds:
        return {"first runs": {label: runs[0] for label, runs in groups.items()}}
    i = REFERENCES.index("regression")
    first = min(seeds, key=lambda seed: deepest[seed].divergence["ood_train"][-1, i].mean())
    seeds.sort(key=lambda seed: seed != first)
    return {f"seed {seed}": {label: runs[seed] for label, runs in by_seed.items()} for seed in seeds}


def answer_grids(
    runs: dict[str, Run], task: list[int], pairs: Tensor, shots: list[int]
) -> tuple[dict[str, np.ndarray], np.ndarray, Tensor, list[int]]:
    """Answer all p² queries after the first examples of one context with the last checkpoints of some runs (F5).

    Args:
        runs: label → run; all have one p.
        task: (a, b) of the context.
        pairs: (k, 2) inputs of the context, k ≥ max(shots).
        shots: S numbers of examples.

    Returns:
        what `plots.query_grids` draws: label → correct answers (S, p, p) bool, indexed [shot, x, y]; whether ratio
        matching can answer the query, (S, p, p) bool; the context (3·k,); and `shots`.
    """
    p = next(iter(runs.values())).config.p
    correct = {label: correct_grid(run.model(), [task], pairs, shots)[0] for label, run in runs.items()}
    return correct, ratio_matches(pairs, shots, p), context_tokens(task, pairs, p), shots


def context_tokens(task: list[int], pairs: Tensor, p: int) -> Tensor:
    """Tokens (3·k,) of a task (a, b) on context pairs (k, 2)."""
    return paired_sequences(torch.tensor([task]), pairs[None], p)[0]


def score_contexts(run: Run, shots: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Score a run's last checkpoint on all p² queries after each of n contexts (`activations.draw_contexts`).

    Returns:
        (n,) correct answers of p²; and whether an example of the context shows its task's zero line, (n,) bool.
    """
    pairs, tasks = draw_contexts(Data(run.config), n)
    pairs = pairs[:, :shots]
    return _n_correct(run, pairs, tasks), _is_zero_seen(pairs, tasks, run.config.p)


def failure_rows(run: Run, shots: int, n_correct: np.ndarray) -> list[list[str]]:
    """Rows of a table: a property of the examples, how many failed contexts have it, and how many others.

    A context fails if less than half of the p² queries are answered correctly; n_correct is that of `score_contexts`.
    """
    p, (pairs, tasks) = run.config.p, draw_contexts(Data(run.config), len(n_correct))
    pairs = pairs[:, :shots]
    x, y = pairs[:, :, None].transpose(3, 0, 1, 2)
    determinants = (x * y.swapaxes(1, 2) - y * x.swapaxes(1, 2)) % p  # (contexts, k, k) of two pairs each
    properties = {
        "an example with z = 0": _is_zero_seen(pairs, tasks, p),
        "two independent pairs": determinants.any((1, 2)),
        "a repeated pair": np.array([len(np.unique(context, axis=0)) < shots for context in pairs]),
        "a pair with a 0": (pairs == 0).any((1, 2)),
    }
    is_failed = n_correct < p**2 / 2
    return [
        [name, *(f"{has_property[group].sum()} of {group.sum()}" for group in (is_failed, ~is_failed))]
        for name, has_property in properties.items()
    ]


def exchange_row(run: Run, shots: int, n: int) -> list[float]:
    """Replace the last example of each context that has none with z = 0, and count correct answers again.

    Of n contexts with `shots` examples each, those without an example on the task's zero line count.

    Returns:
        how many contexts count; the mean number of correct answers of p² as drawn, with a random pair of the zero line
        as the last example, and with a random pair off it; nan if no context counts.
    """
    p, data = run.config.p, Data(run.config)
    pairs, tasks = draw_contexts(data, n)
    is_hidden = ~_is_zero_seen(pairs[:, :shots], tasks, p)
    pairs, tasks = pairs[is_hidden, :shots], tasks[is_hidden]
    if not len(pairs):
        return [0, np.nan, np.nan, np.nan]
    inputs, rng = data.pairs["train"].numpy(), np.random.default_rng(run.config.seed)
    versions = [pairs, pairs.copy(), pairs.copy()]
    for i, task in enumerate(tasks):
        is_zero = inputs @ task % p == 0
        choices = inputs[is_zero & inputs.any(1)], inputs[~is_zero]
        for version, candidates in zip(versions[1:], choices, strict=True):
            if len(candidates):
                version[i, -1] = rng.choice(candidates)
    return [len(pairs), *(_n_correct(run, version, tasks).mean() for version in versions)]


def _is_zero_seen(pairs: np.ndarray, tasks: np.ndarray, p: int) -> np.ndarray:
    """Whether an example of each context, pairs (contexts, k, 2), shows its task's zero line: (contexts,) bool."""
    tokens = paired_sequences(torch.from_numpy(tasks), torch.from_numpy(pairs), p)
    return shows_zero_line(tokens).any(1).numpy()


def _n_correct(run: Run, pairs: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Number of the p² queries that a run's last checkpoint answers after each context, (contexts,)."""
    return correct_grid(run.model(), tasks, pairs, [pairs.shape[1]]).sum((1, 2, 3))
