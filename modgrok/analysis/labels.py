"""Wrong labels: how a model answers after examples of which some have a false z (A5)."""

import numpy as np
import torch
from torch import Tensor

from modgrok.evaluate import Predictor, accuracy_by_shot, targets


def with_wrong_labels(tokens: Tensor, is_wrong: Tensor, p: int, rng: np.random.Generator) -> Tensor:
    """Replace the z of tokens (B, 3·K) by another number, all others equally likely, where `is_wrong` (B, K) holds."""
    shift = torch.from_numpy(rng.integers(1, p, size=tuple(is_wrong.shape))).to(tokens.device)
    corrupted = tokens.clone()
    corrupted[:, 2::3] = torch.where(is_wrong, (targets(tokens) + shift) % p, targets(tokens))
    return corrupted


@torch.no_grad()
def scores_with_wrong_labels(
    predict: Predictor, tokens: Tensor, p: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Accuracy and loss by number of shots and number of wrong labels among them (A5).

    Each sequence is scored once for every number of wrong labels, placed at random. Given how many of a prefix's
    examples are wrong, their places in it are random too, so one pass serves all prefixes.

    Returns:
        "accuracy" and "loss" (nats) → (K, K): after k shots (row) of which m (column) are wrong, of tokens (B, 3·K);
        nan where m > k.
    """
    B, K = targets(tokens).shape
    sums = {name: torch.zeros(K * K, dtype=torch.float64) for name in ("accuracy", "loss", "queries")}
    z, shots = targets(tokens).cpu(), torch.arange(K)
    for n_wrong in range(K + 1):  # K, too, or few prefixes would have wrong labels only
        rank = torch.from_numpy(rng.random((B, K)).argsort(1).argsort(1)).to(tokens.device)
        is_wrong = rank < n_wrong
        log_p = predict(with_wrong_labels(tokens, is_wrong, p, rng)).float().log_softmax(-1).cpu()
        n_wrong_before = is_wrong.cpu().long().cumsum(1) - is_wrong.cpu().long()
        cell = (shots * K + n_wrong_before).flatten()
        loss = -log_p.gather(-1, z[..., None])[..., 0]
        additions = {"accuracy": log_p.argmax(-1) == z, "loss": loss, "queries": torch.ones_like(loss)}
        for name, addition in additions.items():
            sums[name].index_add_(0, cell, addition.double().flatten())
    n_queries = sums.pop("queries")
    n_queries = n_queries.where(n_queries > 0, torch.nan)
    return {name: (total / n_queries).reshape(K, K).numpy() for name, total in sums.items()}


def accuracy_with_one_wrong(
    predict: Predictor, tokens: Tensor, p: int, rng: np.random.Generator
) -> np.ndarray:
    """Accuracy by number of shots when exactly one example has a wrong label (A5).

    Returns:
        (K - 1, K): with example j (row, from 0) wrong, after k shots (column), of tokens (B, 3·K); nan where k ≤ j.
    """
    K = tokens.shape[1] // 3
    accuracy = np.full((K - 1, K), np.nan)
    for j in range(K - 1):
        is_wrong = (torch.arange(K, device=tokens.device) == j).expand(len(tokens), K)
        corrupted = with_wrong_labels(tokens, is_wrong, p, rng)
        accuracy[j, j + 1 :] = accuracy_by_shot(predict, corrupted)[j + 1 :]
    return accuracy
