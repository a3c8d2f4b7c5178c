"""Wrong labels: answers of a model after examples of which some have a wrong z (A5)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from modgrok.config import SETS
from modgrok.data import Data, generator
from modgrok.evaluate import Predictor, accuracy_by_shot, targets
from modgrok.storage.runs import Run


def with_wrong_labels(tokens: Tensor, is_wrong: Tensor, p: int, rng: np.random.Generator) -> Tensor:
    """Tokens (B, 3·K) in which each z with `is_wrong` (B, K) is replaced by a random one of the p - 1 other numbers."""
    shift = torch.from_numpy(rng.integers(1, p, size=tuple(is_wrong.shape))).to(tokens.device)
    corrupted = tokens.clone()
    corrupted[:, 2::3] = torch.where(is_wrong, (targets(tokens) + shift) % p, targets(tokens))
    return corrupted


@torch.no_grad()
def scores_with_wrong_labels(
    predict: Predictor, tokens: Tensor, p: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Accuracy and loss by number of shots and number of wrong labels among them (A5).

    Each sequence is scored once for every number of wrong labels, at random places. The wrong labels of each prefix are
    then at random places too, so one pass serves all numbers of shots. The result is "accuracy" and "loss" (nats) →
    (K, K): after k shots (row) of which m (column) are wrong, of tokens (B, 3·K); nan where m > k.
    """
    (B, K), z = targets(tokens).shape, targets(tokens).cpu()
    sums = torch.zeros(3, K * K, dtype=torch.float64)  # queries, right answers, loss
    for n_wrong in range(K + 1):  # K, too, or few prefixes would have wrong labels only
        rank = torch.from_numpy(rng.random((B, K)).argsort(1).argsort(1)).to(tokens.device)
        is_wrong = rank < n_wrong
        log_p = predict(with_wrong_labels(tokens, is_wrong, p, rng)).float().log_softmax(-1).cpu()
        n_wrong_before = is_wrong.cpu().long().cumsum(1) - is_wrong.cpu().long()
        cell = (torch.arange(K) * K + n_wrong_before).flatten()
        loss = -log_p.gather(-1, z[..., None])[..., 0].double()
        sums.index_add_(1, cell, torch.stack([torch.ones_like(loss), log_p.argmax(-1) == z, loss]).flatten(1))
    n_queries = sums[0].where(sums[0] > 0, torch.nan)
    accuracy, loss = (sums[1:] / n_queries).reshape(2, K, K).numpy()
    return {"accuracy": accuracy, "loss": loss}


def accuracy_with_one_wrong(
    predict: Predictor, tokens: Tensor, p: int, rng: np.random.Generator
) -> np.ndarray:
    """Accuracy on tokens (B, 3·K) by number of shots when exactly one example has a wrong label (A5).

    The result is (K - 1, K): row j for a wrong label in example j, from 0; column k for k shots; nan where k ≤ j.
    """
    K = tokens.shape[1] // 3
    accuracy = np.full((K - 1, K), np.nan)
    for j in range(K - 1):
        is_wrong = (torch.arange(K, device=tokens.device) == j).expand(len(tokens), K)
        corrupted = with_wrong_labels(tokens, is_wrong, p, rng)
        accuracy[j, j + 1 :] = accuracy_by_shot(predict, corrupted)[j + 1 :]
    return accuracy


def mean_scores_with_wrong_labels(runs: Sequence[Run], n_sequences: int) -> dict[str, dict[str, np.ndarray]]:
    """`scores_with_wrong_labels` on n sequences of each set, means over runs: "accuracy" or "loss" → set → (K, K)."""
    scores = {name: [] for name in SETS}
    for run in runs:
        model, sample = run.model(), Data(run.config)
        for name in SETS:
            tokens, rng = sample.evaluation_set(name, n_sequences), generator(run.config.seed, "wrong labels")
            scores[name].append(scores_with_wrong_labels(model, tokens, run.config.p, rng))
    return {
        measure: {name: np.mean([score[measure] for score in scores[name]], 0) for name in SETS}
        for measure in ("accuracy", "loss")
    }


def change_by_one_wrong(run: Run, n_sequences: int) -> dict[str, np.ndarray]:
    """Accuracy with one wrong label less that without, on each set: name → (K - 1, K) as `accuracy_with_one_wrong`."""
    model, sample, changes = run.model(), Data(run.config), {}
    for name in SETS:
        tokens, rng = sample.evaluation_set(name, n_sequences), generator(run.config.seed, "one wrong label")
        wrong = accuracy_with_one_wrong(model, tokens, run.config.p, rng)
        changes[name] = wrong - accuracy_by_shot(model, tokens).numpy()
    return changes


def change_by_distance(change: np.ndarray, reach: int = 8) -> np.ndarray:
    """Mean change in accuracy if the wrong label is 1 … reach examples back, (reach,), over (K - 1) // 2 shots or more.

    change: (K - 1, K), as by `change_by_one_wrong`. The largest distance is K - 2 if that is less than `reach`.
    """
    last = len(change)
    curves = (
        np.diagonal(change, back)[max(0, last // 2 - back) :] for back in range(1, min(reach + 1, last))
    )
    return np.array([curve.mean() for curve in curves])
