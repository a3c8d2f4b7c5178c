"""Exact predictors: algorithms with the model's call signature (claim 6, F5).

`predictors(p)` binds p. A predictor then maps tokens x₁ y₁ z₁ x₂ y₂ z₂ … of shape (batch, 3·examples), or
(batch, 3·examples − 1) without the last z, to natural log-probabilities (batch, examples, p). Entry k is the
distribution over the z of example k + 1, given its (x, y) and the k examples before it: the answer at k shots.
A probability of zero is −inf. Where an algorithm has no answer, every z has probability 1/p. All raise ValueError
if p is not prime, or the tokens have another shape, type or range.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modgrok.config import is_prime
from modgrok.data import grid, line_numbers


def look_up(tokens: Tensor, p: int) -> Tensor:
    """Answer a repeated pair with its earlier z, and anything else uniformly: memory without arithmetic.

    Earlier examples that disagree (wrong labels, A5) have one vote each.
    """
    x, y, z = _examples(tokens, p)
    is_repeat = (x[:, :, None] == x[:, None, :]) & (y[:, :, None] == y[:, None, :])  # (batch, query, earlier)
    return _log_probabilities(_votes(z[:, None, :].expand_as(is_repeat), is_repeat.tril(-1), p))


def ratio_matching(tokens: Tensor, p: int) -> Tensor:
    """Answer c·z_i if the query is c·(x_i, y_i) for an earlier example i, else uniformly (claim 6, F5 row 2).

    c may be 0, so that any earlier example answers the query (0, 0) with 0. At 0 shots every query gets a
    uniform guess. An earlier pair (0, 0) matches only the query (0, 0). Examples that disagree (A5) have one
    vote each.
    """
    x, y, z = _examples(tokens, p)
    # (batch, query, earlier)
    is_multiple, c = _ratios(x[:, :, None], y[:, :, None], x[:, None, :], y[:, None, :], p)
    return _log_probabilities(_votes(c * z[:, None, :] % p, is_multiple.tril(-1), p))


def modular_regression(tokens: Tensor, p: int) -> Tensor:
    """Solve z_i = a·x_i + b·y_i over Z_p and answer every query that the solution determines (claim 6).

    A query is determined if it lies in the span of the earlier pairs. At rank 2 that is every query, at rank 1
    the multiples of the first non-zero pair, at rank 0 the query (0, 0), also at 0 shots. Elsewhere, and where
    the system has no solution (wrong labels, A5), the guess is uniform. The result equals `bayes` over all p²
    tasks.
    """
    examples = torch.stack(_examples(tokens, p), -1)
    batch, n, _ = examples.shape
    # Two extra examples after the last one, (1, 0) → 0 and (0, 1) → 0, give every sequence rank 2.
    padding = examples.new_tensor([[1, 0, 0], [0, 1, 0]]).expand(batch, 2, 3)
    x, y, z = torch.cat([examples, padding], 1).unbind(-1)  # (batch, n + 2) each
    first = _first((x != 0) | (y != 0))  # (batch, 1), as is all that follows with a suffix 1 or 2
    x1, y1, z1 = (t.gather(1, first) for t in (x, y, z))
    independent = (x1 * y - y1 * x) % p != 0
    second = _first(independent)  # is after `first`: the pairs before it are (0, 0)
    x2, y2, z2 = (t.gather(1, second) for t in (x, y, z))

    # Cramer's rule for the two pivots. Below, `in_span` never uses the second pivot before it has come: until
    # then only multiples of the first pivot count, on which a·x + b·y does not depend on the second.
    inverse = modular_inverse(p).to(x.device)[(x1 * y2 - y1 * x2) % p]
    a = (z1 * y2 - y1 * z2) % p * inverse % p
    b = (x1 * z2 - z1 * x2) % p * inverse % p
    x, y, z, independent = (t[:, :n] for t in (x, y, z, independent))
    answer = (a * x + b * y) % p

    shots = torch.arange(n, device=x.device)
    zero = (x == 0) & (y == 0)
    in_span = zero | (shots > first) & ~independent | (shots > second)
    n_wrong_before = (answer != z).cumsum(1) - (answer != z).long()
    return _log_probabilities(_votes(answer[..., None], (in_span & (n_wrong_before == 0))[..., None], p))


def bayes(tokens: Tensor, p: int, tasks: Tensor | np.ndarray | None = None) -> Tensor:
    """Posterior predictive under a uniform prior over task vectors (n_tasks, 2), or by default over all p² of them.

    With the pre-training tasks it is optimal on the i.d. sets (claim 1), with all tasks it is optimal on
    average over all tasks. Where no task fits the earlier examples (an o.o.d. sequence, a wrong label) the
    guess is uniform. A repeated task counts twice.
    """
    x, y, z = _examples(tokens, p)
    if tasks is None:
        tasks = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    a, b = check_vectors(tasks, p, "tasks").to(x.device).unbind(1)
    if not len(a):
        raise ValueError("tasks must hold at least one task vector (a, b), got none.")
    fits = torch.ones(len(x), len(a), dtype=torch.bool, device=x.device)  # (batch, n_tasks)
    votes = []
    for k in range(x.shape[1]):  # one shot at a time: memory grows with batch × tasks, not × examples
        answers = (x[:, k, None] * a + y[:, k, None] * b) % p
        votes.append(_votes(answers, fits, p))
        fits = fits & (answers == z[:, k, None])
    return _log_probabilities(torch.stack(votes, 1))


def consistent_tasks(tokens: Tensor | np.ndarray, shots: int, p: int) -> tuple[np.ndarray, list[int]]:
    """The tasks that fit the first `shots` examples of a sequence (3·K,), and their answers to the next query.

    Returns:
        (p, p) bool, indexed [a, b], whether task (a, b) fits; and the different z that these tasks give, ascending.

    Raises:
        ValueError: as the predictors, or shots is not in 0 … K − 1.
    """
    x, y, z = (numbers[0] for numbers in _examples(torch.as_tensor(tokens)[None], p))
    a, b = torch.arange(p)[:, None, None], torch.arange(p)[:, None]
    if not 0 <= shots < len(x):
        raise ValueError(f"shots={shots} must lie between 0 and {len(x) - 1}, given this sequence.")
    answers = (a * x + b * y) % p  # (p, p, K)
    fits = (answers[..., :shots] == z[:shots]).all(-1)
    return fits.numpy(), answers[..., shots][fits].unique().tolist()


def predictors(
    p: int, pretraining_tasks: Tensor | np.ndarray | None = None
) -> dict[str, Callable[[Tensor], Tensor]]:
    """All exact predictors by name, from weak to strong, each called like the model: `predictor(tokens)`.

    "Bayes, pre-training tasks" is left out without pretraining_tasks (n_tasks, 2).
    """
    _check_prime(p)
    by_name = {
        "look-up": partial(look_up, p=p),
        "ratio matching": partial(ratio_matching, p=p),
        "regression": partial(modular_regression, p=p),
        "Bayes, all tasks": partial(bayes, p=p),
    }
    if pretraining_tasks is not None:
        by_name["Bayes, pre-training tasks"] = partial(bayes, p=p, tasks=pretraining_tasks)
    return by_name


def expected_accuracy(scores: Tensor, answers: Tensor) -> Tensor:
    """Probability (…) that the highest of scores (…, p) is that of the right answer (…), ties broken at random.

    A uniform guess scores 1/p, where a plain argmax would always say 0. Scores closer than 1e-5 are tied.
    """
    best = scores > scores.amax(-1, keepdim=True) - 1e-5  # equal but for rounding in the logarithm
    return best.gather(-1, answers[..., None]).squeeze(-1) / best.sum(-1)


def ratio_matches(pairs: Tensor | np.ndarray, shots: Sequence[int], p: int) -> np.ndarray:
    """Whether ratio matching can answer each query (x, y) after each number of shots (F5, row 2).

    Args:
        pairs: (examples, 2) integers, the context's (x, y) in order.
        shots: numbers of examples, each 0 … examples.
        p: the modulus.

    Returns:
        (len(shots), p, p) bool, indexed [shot, x, y]: whether (x, y) = c·(x_i, y_i) for one of the first pairs.

    Raises:
        ValueError: p is not prime, or pairs or shots have another shape or range.
    """
    _check_prime(p)
    pairs = check_vectors(pairs, p, "pairs")
    for k in shots:
        if not 0 <= k <= len(pairs):
            raise ValueError(f"shots must be in 0 … {len(pairs)}, the number of context pairs, got {k}.")
    lines = line_numbers(pairs.cpu().numpy(), p)[:, None]
    is_multiple = (lines == ratio_classes(p)) | (ratio_classes(p) == -1)  # (examples, p²)
    is_matched = np.zeros((len(pairs) + 1, p * p), dtype=bool)
    is_matched[1:] = np.logical_or.accumulate(is_multiple)
    return is_matched[np.asarray(shots, dtype=int)].reshape(-1, p, p)


def modular_inverse(p: int) -> Tensor:
    """Table (p,) of inverses: c · table[c] ≡ 1 mod p for c = 1 … p − 1, and table[0] = 0."""
    _check_prime(p)
    numbers = torch.arange(p)
    return (numbers[:, None] * numbers % p == 1).long().argmax(1)


def ratio_classes(p: int) -> np.ndarray:
    """The line, as by `data.line_numbers`, of each pair in the order of `data.grid`: (p²,) integers.

    Two pairs share a class exactly when one is a multiple c·(x, y), c ≠ 0, of the other.
    """
    return line_numbers(grid(p), p)


def _ratios(x: Tensor, y: Tensor, x_i: Tensor, y_i: Tensor, p: int) -> tuple[Tensor, Tensor]:
    """Whether (x, y) is a multiple c of (x_i, y_i), and c (0 for the pair (0, 0)); all shapes broadcast."""
    inverse = modular_inverse(p).to(x.device)
    c = torch.where(x_i != 0, x * inverse[x_i], y * inverse[y_i]) % p
    return (c * x_i % p == x) & (c * y_i % p == y), c


def _votes(answers: Tensor, weights: Tensor, p: int) -> Tensor:
    """Sums weights (…, voters) by the answers (…, voters) they stand for → (…, p)."""
    # Counts stay far below 2²⁴, so float32 sums are exact, in whatever order a GPU adds.
    votes = torch.zeros(*answers.shape[:-1], p, device=answers.device)
    return votes.scatter_add_(-1, answers, weights.to(votes.dtype))


def _log_probabilities(votes: Tensor) -> Tensor:
    """Logarithm of the share of votes (…, p); uniform where there is no vote."""
    total = votes.sum(-1, keepdim=True)
    return torch.where(total > 0, votes / total, 1 / votes.shape[-1]).log()


def _first(mask: Tensor) -> Tensor:
    """Index of the first True in each row of (batch, n) → (batch, 1)."""
    return mask.byte().argmax(1, keepdim=True)  # of equal maxima argmax gives the first


def _examples(tokens: Tensor, p: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens → x, y, z, each (batch, examples); a last z that is missing reads 0 (never used)."""
    _check_prime(p)
    tokens = check_tokens(tokens, p)
    return F.pad(tokens, (0, -tokens.shape[1] % 3)).unflatten(1, (-1, 3)).unbind(2)


def check_tokens(tokens: Tensor, p: int | None = None) -> Tensor:
    """Raise ValueError unless tokens are integers, (batch, 3·n) or (batch, 3·n − 1), n ≥ 1; with p, in 0 … p − 1.

    Returns them as 64-bit integers.
    """
    if not isinstance(tokens, Tensor):
        raise ValueError(f"tokens must be a torch tensor of integers, got {type(tokens).__name__}.")
    if tokens.ndim != 2 or tokens.shape[1] % 3 == 1 or tokens.shape[1] < 2:
        raise ValueError(
            f"tokens must have shape (batch, 3·n) or (batch, 3·n − 1), n ≥ 1, got {tuple(tokens.shape)}."
        )
    return _checked_numbers(tokens, p, "tokens")


def check_vectors(vectors: Tensor | np.ndarray, p: int, name: str) -> Tensor:
    """Task vectors or input pairs (n, 2), from any kind of array, as a tensor of integers in 0 … p − 1.

    Raises ValueError, naming them by `name`, if they have another shape, type or range.
    """
    vectors = torch.as_tensor(vectors)
    if vectors.ndim != 2 or vectors.shape[1] != 2:
        raise ValueError(f"{name} must have shape (n, 2), got {tuple(vectors.shape)}.")
    return _checked_numbers(vectors, p, name)


def _checked_numbers(numbers: Tensor, p: int | None, name: str) -> Tensor:
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {numbers.dtype}.")
    if p is not None and numbers.numel() and not 0 <= numbers.min() <= numbers.max() < p:
        raise ValueError(f"{name} must be in 0 … {p - 1} (p = {p}), got {numbers.min()} … {numbers.max()}.")
    return numbers.long()


def _check_prime(p: int) -> None:
    if not (isinstance(p, int | np.integer) and is_prime(p)):
        raise ValueError(f"p must be a prime number, got {p!r}.")
