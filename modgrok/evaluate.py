"""What a predictor gets right: loss and accuracy by shot."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from modgrok.data import sequences
from modgrok.model import Transformer

Predictor = Callable[[Tensor], Tensor]
"""Anything that maps tokens (B, 3·K) to logits or log-probabilities (B, K, p): the model, or an algorithm."""


def targets(tokens: Tensor) -> Tensor:
    """The z of every example, (B, K), of tokens (B, 3·K)."""
    return tokens[:, 2::3]


@torch.no_grad()
def score_sums(predict: Predictor, tokens: Tensor, batch_size: int = 1024) -> Tensor:
    """Sums over sequences that means are made of: (2, K) float64, cross-entropy (nats) and correct answers."""
    total = torch.zeros(2, tokens.shape[1] // 3, dtype=torch.float64, device=tokens.device)
    for part in tokens.split(batch_size):
        logits, z = predict(part).float(), targets(part)
        total[0] += F.cross_entropy(logits.mT, z, reduction="none").double().sum(0)
        total[1] += (logits.argmax(-1) == z).double().sum(0)
    return total


def accuracy_by_shot(predict: Predictor, tokens: Tensor, batch_size: int = 1024) -> Tensor:
    """Share of correct answers after 0 … K-1 shots, (K,), on tokens (B, 3·K) (F1c)."""
    return score_sums(predict, tokens, batch_size)[1] / len(tokens)


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
