"""What a predictor gets right: loss and accuracy by shot."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

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
