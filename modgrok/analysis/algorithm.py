"""Which algorithm a model follows: its answers beside those of exact predictors, by shots and by context (claim 6)."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modgrok.analysis.activations import draw_contexts
from modgrok.data import Data, paired_sequences
from modgrok.evaluate import (
    COMBINATION,
    KINDS,
    PLACES,
    REFERENCES,
    Predictor,
    correct_grid,
    is_certain,
    is_correct,
    log_probabilities,
    places,
    query_kinds,
    targets,
)
from modgrok.predictors import modular_regression, predictors
from modgrok.storage.runs import Run

ALGORITHMS = ("look-up", "ratio matching", "zero line", "regression")
"""The exact predictors that `agreement_by_shot` compares a model with, in the order of its result."""

MIN_QUERIES = 50
"""The least number of queries from which an agreement is computed."""


def zero_line(tokens: Tensor, p: int) -> Tensor:
    """Regression that starts from an example with z = 0; without such an example a uniform guess.

    A task that is not (0, 0) maps the p - 1 non-zero multiples of one pair to 0: its *zero line*. An example with
    z = 0 shows this line and with it the ratio a : b; a second one, off the line, gives the scale. Shapes and errors
    are those of `predictors.look_up`.
    """
    exact = modular_regression(tokens, p)
    shown = torch.nn.functional.pad(shows_zero_line(tokens), (1, 0))[:, : exact.shape[1]]
    return torch.where((shown.cumsum(1) > 0)[..., None], exact, -np.log(p))


def shows_zero_line(tokens: Tensor) -> Tensor:
    """Which examples of tokens (B, 3·K) or (B, 3·K - 1) have z = 0 for a pair other than (0, 0): (B, K) bool.

    Without the last z there are K - 1 columns.
    """
    z = tokens[:, 2::3]
    x, y = tokens[:, 0::3][:, : z.shape[1]], tokens[:, 1::3][:, : z.shape[1]]
    return (z == 0) & ((x != 0) | (y != 0))


def agreement_by_shot(run: Run, n: int = 2000, set_name: str = "ood_train") -> np.ndarray:
    """The share of a model's answers whose outcome each of `ALGORITHMS` foretells: (algorithms, K).

    An algorithm foretells the answer where it is certain of one, and a wrong answer where it is not. Only queries
    count on which the algorithms differ, that is, one is certain and another is not.

    Args:
        run: whose last checkpoint answers.
        n: sequences of the set.
        set_name: an evaluation set; sequences of tasks with a = 0 or b = 0 are left out where there are others.

    Returns:
        nan at a number of shots with fewer than `MIN_QUERIES` such queries.
    """
    data, p = Data(run.config), run.config.p
    tokens, tasks = data.evaluation_set(set_name, n), data.tasks[set_name.split("_")[0]]
    both_matter = (tasks != 0).all(1)[torch.arange(len(tokens)) % len(tasks)]
    tokens = tokens[both_matter] if both_matter.any() else tokens
    return _foretold(run.model(), tokens, p)


def _foretold(predict: Predictor, tokens: Tensor, p: int) -> np.ndarray:
    """As `agreement_by_shot`, of any predictor on tokens (B, 3·K)."""
    exact = predictors(p) | {"zero line": partial(zero_line, p=p)}
    beliefs = torch.stack([log_probabilities(exact[name], tokens) for name in ALGORITHMS])
    certain = is_certain(beliefs)  # (algorithms, B, K)
    differ = certain.any(0) & ~certain.all(0)
    answers = log_probabilities(predict, tokens).argmax(-1)
    foretold = torch.where(certain, beliefs.argmax(-1) == answers, answers != targets(tokens))
    n_queries = differ.sum(0).double()
    return ((foretold & differ).sum(1) / n_queries.where(n_queries >= MIN_QUERIES, torch.nan)).numpy()


def nearest_algorithm(agreement: np.ndarray) -> list[str]:
    """The one of `ALGORITHMS` that foretells most at each number of shots, "–" where they do not differ.

    agreement: (algorithms, K), of `agreement_by_shot`.
    """
    return [ALGORITHMS[int(column.argmax())] if np.isfinite(column).all() else "–" for column in agreement.T]


def nearest_run(runs: list[Run], reference: str, set_name: str = "ood_train") -> Run:
    """The run that is nearest to an exact predictor: the rule by which the book chooses the model that it draws.

    It has the least relative entropy from the predictor at the end of training, mean over all numbers of shots, as
    training stored it.

    Args:
        runs: replicates.
        reference: a name of `evaluate.REFERENCES`.
        set_name: an evaluation set.

    Raises:
        ValueError: another name, or no runs.
    """
    if reference not in REFERENCES:
        raise ValueError(f"reference={reference!r} is not allowed; choose one of {', '.join(REFERENCES)}.")
    if not runs:
        raise ValueError("runs must hold at least one run.")
    i = REFERENCES.index(reference)
    return min(runs, key=lambda run: run.divergence[set_name][-1, i].mean())


def replicates(groups: dict[str, list[Run]], reference: str = "regression") -> list[dict[str, Run]]:
    """Groups of runs rearranged seed by seed: label → run for each seed, the seed to draw first.

    That is the seed whose run in the last group is nearest to the reference (`nearest_run`); the others follow in their
    order. Only seeds that every group has are returned, or all first runs together where no seed is common.
    """
    by_seed = {label: {run.config.seed: run for run in runs} for label, runs in groups.items()}
    seeds = [seed for seed in next(iter(by_seed.values())) if all(seed in runs for runs in by_seed.values())]
    if not seeds:
        return [{label: runs[0] for label, runs in groups.items()}]
    *_, last = by_seed.values()
    first_seed = nearest_run([last[seed] for seed in seeds], reference).config.seed
    seeds.sort(key=lambda seed: seed != first_seed)
    return [{label: runs[seed] for label, runs in by_seed.items()} for seed in seeds]


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
    """Ask a model every query after each of n contexts of held-out tasks, as `activations.draw_contexts` draws them."""
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
        scores: of `score_contexts`.
        p: the modulus.
        column: index of the number of shots.
    """
    failed = scores.n_correct[:, column] < p**2 / 2
    properties = {
        "an example with z = 0": scores.is_zero_seen[:, column],
        "two independent pairs": scores.rank[:, column] == 2,
        "a repeated pair": scores.has_repeat[:, column],
        "a pair with a 0": scores.has_zero_pair[:, column],
    }
    return [
        FailureSplit(name, failed.sum(), (failed & has).sum(), (~failed).sum(), (~failed & has).sum())
        for name, has in properties.items()
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
    """Give contexts that do not show the zero line one example that does, and compare with another new example."""
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
    """Accuracy on combinations of tasks with a ≠ 0 and b ≠ 0, all shots together.

    With a = 0 or b = 0 one number of one example tells the answer, without regression.

    Args:
        predict: a model or an exact predictor.
        tokens: (B, 3·K) sequences whose tasks take turns, such as those of `Data.evaluation_set`.
        tasks: (n, 2) these tasks.
        p: the modulus.

    Returns:
        nan where there is no such query.
    """
    both_matter = (tasks != 0).all(1)[torch.arange(len(tokens)) % len(tasks)]
    is_counted = (query_kinds(tokens, p) == COMBINATION) & both_matter[:, None]
    return float(is_correct(predict, tokens)[is_counted].double().mean())


def accuracy_by_place(predict: Predictor, tokens: Tensor, p: int) -> np.ndarray:
    """Accuracy and confidence by kind of query and by which of its numbers is 0, all shots together.

    Confidence is the mean probability of the answers given.

    Returns:
        (2, kinds, places), as in `evaluate.KINDS` and `evaluate.PLACES`; nan below 10 queries.
    """
    log_p, answers = log_probabilities(predict, tokens).max(-1)
    measures = ((answers == targets(tokens)).double(), log_p.double().exp())
    kinds, query_places = query_kinds(tokens, p), places(tokens)
    cells = [[(kinds == k) & (query_places == i) for i in range(len(PLACES))] for k in range(len(KINDS))]
    return np.array(
        [
            [[measure[cell].mean() if cell.sum() >= 10 else np.nan for cell in row] for row in cells]
            for measure in measures
        ]
    )


KIND_COLUMNS = (
    "repeats",
    "multiples",
    "combinations",
    "combinations, a, b ≠ 0",
    *(f"multiples, {place}" for place in PLACES),
)
"""What `kind_row` returns."""


def kind_row(run: Run, n: int = 600, set_name: str = "ood_train") -> np.ndarray:
    """Accuracies of a run's last checkpoint, all shots together: (7,), named by `KIND_COLUMNS`."""
    data, p = Data(run.config), run.config.p
    tokens, model = data.evaluation_set(set_name, n), run.model()
    n_correct, n_queries = run.correct[set_name][-1].sum(-1), run.queries[set_name].sum(-1)
    combination = combination_accuracy(model, tokens, data.tasks[set_name.split("_")[0]], p)
    by_place = accuracy_by_place(model, tokens, p)[0, 1]
    return np.array([*(n_correct / np.maximum(n_queries, 1))[:3], combination, *by_place])


def nearest_in_words(agreement: np.ndarray, shots: list[int]) -> list[str]:
    """The nearest algorithm and its agreement at some numbers of shots, for a table: "ratio matching (0.91)"."""
    names = nearest_algorithm(agreement)
    return [f"{names[k]} ({agreement[:, k].max():.2f})" for k in shots]


def shown_shots(shots: list[int]) -> list[int]:
    """The numbers of shots of a table of algorithms: those given but 0, and 3."""
    return sorted({*shots, min(3, max(shots))} - {0})


def most_bimodal(scores: dict[str, ContextScores]) -> str:
    """The model whose number of correct answers varies most over contexts, at the last number of shots."""
    return max(scores, key=lambda name: scores[name].n_correct[:, -1].var())


def context_tokens(task: list[int], pairs: Tensor, p: int) -> Tensor:
    """Tokens (3·k,) of a task (a, b) on context pairs (k, 2)."""
    return paired_sequences(torch.tensor([task]), pairs[None], p)[0]
