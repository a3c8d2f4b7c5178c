"""What a predictor gets right, and which algorithm its answers look like."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm.auto import tqdm

from modgrok.data import sequences
from modgrok.model import Transformer
from modgrok.predictors import expected_accuracy, predictors

Predictor = Callable[[Tensor], Tensor]
"""Anything that maps tokens (B, 3·K) to logits or log-probabilities (B, K, p): the model, or an algorithm."""


PASS = 256
"""Sequences that a model answers at once where nothing says otherwise: 0.4 GB at the paper's width of 512."""


def targets(tokens: Tensor) -> Tensor:
    """The z of every example, (B, K), of tokens (B, 3·K)."""
    return tokens[:, 2::3]


KINDS = ("repeat", "multiple", "combination", "open")
"""What it takes to answer a query: a repeat of an earlier pair needs memory, another multiple of one ratio matching,
any other pair that the examples determine a combination of several; an open one is not determined yet. The pair (0, 0),
whose answer is 0 whatever the task, is a combination of none: one query in p² of those without an example."""

REPEAT, MULTIPLE, COMBINATION, OPEN = range(len(KINDS))

REFERENCES = ("look-up", "ratio matching", "regression", "Bayes, pre-training tasks")
"""The exact predictors that a model is compared with while it trains, as `algorithms.predictors` names them. Where no
label is wrong, regression is Bayes over all tasks."""


class Questions(NamedTuple):
    """Sequences with all that scoring a model on them needs, known before there is a model.

    Attributes:
        tokens: (B, 3·K).
        kinds: (B, K) index into `KINDS` of each query.
        references: (R, B, K, p) log-probabilities of `REFERENCES`.
    """

    tokens: Tensor
    kinds: Tensor
    references: Tensor


class Scores(NamedTuple):
    """Sums over sequences, float64, of which means and shares are made.

    Attributes:
        loss: (K,) cross-entropy of z in nats.
        correct: (kinds, K) right answers.
        divergence: (R, K) KL(reference ‖ model) in nats.
    """

    loss: Tensor
    correct: Tensor
    divergence: Tensor


def questions(tokens: Tensor, p: int, pretraining_tasks: Tensor) -> Questions:
    """Sequences (B, 3·K), their queries sorted by kind and answered by every exact predictor."""
    exact = predictors(p, pretraining_tasks)
    references = torch.stack([log_probabilities(exact[name], tokens) for name in REFERENCES])
    return Questions(tokens, query_kinds(list(references[:3])), references)


def reference_accuracy(asked: Questions) -> dict[str, np.ndarray]:
    """How often each of `REFERENCES` is right, in expectation over ties, by number of shots: name → (K,) (F1c)."""
    z = targets(asked.tokens)
    return {
        name: expected_accuracy(beliefs, z).mean(0).numpy()
        for name, beliefs in zip(REFERENCES, asked.references, strict=True)
    }


def kinds(tokens: Tensor, p: int) -> Tensor:
    """What each query of tokens (B, 3·K) takes, (B, K): an index into `KINDS`."""
    exact = predictors(p)
    return query_kinds([log_probabilities(exact[name], tokens) for name in REFERENCES[:3]])


def count_kinds(kinds: Tensor, of: Tensor | None = None) -> Tensor:
    """How many queries (B, K) there are of each kind, or how many of those where `of` (B, K) holds: (kinds, K)."""
    cases = torch.stack([kinds == i for i in range(len(KINDS))])
    return (cases if of is None else cases & of).sum(1)


@torch.no_grad()
def score(predict: Predictor, asked: Questions, batch_size: int = PASS) -> Scores:
    """Sums over the questions: loss, right answers by kind, divergence from the references, each by shot."""
    K, device = asked.kinds.shape[1], asked.tokens.device
    sizes = ((K,), (len(KINDS), K), (len(REFERENCES), K))
    total = Scores(*(torch.zeros(size, dtype=torch.float64, device=device) for size in sizes))
    parts = (asked.tokens.split(batch_size), asked.kinds.split(batch_size))
    parts = list(zip(*parts, asked.references.split(batch_size, dim=1), strict=True))
    for tokens, kinds, reference in tqdm(parts, desc="scoring", unit="batch", leave=False, delay=5):
        log_p, z = predict(tokens).float().log_softmax(-1), targets(tokens)
        total.loss.sub_(log_p.gather(-1, z[..., None])[..., 0].double().sum(0))
        total.correct.add_(count_kinds(kinds, log_p.argmax(-1) == z))
        total.divergence.add_(divergence(reference, log_p).double().sum(1))
    return total


@torch.no_grad()
def accuracy_by_shot(predict: Predictor, tokens: Tensor, batch_size: int = PASS) -> Tensor:
    """Share of correct answers after 0 … K-1 shots, (K,), on tokens (B, 3·K) (F1c)."""
    right = torch.cat([predict(part).argmax(-1) == targets(part) for part in tokens.split(batch_size)])
    return right.double().mean(0)


def query_grid(
    model: Transformer, tasks: ArrayLike, pairs: ArrayLike, shots: list[int], chunk: int = 2**12
) -> np.ndarray:
    """The model's answer to every query (x, y) after the first examples of a context (F5).

    Args:
        model: the transformer.
        tasks: (n, 2) task vectors; each answers the same context pairs.
        pairs: (k, 2) context pairs (x, y).
        shots: numbers of examples in front of the query, each 0 … min(k, n_examples - 1).
        chunk: queries a pass, which bounds memory.

    Returns:
        (n, len(shots), p, p) integers, the predicted z at [task, shots, x, y].

    Raises:
        ValueError: a number of shots beyond the context or the model's sequence length.
    """
    p, device = model.config.p, model.embed.weight.device
    most = min(len(pairs), model.config.n_examples - 1)
    if not all(0 <= k <= most for k in shots):
        raise ValueError(f"shots={list(shots)} must lie between 0 and {most}, given this context and model.")
    tasks, pairs = (torch.as_tensor(np.asarray(vectors), device=device) for vectors in (tasks, pairs))
    contexts = sequences(tasks, pairs[None, : max(shots)], p)  # (n, 3·k)
    per_pass = max(1, chunk // p**2)
    answers = [
        torch.cat(
            [
                model.query_logits(context[None], shots[i : i + per_pass]).argmax(-1)
                for i in range(0, len(shots), per_pass)
            ],
            dim=1,
        )
        for context in contexts
    ]
    return torch.cat(answers).cpu().numpy()


def right_grid(model: Transformer, tasks: ArrayLike, pairs: ArrayLike, shots: list[int]) -> np.ndarray:
    """Which queries a model has right, (n, len(shots), p, p) bool; arguments and errors as for `query_grid` (F5)."""
    p, (a, b) = model.config.p, np.transpose(tasks)[..., None, None, None]
    x, y = np.mgrid[:p, :p]
    return query_grid(model, tasks, pairs, shots) == (a * x + b * y) % p


def with_wrong_labels(tokens: Tensor, wrong: Tensor, p: int, rng: np.random.Generator) -> Tensor:
    """Tokens (B, 3·K) whose z is another number, all others equally likely, wherever `wrong` (B, K) holds (A5)."""
    shift = torch.from_numpy(rng.integers(1, p, size=tuple(wrong.shape))).to(tokens.device)
    corrupted = tokens.clone()
    corrupted[:, 2::3] = torch.where(wrong, (targets(tokens) + shift) % p, targets(tokens))
    return corrupted


@torch.no_grad()
def scores_with_wrong_labels(
    predict: Predictor, tokens: Tensor, p: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Accuracy and loss after examples of which some, chosen at random, have a wrong z (A5).

    One pass over a sequence with wrong labels at random places serves all its prefixes: given how many of a prefix's
    examples are wrong, their places in it are random. So each sequence is asked once for each number of wrong ones.

    Returns:
        "accuracy" and "loss" (nats) → (K, K): after k shots (row) of which m (column) are wrong, of tokens (B, 3·K);
        nan where m > k.
    """
    B, K = targets(tokens).shape
    total = {name: torch.zeros(K * K, dtype=torch.float64) for name in ("accuracy", "loss", "cases")}
    z, shots = targets(tokens).cpu(), torch.arange(K)
    for m in range(K + 1):  # all of them, too: else few prefixes would have none that is right
        order = torch.from_numpy(rng.random((B, K)).argsort(1).argsort(1)).to(tokens.device)
        wrong = order < m
        log_p = predict(with_wrong_labels(tokens, wrong, p, rng)).float().log_softmax(-1).cpu()
        before = wrong.cpu().long().cumsum(1) - wrong.cpu().long()  # wrong ones among the k examples in front
        cell = (shots * K + before).flatten()
        loss = -log_p.gather(-1, z[..., None])[..., 0]
        for name, of in (
            ("accuracy", log_p.argmax(-1) == z),
            ("loss", loss),
            ("cases", torch.ones_like(loss)),
        ):
            total[name].index_add_(0, cell, of.double().flatten())
    cases = total.pop("cases")
    return {
        name: (of / cases.where(cases > 0, torch.nan)).reshape(K, K).numpy() for name, of in total.items()
    }


def accuracy_with_one_wrong(
    predict: Predictor, tokens: Tensor, p: int, rng: np.random.Generator
) -> np.ndarray:
    """Share of correct answers after examples of which just one has a wrong z (A5).

    Returns:
        (K - 1, K): with example j (row) wrong, counted from 0, after k shots (column), of tokens (B, 3·K); nan
        where k ≤ j, before it is wrong.
    """
    K = tokens.shape[1] // 3
    accuracy = np.full((K - 1, K), np.nan)
    for j in range(K - 1):
        wrong = (torch.arange(K, device=tokens.device) == j).expand(len(tokens), K)
        asked = with_wrong_labels(tokens, wrong, p, rng)
        accuracy[j, j + 1 :] = accuracy_by_shot(predict, asked)[j + 1 :]
    return accuracy


@torch.no_grad()
def log_probabilities(predict: Predictor, tokens: Tensor, batch_size: int = PASS) -> Tensor:
    """What a predictor believes of every z, natural logarithm: (B, K, p) of tokens (B, 3·K)."""
    parts = [predict(part).float().log_softmax(-1) for part in tokens.split(batch_size)]
    return torch.cat(parts)


def divergence(reference: Tensor, scores: Tensor) -> Tensor:
    """Relative entropy KL(reference ‖ scores) in nats, (…) of two log-probabilities (…, p).

    Zero where both believe the same; what is lost by believing `scores` where `reference` holds.
    """
    terms = reference.exp() * (reference - scores)
    return torch.where(reference > -torch.inf, terms, 0).sum(-1)  # 0 · log 0 = 0


def agreement(reference: Tensor, scores: Tensor) -> Tensor:
    """Probability that the reference's best answer, ties broken at random, is that of `scores`: (…)."""
    return expected_accuracy(reference, scores.argmax(-1))


def certain(reference: Tensor) -> Tensor:
    """Whether a reference knows the answer for sure: bool (…) of log-probabilities (…, p)."""
    return reference.amax(-1) > -1e-4  # one answer has all the probability, but for rounding


def query_kinds(references: list[Tensor]) -> Tensor:
    """The first of some references, in order from weak to strong, that is certain of each answer.

    Args:
        references: log-probabilities (…, p) each, such as of look-up, ratio matching, regression.

    Returns:
        (…) integers: an index of the list, or its length where none is certain.
    """
    knows = torch.stack([certain(reference) for reference in references])
    return torch.where(knows.any(0), knows.byte().argmax(0), len(references))


PLACES = ("neither is 0", "x = 0", "y = 0")
"""Where in the plane of inputs a query lies; (0, 0), whose answer is always 0, is none of these."""


def places(tokens: Tensor) -> Tensor:
    """Where each query of tokens (B, 3·K) lies, (B, K): an index of PLACES, -1 for (0, 0)."""
    x, y = tokens[:, 0::3], tokens[:, 1::3]
    return torch.where(x * y > 0, 0, torch.where(y > 0, 1, torch.where(x > 0, 2, -1)))


def on_combinations(predict: Predictor, tokens: Tensor, tasks: Tensor, p: int) -> float:
    """Accuracy on combinations of tasks whose a and b are both not 0: of others one number tells the answer.

    Args:
        tokens: (B, 3·K), sequences of tasks that take turns, as those of `Data.evaluation_set`.
        tasks: (n, 2), these tasks.

    Returns:
        all shots together; nan where there is no such query.
    """
    of_both = (tasks != 0).all(1)[torch.arange(len(tokens)) % len(tasks)]
    asked = (kinds(tokens, p) == COMBINATION) & of_both[:, None]
    right = log_probabilities(predict, tokens).argmax(-1) == targets(tokens)
    return float(right[asked].double().mean())


def by_place(predict: Predictor, tokens: Tensor, p: int) -> np.ndarray:
    """Accuracy and confidence, the mean probability of the model's own answers, by kind and place of the query.

    All shots together: (2, kinds, places), nan below 10 cases.
    """
    sure, answers = log_probabilities(predict, tokens).max(-1)
    measured = ((answers == targets(tokens)).double(), sure.double().exp())
    of_kind, where = kinds(tokens, p), places(tokens)
    cells = [[(of_kind == kind) & (where == i) for i in range(len(PLACES))] for kind in range(len(KINDS))]
    return np.array(
        [[[of[at].mean() if at.sum() >= 10 else np.nan for at in row] for row in cells] for of in measured]
    )
