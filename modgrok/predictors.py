"""Exact predictors: what a given algorithm would answer, in place of the model.

Every predictor has the model's own call signature once p is bound (`predictors(p)` binds it): it maps tokens,
flat x₁ y₁ z₁ x₂ y₂ z₂ … of shape (batch, 3·examples) or, without the last z, (batch, 3·examples − 1), to
log-probabilities (natural log) of shape (batch, examples, p). Entry k is the distribution over z of example
k + 1 given its (x, y) and the k earlier examples, that is, at k shots. A probability of zero is −inf; without
an answer, each z has 1/p.

The algorithms are those of claim 6 (figure F5), with look-up and Bayes as the bounds from below and above.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from modgrok.config import is_prime
from modgrok.data import grid


def look_up(tokens: Tensor, p: int) -> Tensor:
    """Answers a repeated pair with the z it had before, anything else uniformly: memory, no arithmetic.

    Shapes and errors are those of every predictor: tokens (batch, 3·examples) or (batch, 3·examples − 1),
    integer, in 0 … p − 1 → log-probabilities (batch, examples, p). Earlier examples that disagree (corrupted
    labels, A5) have one vote each. Raises ValueError if p is not prime or the tokens have another shape, type
    or range.
    """
    x, y, z = _examples(tokens, p)
    repeated = (x[:, :, None] == x[:, None, :]) & (y[:, :, None] == y[:, None, :])  # (batch, query, earlier)
    return _log_probabilities(_votes(z[:, None, :].expand_as(repeated), repeated.tril(-1), p))


def ratio_matching(tokens: Tensor, p: int) -> Tensor:
    """Answers c·z_i if the query is c·(x_i, y_i) for an earlier example i, else uniformly (claim 6).

    Row 2 of F5. c is any scalar, 0 included: one earlier example, whichever it is, answers the query (0, 0)
    with 0, as c = 0 does for every i. With no earlier example there is no ratio to match, so at 0 shots even
    (0, 0) gets a uniform guess. An earlier pair (0, 0) matches the query (0, 0) alone. Examples that disagree
    (A5) have one vote each. Shapes and errors as in `look_up`.
    """
    x, y, z = _examples(tokens, p)
    # (batch, query, earlier)
    matched, c = _ratios(x[:, :, None], y[:, :, None], x[:, None, :], y[:, None, :], p)
    return _log_probabilities(_votes(c * z[:, None, :] % p, matched.tril(-1), p))


def modular_regression(tokens: Tensor, p: int) -> Tensor:
    """Solves the linear system z_i = a·x_i + b·y_i over Z_p and answers where it determines z (claim 6).

    It does so if the query lies in the span of the earlier pairs: always once two of them are independent; on
    the multiples of the first non-zero pair while the rank is 1; for the query (0, 0) while it is 0 (so also
    at 0 shots). Outside the span every z is equally likely, hence uniform over p. A system without a solution
    (corrupted labels, A5) also gives a uniform guess. The result is that of `bayes` over all p² tasks, found
    by elimination instead of enumeration. Shapes and errors as in `look_up`.
    """
    examples = torch.stack(_examples(tokens, p), -1)
    batch, n, _ = examples.shape
    # Two made-up examples after the last one, (1, 0) → 0 and (0, 1) → 0, let every sequence end with rank 2.
    made_up = examples.new_tensor([[1, 0, 0], [0, 1, 0]]).expand(batch, 2, 3)
    x, y, z = torch.cat([examples, made_up], 1).unbind(-1)  # (batch, n + 2) each
    first = _first((x != 0) | (y != 0))  # (batch, 1), as is all that follows with a suffix 1 or 2
    x1, y1, z1 = (t.gather(1, first) for t in (x, y, z))
    independent = (x1 * y - y1 * x) % p != 0
    second = _first(independent)  # is after `first`: the pairs before it are (0, 0)
    x2, y2, z2 = (t.gather(1, second) for t in (x, y, z))

    # Cramer's rule for the two pivots. Where the second pivot is yet to come, or made up, it moves (a, b)
    # only in the direction in which a·x + b·y stays the same on the span of the first: what is used below
    # never looks ahead.
    inverse = modular_inverse(p).to(x.device)[(x1 * y2 - y1 * x2) % p]
    a = (z1 * y2 - y1 * z2) % p * inverse % p
    b = (x1 * z2 - z1 * x2) % p * inverse % p
    x, y, z, independent = (t[:, :n] for t in (x, y, z, independent))
    answer = (a * x + b * y) % p

    shots = torch.arange(n, device=x.device)
    zero = (x == 0) & (y == 0)
    in_span = zero | (shots > first) & ~independent | (shots > second)
    wrong_before = (answer != z).cumsum(1) - (answer != z).long()
    return _log_probabilities(_votes(answer[..., None], (in_span & (wrong_before == 0))[..., None], p))


def bayes(tokens: Tensor, p: int, tasks: Tensor | np.ndarray | None = None) -> Tensor:
    """Posterior predictive under a uniform prior over the given task vectors, or over all p² of them.

    tasks: (n_tasks, 2) integers (a, b) in 0 … p − 1; a row given twice counts twice. With the pre-training
    tasks this is the best there is on the i.d. sets (claim 1), with all tasks the best on average over all
    tasks. Where no task agrees with the earlier examples (an o.o.d. sequence, a corrupted label) the guess is
    uniform over p. Shapes and errors as in `look_up`; also raises ValueError for tasks of another shape or
    range.
    """
    x, y, z = _examples(tokens, p)
    if tasks is None:
        tasks = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    a, b = _checked_pairs(tasks, p, "tasks").to(x.device).unbind(1)
    if not len(a):
        raise ValueError("tasks must hold at least one task vector (a, b), got none.")
    consistent = torch.ones(len(x), len(a), dtype=torch.bool, device=x.device)  # (batch, n_tasks)
    mass = []
    for k in range(x.shape[1]):  # one shot at a time: memory grows with batch × tasks, not × examples
        answers = (x[:, k, None] * a + y[:, k, None] * b) % p
        mass.append(_votes(answers, consistent, p))
        consistent = consistent & (answers == z[:, k, None])
    return _log_probabilities(torch.stack(mass, 1))


def consistent(tokens: Tensor | np.ndarray, shots: int, p: int) -> tuple[np.ndarray, list[int]]:
    """The tasks that fit the first examples of a sequence, and what they answer to the next query.

    tokens: (3·K,) one sequence; shots: 0 … K − 1 → (p, p) bool, indexed [a, b], the support of the posterior over all
    tasks; and the answers z that any of them gives, ascending. Raises ValueError as `look_up` does.
    """
    x, y, z = (numbers[0] for numbers in _examples(torch.as_tensor(tokens)[None], p))
    a, b = torch.arange(p)[:, None, None], torch.arange(p)[:, None]
    given = (a * x + b * y) % p  # (p, p, K)
    fits = (given[..., :shots] == z[:shots]).all(-1)
    return fits.numpy(), given[..., shots][fits].unique().tolist()


def predictors(
    p: int, pretraining_tasks: Tensor | np.ndarray | None = None
) -> dict[str, Callable[[Tensor], Tensor]]:
    """All exact predictors by name, from weak to strong, each called like the model: `predictor(tokens)`.

    pretraining_tasks: (n_tasks, 2); without them, Bayes over the pre-training tasks is left out.
    `modular_regression` is the entry "regression"; "Bayes, all tasks" gives the same numbers. Raises
    ValueError if p is not prime.
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
    """Probability in [0, 1] that the highest score is the right answer, if ties are broken at random.

    scores: (…, p) log-probabilities or logits; answers: (…) integers in 0 … p − 1 → (…). A uniform guess
    scores 1/p, where a plain argmax would always say 0. On scores without ties (closer than 1e-5), as a
    model's, it is the ordinary accuracy, 0 or 1.
    """
    best = scores > scores.amax(-1, keepdim=True) - 1e-5  # equal but for rounding in the logarithm
    return best.gather(-1, answers[..., None]).squeeze(-1) / best.sum(-1)


def ratio_matches(pairs: Tensor | np.ndarray, shots: Sequence[int], p: int) -> np.ndarray:
    """Which queries ratio matching can answer after each number of shots (F5, row 2).

    pairs: (examples, 2) integers, the context's (x, y) in order; shots: numbers in 0 … examples → bool
    (len(shots), p, p), indexed [shot, x, y]: True where (x, y) = c·(x_i, y_i) for any of the first `shots`
    pairs, so (0, 0) from one pair on. Raises ValueError if p is not prime, or pairs or shots have another
    shape or range.
    """
    _check_prime(p)
    pairs = _checked_pairs(pairs, p, "pairs")
    for k in shots:
        if not 0 <= k <= len(pairs):
            raise ValueError(f"shots must be in 0 … {len(pairs)}, the number of context pairs, got {k}.")
    x_i, y_i = pairs[:, 0, None, None], pairs[:, 1, None, None]
    numbers = torch.arange(p, device=pairs.device)
    matched, _ = _ratios(numbers[:, None], numbers, x_i, y_i, p)  # (examples, p, p)
    after = np.zeros((len(pairs) + 1, p, p), dtype=bool)
    after[1:] = np.logical_or.accumulate(matched.cpu().numpy())
    return after[np.asarray(shots, dtype=int)]


def modular_inverse(p: int) -> Tensor:
    """Table (p,) of inverses: c · table[c] ≡ 1 mod p for c = 1 … p − 1, and table[0] = 0.

    Raises ValueError if p is not prime, as other numbers than 0 would lack an inverse.
    """
    _check_prime(p)
    numbers = torch.arange(p)
    return (numbers[:, None] * numbers % p == 1).long().argmax(1)


def ratio_classes(p: int) -> np.ndarray:
    """The class x/y of each pair in the order of `data.grid`, (p²,): 0 … p - 1, p for y = 0, and -1 for (0, 0).

    Two pairs share a class exactly when one is a multiple c·(x, y), c ≠ 0, of the other.
    """
    x, y = grid(p).T
    inverse = modular_inverse(p).numpy()
    return np.where(y > 0, x * inverse[y] % p, np.where(x > 0, p, -1))


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
    """Normalised logarithm of votes (…, p); uniform where nobody voted."""
    total = votes.sum(-1, keepdim=True)
    return torch.where(total > 0, votes / total, 1 / votes.shape[-1]).log()


def _first(true: Tensor) -> Tensor:
    """Index of the first True in each row of (batch, n) → (batch, 1)."""
    return true.byte().argmax(1, keepdim=True)  # of equal maxima argmax gives the first


def _examples(tokens: Tensor, p: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens → x, y, z, each (batch, examples); a last z that is missing reads 0 (never used)."""
    _check_prime(p)
    if tokens.ndim != 2 or tokens.shape[1] % 3 == 1 or tokens.shape[1] < 2:
        raise ValueError(
            f"tokens must have shape (batch, 3·n) or (batch, 3·n − 1), n ≥ 1, got {tuple(tokens.shape)}."
        )
    tokens = _checked_numbers(tokens, p, "tokens")
    tokens = torch.nn.functional.pad(tokens, (0, -tokens.shape[1] % 3))
    return tokens.unflatten(1, (-1, 3)).unbind(2)


def _checked_pairs(pairs: Tensor | np.ndarray, p: int, name: str) -> Tensor:
    """Pairs of numbers (n, 2), from any kind of array, as integers in 0 … p − 1."""
    pairs = torch.as_tensor(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"{name} must have shape (n, 2), got {tuple(pairs.shape)}.")
    return _checked_numbers(pairs, p, name)


def _checked_numbers(numbers: Tensor, p: int, name: str) -> Tensor:
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {numbers.dtype}.")
    if numbers.numel() and not 0 <= numbers.min() <= numbers.max() < p:
        raise ValueError(f"{name} must be in 0 … {p - 1} (p = {p}), got {numbers.min()} … {numbers.max()}.")
    return numbers.long()


def _check_prime(p: int) -> None:
    if not (isinstance(p, int | np.integer) and is_prime(p)):
        raise ValueError(f"p must be a prime number, got {p}.")
