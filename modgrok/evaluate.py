"""Scoring: what a model or an exact predictor answers right, and how far its beliefs are from another's."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm import tqdm

from modgrok.data import paired_sequences
from modgrok.model import Transformer
from modgrok.predictors import check_tokens, check_vectors, expected_accuracy, predictors

Predictor = Callable[[Tensor], Tensor]
"""Maps tokens (B, 3·K) to logits or log-probabilities (B, K, p): a model or an exact predictor."""

PASS = 256
"""Sequences in one forward pass: 0.4 GB at the paper's width of 512."""

QUERIES_PER_PASS = 2**12
"""Queries of grids in one forward pass, which bounds memory."""

KINDS = ("repeat", "multiple", "combination", "open")
"""Kinds of queries, by the weakest algorithm that can answer them. A *repeat* of an earlier pair needs look-up, another
*multiple* of an earlier pair ratio matching, a *combination* of several pairs regression. An *open* query is not
determined by the examples. The pair (0, 0), whose answer is always 0, is a combination until an example has come."""

REPEAT, MULTIPLE, COMBINATION = range(3)

REFERENCES = ("look-up", "ratio matching", "regression", "Bayes, pre-training tasks")
"""The exact predictors that training compares a model with, by their names in `predictors.predictors`. Without wrong
labels, regression equals Bayes over all tasks."""


class Questions(NamedTuple):
    """Sequences with everything that scoring needs and that does not depend on the model.

    Attributes:
        tokens: (B, 3·K).
        kinds: (B, K) kind of each query, an index of `KINDS`.
        references: (R, B, K, p) log-probabilities of `REFERENCES`.
    """

    tokens: Tensor
    kinds: Tensor
    references: Tensor


class Scores(NamedTuple):
    """Sums over sequences, float64; divided by the number of queries they are means.

    Attributes:
        loss: (K,) cross-entropy of z in nats, by number of shots.
        correct: (kinds, K) correct answers by kind of query and number of shots.
        divergence: (R, K) relative entropy from each of `REFERENCES` in nats, by number of shots.
    """

    loss: Tensor
    correct: Tensor
    divergence: Tensor


def targets(tokens: Tensor) -> Tensor:
    """The z of every example, (B, K), of tokens (B, 3·K)."""
    return tokens[:, 2::3]


def prepare_questions(tokens: Tensor, p: int, pretraining_tasks: Tensor) -> Questions:
    """Sort the queries of tokens (B, 3·K) by kind and answer them by every exact predictor.

    Bayes over the pre-training tasks has pretraining_tasks (n_tasks, 2).
    """
    exact = predictors(p, pretraining_tasks)
    references = torch.stack([log_probabilities(exact[name], tokens) for name in REFERENCES])
    return Questions(tokens, weakest_certain(list(references[:3])), references)


def reference_accuracy(questions: Questions) -> dict[str, np.ndarray]:
    """Accuracy of each of `REFERENCES` by number of shots, in expectation over ties: name → (K,) (F1c)."""
    z = targets(questions.tokens)
    return {
        name: expected_accuracy(beliefs, z).mean(0).numpy()
        for name, beliefs in zip(REFERENCES, questions.references, strict=True)
    }


def query_kinds(tokens: Tensor, p: int) -> Tensor:
    """The kind of each query of tokens (B, 3·K): (B, K), an index of `KINDS`."""
    exact = predictors(p)
    return weakest_certain([log_probabilities(exact[name], tokens) for name in REFERENCES[:3]])


def count_kinds(kinds: Tensor, selected: Tensor | bool = True) -> Tensor:
    """Count queries by kind: kinds (B, K) → (kinds, K); if some are `selected`, (B, K) bool, these alone."""
    return torch.stack([((kinds == i) & selected).sum(0) for i in range(len(KINDS))])


@torch.no_grad()
def score(predict: Predictor, questions: Questions) -> Scores:
    """Score a predictor on questions, a batch at a time: sums of loss, correct answers and divergences."""
    K, device = questions.kinds.shape[1], questions.tokens.device
    shapes = ((K,), (len(KINDS), K), (len(REFERENCES), K))
    total = Scores(*(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes))
    parts = (questions.tokens.split(PASS), questions.kinds.split(PASS))
    batches = list(zip(*parts, questions.references.split(PASS, dim=1), strict=True))
    for tokens, kinds, references in tqdm(batches, desc="scoring", unit="batch", leave=False, delay=5):
        log_p, z = predict(tokens).float().log_softmax(-1), targets(tokens)
        total.loss.sub_(log_p.gather(-1, z[..., None])[..., 0].double().sum(0))
        total.correct.add_(count_kinds(kinds, log_p.argmax(-1) == z))
        total.divergence.add_(divergence(references, log_p).double().sum(1))
    return total


@torch.no_grad()
def is_correct(predict: Predictor, tokens: Tensor, batch_size: int = PASS) -> Tensor:
    """Whether the most probable z of each query is the right one: (B, K) bool of tokens (B, 3·K)."""
    check_tokens(tokens, predict.config.p if isinstance(predict, Transformer) else None)
    return torch.cat([predict(part).argmax(-1) == targets(part) for part in tokens.split(batch_size)])


def accuracy_by_shot(predict: Predictor, tokens: Tensor) -> Tensor:
    """Share of correct answers after 0 … K - 1 shots, (K,), on tokens (B, 3·K) (F1c).

    Raises ValueError if the tokens are no integer tensor of whole examples.
    """
    return is_correct(predict, tokens).double().mean(0)


def query_grid(model: Transformer, tasks: ArrayLike, pairs: ArrayLike, shots: list[int]) -> np.ndarray:
    """The model's answer to every query (x, y) after the first examples of a context (F5).

    Args:
        tasks: (n, 2) task vectors.
        pairs: context pairs (x, y), (k, 2) for all tasks, or (n, k, 2).
        shots: numbers of examples before the query, each 0 … min(k, n_examples - 1).

    Returns:
        (n, len(shots), p, p) integers, the predicted z at [task, shots, x, y].

    Raises:
        ValueError: tasks or pairs that are not pairs of numbers 0 … p - 1, or a number of shots out of range.
    """
    p, device = model.config.p, model.embed.weight.device
    tasks, pairs = (torch.as_tensor(np.asarray(vectors)) for vectors in (tasks, pairs))
    tasks = check_vectors(tasks, p, "tasks").to(device)
    rows = check_vectors(pairs.flatten(0, 1) if pairs.ndim == 3 else pairs, p, "pairs")
    if pairs.ndim == 3 and len(pairs) != len(tasks):
        raise ValueError(f"pairs must have a context for each of {len(tasks)} tasks, got {len(pairs)}.")
    pairs = rows.reshape(pairs.shape).to(device).expand(len(tasks), -1, -1)  # (n, k, 2)
    max_shots = min(pairs.shape[1], model.config.n_examples - 1)
    if not len(shots) or not all(k in range(max_shots + 1) for k in shots):
        raise ValueError(
            f"shots={list(shots)} must lie between 0 and {max_shots}, given this context and model."
        )
    contexts = paired_sequences(tasks, pairs[:, : max(shots)], p)  # (n, 3·k)
    shots_per_pass = max(1, min(len(shots), QUERIES_PER_PASS // p**2))
    parts = [shots[i : i + shots_per_pass] for i in range(0, len(shots), shots_per_pass)]
    answers = [
        torch.cat([model.query_logits(context_rows, part).argmax(-1) for part in parts], dim=1)
        for context_rows in contexts.split(max(1, QUERIES_PER_PASS // (p**2 * shots_per_pass)))
    ]
    return torch.cat(answers).cpu().numpy()


def correct_grid(model: Transformer, tasks: ArrayLike, pairs: ArrayLike, shots: list[int]) -> np.ndarray:
    """Whether the model answers each query correctly: (n, len(shots), p, p) bool (F5).

    Arguments and errors are those of `query_grid`.
    """
    p, (a, b) = model.config.p, np.transpose(tasks)[..., None, None, None]
    x, y = np.mgrid[:p, :p]
    return query_grid(model, tasks, pairs, shots) == (a * x + b * y) % p


@torch.no_grad()
def log_probabilities(predict: Predictor, tokens: Tensor) -> Tensor:
    """The predictor's log-probability (natural) of every z: (B, K, p) of tokens (B, 3·K)."""
    return torch.cat([predict(part).float().log_softmax(-1) for part in tokens.split(PASS)])


def divergence(reference: Tensor, scores: Tensor) -> Tensor:
    """Relative entropy KL(reference ‖ scores) in nats: (…) of two log-probabilities (…, p).

    It is 0 where both hold the same beliefs, and infinite where `scores` excludes what `reference` allows.
    """
    terms = reference.exp() * (reference - scores)
    return torch.where(reference > -torch.inf, terms, 0).sum(-1)  # 0 · log 0 = 0


def is_certain(reference: Tensor) -> Tensor:
    """Whether a predictor gives one answer all the probability: bool (…) of log-probabilities (…, p)."""
    return reference.amax(-1) > -1e-4  # but for rounding


def weakest_certain(references: list[Tensor]) -> Tensor:
    """The first of several predictors, log-probabilities (…, p) each, that is certain of an answer.

    They come from weak to strong. Returns (…) indices of the list, its length where none is certain.
    """
    certain = torch.stack([is_certain(reference) for reference in references])
    return torch.where(certain.any(0), certain.byte().argmax(0), len(references))
