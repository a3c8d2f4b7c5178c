"""The algorithm that a model follows: its answers beside those of exact predictors (claim 6)."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modgrok.analysis.activations import draw_contexts
from modgrok.analysis.stats import clustered_share_interval, mean_interval
from modgrok.config import Config, preset
from modgrok.data import Data, paired_sequences
from modgrok.evaluate import (
    COMBINATION,
    KINDS,
    MULTIPLE,
    PLACES,
    REFERENCES,
    Predictor,
    agreement,
    correct_grid,
    divergence,
    is_certain,
    is_correct,
    log_probabilities,
    places,
    prepare_questions,
    query_kinds,
    reference_accuracy,
    targets,
)
from modgrok.predictors import expected_accuracy, modular_regression, predictors, ratio_matches
from modgrok.storage.runs import Run

ALGORITHMS = ("look-up", "ratio matching", "zero line", "regression")
"""The exact predictors that `agreement_by_shot` compares a model with, in the order of its result."""

MIN_QUERIES = 50
"""The least number of queries from which an agreement is computed."""


def zero_line(tokens: Tensor, p: int) -> Tensor:
    """Regression that starts from an example with z = 0; without such an example a uniform guess.

    A task that is not (0, 0) maps the p - 1 non-zero multiples of one pair to 0: its *zero line*. An example with
    z = 0 shows this line and with it the ratio a : b; an example off the line then gives the scale. Tokens are (B, 3·K)
    or (B, 3·K - 1), the log-probabilities (B, K, p). Errors are those of `predictors.look_up`.
    """
    exact = modular_regression(tokens, p)
    is_shown_before = (
        torch.nn.functional.pad(shows_zero_line(tokens), (1, 0))[:, : exact.shape[1]].cumsum(1) > 0
    )
    return torch.where(is_shown_before[..., None], exact, -np.log(p))


def shows_zero_line(tokens: Tensor) -> Tensor:
    """Which examples of tokens (B, 3·K) or (B, 3·K - 1) have z = 0 for a pair other than (0, 0): (B, K) bool.

    Without the last z there are K - 1 columns.
    """
    z = tokens[:, 2::3]
    x, y = tokens[:, 0::3][:, : z.shape[1]], tokens[:, 1::3][:, : z.shape[1]]
    return (z == 0) & ((x != 0) | (y != 0))


def agreement_by_shot(run: Run, n: int = 2000, set_name: str = "ood_train") -> np.ndarray:
    """Share of a model's answers that each of `ALGORITHMS` predicts, by number of shots.

    A certain algorithm predicts that the model gives its answer. An uncertain one predicts that the model answers
    wrongly. A query counts only if some algorithm is certain of its answer and another is not.

    Args:
        run: the run; its last checkpoint answers.
        n: number of sequences.
        set_name: an evaluation set; sequences of tasks with a = 0 or b = 0 are left out if there are others.

    Returns:
        (algorithms, K) shares; nan at a number of shots with fewer than `MIN_QUERIES` counted queries.
    """
    data, p = Data(run.config), run.config.p
    tokens, tasks = data.evaluation_set(set_name, n), data.tasks[set_name.split("_")[0]]
    both_matter = (tasks != 0).all(1)[torch.arange(len(tokens)) % len(tasks)]
    tokens = tokens[both_matter] if both_matter.any() else tokens
    return _agreement(run.model(), tokens, p)


def _agreement(predict: Predictor, tokens: Tensor, p: int) -> np.ndarray:
    """`agreement_by_shot` for any predictor, on tokens (B, 3·K)."""
    exact = predictors(p) | {"zero line": partial(zero_line, p=p)}
    beliefs = torch.stack([log_probabilities(exact[name], tokens) for name in ALGORITHMS])
    is_sure = is_certain(beliefs)  # (algorithms, B, K)
    is_counted = is_sure.any(0) & ~is_sure.all(0)
    answers = log_probabilities(predict, tokens).argmax(-1)
    is_foretold = torch.where(is_sure, beliefs.argmax(-1) == answers, answers != targets(tokens))
    n_queries = is_counted.sum(0).double()
    return ((is_foretold & is_counted).sum(1) / n_queries.where(n_queries >= MIN_QUERIES, torch.nan)).numpy()


def nearest_algorithm(agreement: np.ndarray) -> list[str]:
    """Name of the algorithm that predicts most answers at each number of shots; "–" where the agreement is nan.

    agreement: (algorithms, K), as `agreement_by_shot` returns.
    """
    return [ALGORITHMS[int(column.argmax())] if np.isfinite(column).all() else "–" for column in agreement.T]


# --- beside the exact predictors, on the evaluation sets ------------------------------------------------


class Comparison(NamedTuple):
    """A model beside each of `REFERENCES` on one set, by number of shots.

    An array (3, K) holds a mean over sequences and the low and high end of its 95 % interval.

    Attributes:
        accuracy: (3, K) of the model, ties broken at random.
        reference_accuracy: predictor → (K,).
        distance: predictor → (3, K) relative entropy from its probabilities to the model's, in nats.
        agreement: predictor → (3, K) share of queries with the same best answer.
    """

    accuracy: np.ndarray
    reference_accuracy: dict[str, np.ndarray]
    distance: dict[str, np.ndarray]
    agreement: dict[str, np.ndarray]


def compare_with_references(
    predict: Predictor, tokens: Tensor, p: int, pretraining_tasks: Tensor
) -> Comparison:
    """Compare a model with the exact predictors, answer by answer, on tokens (B, 3·K) (F1c).

    pretraining_tasks: (n_tasks, 2) the tasks of the reference "Bayes, pre-training tasks".
    """
    questions = prepare_questions(tokens, p, pretraining_tasks)
    log_p, beliefs = (
        log_probabilities(predict, tokens),
        dict(zip(REFERENCES, questions.references, strict=True)),
    )
    return Comparison(
        clustered_share_interval(expected_accuracy(log_p, targets(tokens))),
        reference_accuracy(questions),
        {name: mean_interval(divergence(reference, log_p)) for name, reference in beliefs.items()},
        {name: clustered_share_interval(agreement(reference, log_p)) for name, reference in beliefs.items()},
    )


def compare_on_sets(run: Run, step: int, n: int) -> dict[str, Comparison]:
    """Compare a run's checkpoint with the exact predictors on n sequences of each non-empty set: set → comparison.

    step: the checkpoint's step; 0 stands for the last checkpoint.
    """
    data, model = Data(run.config), run.model(step or run.steps[-1])
    return {
        name: compare_with_references(model, data.evaluation_set(name, n), run.config.p, data.tasks["id"])
        for name in data.sets
    }


NEAREST_COLUMNS = (
    "nearest at most numbers of shots",
    "at how many",
    "nearest after the last shot",
    "distance (nats)",
    "same answer as ratio matching",
    "as regression",
)
"""Name of each cell that `nearest_row` returns."""


def nearest_row(comparison: Comparison) -> list[str]:
    """The predictor with the least distance from the model, as table cells named by `NEAREST_COLUMNS`."""
    distance = np.array([curve[0] for curve in comparison.distance.values()])  # (references, K)
    nearest = [REFERENCES[i] for i in distance.argmin(0)]
    winner = max(dict.fromkeys(nearest), key=nearest.count)
    shares = [comparison.agreement[name][0, -1] for name in ("ratio matching", "regression")]
    return [
        winner,
        f"{nearest.count(winner)} of {len(nearest)}",
        nearest[-1],
        f"{distance[:, -1].min():.2f}",
        *(f"{100 * share:.0f} %" for share in shares),
    ]


APPROACH_COLUMNS = ("nearest at the end", "from step", *(f"before: {name}" for name in REFERENCES))
"""Name of each cell that `approach_row` returns."""


def approach_row(run: Run, set_name: str) -> list[str | int]:
    """The predictor that a run is nearest to at the end of training, as table cells named by `APPROACH_COLUMNS`.

    The distance is the mean over all numbers of shots. From "from step" on, that predictor is the nearest at every
    evaluation. The last cells say at how many earlier evaluations each of `REFERENCES` is the nearest.
    """
    nearest = run.divergence[set_name].mean(-1).argmin(-1)  # (E,)
    start = np.flatnonzero(np.append(True, nearest[1:] != nearest[:-1]))[-1]
    counts = np.bincount(nearest[:start], minlength=len(REFERENCES)).tolist()
    return [REFERENCES[nearest[-1]], f"{run.metrics['step'][start]:,}", *counts]


PAPER_ACCURACY = np.array([0.03, 0.07, 0.09, 0.22, 0.43, 0.53, 0.68, 0.73, 0.80, 0.85, 0.87, 0.93])
"""Accuracy of the paper's model on o.o.d. tasks after 0 to 11 shots (F1c), which reports whole percents."""


def paper_references(n: int = 1000) -> dict[str, np.ndarray]:
    """Accuracy of each of `REFERENCES` in the paper's setting: name → (K,), on n sequences of o.o.d. tasks."""
    config = preset("paper")
    data = Data(config)
    tokens = data.evaluation_set("ood_train", n)
    return reference_accuracy(prepare_questions(tokens, config.p, data.tasks["id"]))


def belief_gap(first: str, second: str, config: Config, n: int = 500) -> float:
    """Largest difference between the probabilities of two exact predictors, on n sequences of o.o.d. tasks.

    first, second: names in `predictors.predictors`.
    """
    tokens, exact = Data(config).evaluation_set("ood_train", n), predictors(config.p)
    beliefs = [log_probabilities(exact[name], tokens).exp() for name in (first, second)]
    return float((beliefs[0] - beliefs[1]).abs().max())


# --- one run among several ------------------------------------------------------------------------------


def nearest_run(runs: list[Run], reference: str, set_name: str = "ood_train") -> Run:
    """The run that is nearest to an exact predictor; by this rule the book chooses the model that it draws.

    The distance is the stored relative entropy from the predictor at the end of training, a mean over all numbers of
    shots.

    Args:
        runs: replicates.
        reference: a name of `evaluate.REFERENCES`.
        set_name: an evaluation set.

    Raises:
        ValueError: the reference has another name, or `runs` is empty.
    """
    if reference not in REFERENCES:
        raise ValueError(f"reference={reference!r} is not allowed; choose one of {', '.join(REFERENCES)}.")
    if not runs:
        raise ValueError("runs must hold at least one run.")
    i = REFERENCES.index(reference)
    return min(runs, key=lambda run: run.divergence[set_name][-1, i].mean())


def replicates(groups: dict[str, list[Run]], reference: str = "regression") -> dict[str, dict[str, Run]]:
    """Rearrange groups of runs by seed: "seed 0" → label of a group → its run with that seed.

    Only seeds that every group has are returned. The first seed is that whose run in the last group is nearest to the
    reference (`nearest_run`); the other seeds keep their order. Groups without a common seed give one entry, "first
    runs", with the first run of each group.
    """
    by_seed = {label: {run.config.seed: run for run in runs} for label, runs in groups.items()}
    seeds = [seed for seed in next(iter(by_seed.values())) if all(seed in runs for runs in by_seed.values())]
    if not seeds:
        return {"first runs": {label: runs[0] for label, runs in groups.items()}}
    *_, deepest = by_seed.values()
    first_seed = nearest_run([deepest[seed] for seed in seeds], reference).config.seed
    seeds.sort(key=lambda seed: seed != first_seed)
    return {f"seed {seed}": {label: runs[seed] for label, runs in by_seed.items()} for seed in seeds}


class AnswerGrids(NamedTuple):
    """Models and ratio matching on all p² queries of one context, as `plots.query_grids` draws them.

    Attributes:
        correct: label of a model → (S, p, p) bool, indexed [shot, x, y].
        is_matched: (S, p, p) bool, whether ratio matching can answer the query.
        tokens: (3·k,) the context.
        shots: the S numbers of examples.
    """

    correct: dict[str, np.ndarray]
    is_matched: np.ndarray
    tokens: Tensor
    shots: list[int]


def answer_grids(runs: dict[str, Run], task: list[int], pairs: Tensor, shots: list[int]) -> AnswerGrids:
    """Answer all p² queries after the first examples of one context with the last checkpoints of some runs (F5).

    Args:
        runs: label → run; all have one p.
        task: (a, b) of the context.
        pairs: (k, 2) inputs of the context, k ≥ max(shots).
        shots: numbers of examples.
    """
    p = next(iter(runs.values())).config.p
    correct = {label: correct_grid(run.model(), [task], pairs, shots)[0] for label, run in runs.items()}
    return AnswerGrids(correct, ratio_matches(pairs, shots, p), context_tokens(task, pairs, p), shots)


class ContextScores(NamedTuple):
    """A model's answers to all p² queries after each of several contexts.

    Attributes:
        n_correct: (contexts, shots) correct answers of p².
        is_zero_seen: (contexts, shots) whether one of the examples shows the task's zero line.
        rank: (contexts, shots) rank of the examples' pairs: 0, 1 or 2.
        has_repeat: (contexts, shots) whether a pair comes twice.
        has_zero_pair: (contexts, shots) whether an example's x or y is 0.
    """

    n_correct: np.ndarray
    is_zero_seen: np.ndarray
    rank: np.ndarray
    has_repeat: np.ndarray
    has_zero_pair: np.ndarray


def score_contexts(run: Run, shots: list[int], n: int = 100) -> ContextScores:
    """Score a run's last checkpoint on all p² queries after each of n contexts (`activations.draw_contexts`)."""
    pairs, tasks = draw_contexts(Data(run.config), n)
    return _context_scores(run, pairs[:, : max(shots)], tasks, shots)


def _context_scores(run: Run, pairs: np.ndarray, tasks: np.ndarray, shots: list[int]) -> ContextScores:
    p, model = run.config.p, run.model()
    n_correct = np.array(
        [
            correct_grid(model, task[None], context, shots)[0].sum((1, 2))
            for task, context in zip(tasks, pairs, strict=True)
        ]
    )
    tokens = paired_sequences(torch.from_numpy(tasks), torch.from_numpy(pairs), p)
    is_zero_example = shows_zero_line(tokens).numpy()
    codes = pairs @ (p, 1)
    lines = [[_rank(context[:k], p) for k in shots] for context in pairs]
    columns = {
        "is_zero_seen": [is_zero_example[:, :k].any(1) for k in shots],
        "has_repeat": [[len(np.unique(row[:k])) < k for row in codes] for k in shots],
        "has_zero_pair": [(pairs[:, :k] == 0).any((1, 2)) for k in shots],
    }
    return ContextScores(
        n_correct, rank=np.array(lines), **{name: np.transpose(flags) for name, flags in columns.items()}
    )


def _rank(pairs: np.ndarray, p: int) -> int:
    """Rank over Z_p of pairs (k, 2)."""
    determinants = pairs[:, None, 0] * pairs[None, :, 1] - pairs[:, None, 1] * pairs[None, :, 0]
    return 2 if (determinants % p).any() else int(pairs.any())


class FailureSplit(NamedTuple):
    """How a property of the examples separates the contexts in which a model fails.

    Attributes:
        name: the property, in words.
        n_failed, n_failed_with: contexts that failed, and how many of them have the property.
        n_solved, n_solved_with: contexts that did not fail, and how many of them have the property.
    """

    name: str
    n_failed: int
    n_failed_with: int
    n_solved: int
    n_solved_with: int


def split_failures(scores: ContextScores, p: int, column: int = -1) -> list[FailureSplit]:
    """Count, for each property of the examples, how many failed and how many solved contexts have it.

    A context fails if less than half of the p² queries are answered correctly.

    Args:
        scores: as `score_contexts` returns.
        p: the modulus.
        column: which of the numbers of shots in `scores`, by index.
    """
    is_failed = scores.n_correct[:, column] < p**2 / 2
    properties = {
        "an example with z = 0": scores.is_zero_seen[:, column],
        "two independent pairs": scores.rank[:, column] == 2,
        "a repeated pair": scores.has_repeat[:, column],
        "a pair with a 0": scores.has_zero_pair[:, column],
    }
    return [
        FailureSplit(
            name, is_failed.sum(), (is_failed & is_had).sum(), (~is_failed).sum(), (~is_failed & is_had).sum()
        )
        for name, is_had in properties.items()
    ]


class Exchange(NamedTuple):
    """Mean number of correct answers of p², before and after one example is exchanged, over contexts without z = 0.

    Attributes:
        n_contexts: how many contexts without an example on the zero line there were.
        before: as drawn.
        zero_line: with the last example replaced by a pair of the task's zero line.
        control: with the last example replaced by a random pair off the zero line.
    """

    n_contexts: int
    before: float
    zero_line: float
    control: float


def exchange_example(run: Run, shots: int, n: int = 100) -> Exchange:
    """Replace the last example of each context that does not show the zero line, and count correct answers again.

    shots: number of examples in a context. n: number of contexts to draw, with and without the zero line.
    """
    p, data = run.config.p, Data(run.config)
    pairs, tasks = draw_contexts(data, n)
    pairs = pairs[:, :shots]
    tokens = paired_sequences(torch.from_numpy(tasks), torch.from_numpy(pairs), p)
    is_hidden = ~shows_zero_line(tokens).numpy().any(1)
    pairs, tasks = pairs[is_hidden], tasks[is_hidden]
    if not len(pairs):
        return Exchange(0, np.nan, np.nan, np.nan)
    inputs, rng = data.pairs["train"].numpy(), np.random.default_rng(run.config.seed)
    versions = {"before": pairs, "zero_line": pairs.copy(), "control": pairs.copy()}
    for i, (a, b) in enumerate(tasks):
        is_on_line = (inputs @ (a, b) % p == 0) & inputs.any(1)
        choices = {"zero_line": inputs[is_on_line], "control": inputs[(inputs @ (a, b) % p != 0)]}
        for name, candidates in choices.items():
            if len(candidates):
                versions[name][i, -1] = rng.choice(candidates)
    means = {
        name: _context_scores(run, version, tasks, [shots]).n_correct.mean()
        for name, version in versions.items()
    }
    return Exchange(len(pairs), **means)


def combination_accuracy(predict: Predictor, tokens: Tensor, tasks: Tensor, p: int) -> float:
    """Accuracy on queries of the kind combination, of tasks with a ≠ 0 and b ≠ 0, all shots together.

    With a = 0 or b = 0 one number of one example determines the answer, without regression.

    Args:
        predict: a model or an exact predictor.
        tokens: (B, 3·K) sequences whose tasks take turns, such as those of `Data.evaluation_set`.
        tasks: (n, 2) the tasks that take turns.
        p: the modulus.

    Returns:
        the accuracy; nan if there is no such query.
    """
    both_matter = (tasks != 0).all(1)[torch.arange(len(tokens)) % len(tasks)]
    is_counted = (query_kinds(tokens, p) == COMBINATION) & both_matter[:, None]
    return float(is_correct(predict, tokens)[is_counted].double().mean())


def accuracy_by_place(predict: Predictor, tokens: Tensor, p: int) -> np.ndarray:
    """Accuracy on tokens (B, 3·K) by kind of query and by which number of the query is 0, all shots together.

    Returns:
        (kinds, places), as in `evaluate.KINDS` and `evaluate.PLACES`; nan below 10 queries.
    """
    is_right, kinds, query_places = (
        is_correct(predict, tokens).double(),
        query_kinds(tokens, p),
        places(tokens),
    )
    cells = [[(kinds == k) & (query_places == i) for i in range(len(PLACES))] for k in range(len(KINDS))]
    return np.array(
        [[is_right[cell].mean() if cell.sum() >= 10 else np.nan for cell in row] for row in cells]
    )


KIND_COLUMNS = (
    "repeats",
    "multiples",
    "combinations",
    "combinations, a, b ≠ 0",
    *(f"multiples, {place}" for place in PLACES),
)
"""Name of each number that `kind_row` returns."""


def kind_row(run: Run, n: int = 600, set_name: str = "ood_train") -> np.ndarray:
    """Accuracies of a run's last checkpoint, all shots together: (7,), named by `KIND_COLUMNS`.

    The split by place counts the first n sequences of the set; the other columns count all.
    """
    data, p = Data(run.config), run.config.p
    tokens, model = data.evaluation_set(set_name), run.model()
    n_correct, n_queries = run.correct[set_name][-1].sum(-1), run.queries[set_name].sum(-1)
    combination = combination_accuracy(model, tokens, data.tasks[set_name.split("_")[0]], p)
    by_place = accuracy_by_place(model, tokens[:n], p)[MULTIPLE]
    return np.array([*(n_correct / np.maximum(n_queries, 1))[:3], combination, *by_place])


def nearest_cells(agreement: np.ndarray, shots: list[int]) -> list[str]:
    """The nearest algorithm and its agreement at some numbers of shots, as table cells: "ratio matching (0.91)"."""
    names = nearest_algorithm(agreement)
    return [f"{names[k]} ({agreement[:, k].max():.2f})" for k in shots]


def table_shots(shots: list[int]) -> list[int]:
    """The numbers of shots that a table of algorithms shows: those of `shots` but 0, and 3 or, if less, the largest."""
    return sorted({*shots, min(3, max(shots))} - {0})


def most_bimodal(scores: dict[str, ContextScores]) -> str:
    """Name of the model whose number of correct answers varies most over contexts, at the last number of shots."""
    return max(scores, key=lambda name: scores[name].n_correct[:, -1].var())


def context_tokens(task: list[int], pairs: Tensor, p: int) -> Tensor:
    """Tokens (3·k,) of a task (a, b) on context pairs (k, 2)."""
    return paired_sequences(torch.tensor([task]), pairs[None], p)[0]
