"""What attention heads look at: tokens so many places back, and examples that match the query's ratio (F6, A3)."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modgrok.analysis.activations import activations
from modgrok.analysis.stats import mean_interval
from modgrok.data import Data
from modgrok.model import Transformer
from modgrok.predictors import ratio_classes
from modgrok.storage.runs import Run

Head = tuple[int, int]
"""A head: its block, and its number in the block."""


def patterns(model: Transformer, tokens: Tensor) -> Tensor:
    """Attention of every head on tokens (B, 3·K), by block: (depth, B, H, T, T), T = 3·K - 1."""
    names = [f"blocks.{i}.attn.pattern" for i in range(model.config.depth)]
    return torch.stack(list(activations(model, tokens, names).values()))


def look_back(patterns: Tensor, reach: int = 6) -> np.ndarray:
    """Mean attention of patterns (…, B, H, T, T) to the token 0 … reach places back.

    Returns:
        (…, H, 3, reach + 1): head; attending token x, y or z; distance, 0 being the token itself. The mean is over
        sequences and over the positions that have `reach` tokens before them.
    """
    mean = patterns.mean(-4).cpu().numpy()  # (…, H, T, T)
    rows = [np.arange(reach + (token - reach) % 3, mean.shape[-1], 3) for token in range(3)]
    curves = [[mean[..., row, row - distance].mean(-1) for distance in range(reach + 1)] for row in rows]
    return np.moveaxis(curves, (0, 1), (-2, -1))


def matching_examples(tokens: Tensor, p: int) -> Tensor:
    """Mark the earlier examples (xᵢ, yᵢ) that ratio matching can use at each query (x, y) = c·(xᵢ, yᵢ), c ≠ 0.

    Of tokens (B, 3·K): (B, K, K) bool, indexed [sequence, query, example].
    """
    ratio = torch.from_numpy(ratio_classes(p))[(tokens[:, 0::3] * p + tokens[:, 1::3]).cpu()]  # (B, K)
    return ((ratio[:, :, None] == ratio[:, None, :]) & (ratio >= 0)[:, :, None]).tril(-1)


def matching_attention(patterns: Tensor, tokens: Tensor, p: int) -> np.ndarray:
    """Attention from a query's y to an earlier example that matches its ratio, and to one that does not.

    In both cases only examples count that share no number with the query and hold no 0. So a head that likes, or
    dislikes, a token does not count as one that matches ratios.

    Of patterns (…, B, H, T, T), T = 3·K - 1, on tokens (B, 3·K): (…, B, H, 2), attention to the three tokens of a
    matching example, and of another, averaged over examples and over the queries of a sequence that have both; nan for
    a sequence without such a query.
    """
    x, y = tokens[:, 0::3].cpu(), tokens[:, 1::3].cpu()
    shares_number = (x[:, :, None] == x[:, None]) | (y[:, :, None] == y[:, None])
    is_unlike, is_match = ~shares_number & (x * y > 0)[:, None], matching_examples(tokens, p)
    groups = [
        (is_group & is_unlike).tril(-1) for is_group in (is_match, ~is_match)
    ]  # (B, query, example) each
    has_both = groups[0].any(-1) & groups[1].any(-1)
    attention = F.pad(patterns[..., 1::3, :].cpu(), (0, 1)).unflatten(-1, (-1, 3)).sum(-1)
    means = [
        (attention * group[:, None]).sum(-1) / group.sum(-1).clamp(min=1)[:, None] for group in groups
    ]  # (…, B, H, query) each
    return torch.stack(means, -1).masked_fill(~has_both[:, None, :, None], torch.nan).nanmean(-2).numpy()


def preferences(contrasts: np.ndarray) -> np.ndarray:
    """Attention of every head to matching less that to other examples, with its interval: (3, depth, H).

    contrasts: (depth, B, H, 2), as by `matching_attention`. The mean is over sequences. In at least 95 of 100 models
    the intervals of all heads cover their means (Bonferroni).
    """
    depth, _, n_heads, _ = contrasts.shape
    differences = np.swapaxes(contrasts[..., 0] - contrasts[..., 1], 0, 1)
    return mean_interval(differences, level=1 - 0.05 / (depth * n_heads))


def matching_heads(contrasts: np.ndarray) -> list[Head]:
    """The heads that find examples by their ratio.

    Such a head pays at least 1.5 times as much attention to an example of the query's ratio as to another, and its
    interval in `preferences`, which takes the same argument, lies above 0.
    """
    match, mismatch = np.moveaxis(np.nanmean(contrasts, 1), -1, 0)
    is_matching = (preferences(contrasts)[1] > 0) & (match >= 1.5 * mismatch)  # (depth, H)
    return list(map(tuple, np.argwhere(is_matching).tolist()))


class RunAttention(NamedTuple):
    """Attention of the heads of a run on sequences of held-out tasks.

    Attributes:
        tokens: (B, 3·K) the sequences.
        patterns: (depth, B, H, T, T), T = 3·K - 1.
        matches: (B, K, K) as by `matching_examples`.
        habits: (depth, H, distances) mean attention to the token 0, 1, … places back.
        matching: (3, depth, H, 2) mean attention to a matching and to another example, low and high of its interval.
        preference: (depth, H) mean attention to a matching example less that to another.
        heads: those that find examples by their ratio (`matching_heads`).
    """

    tokens: Tensor
    patterns: Tensor
    matches: Tensor
    habits: np.ndarray
    matching: np.ndarray
    preference: np.ndarray
    heads: list[Head]

    @property
    def strongest(self) -> Head:
        """The head with the largest preference."""
        return divmod(int(self.preference.argmax()), self.preference.shape[1])

    @property
    def richest(self) -> int:
        """Index of the sequence with the most matching examples."""
        return int(self.matches.sum((1, 2)).argmax())


def run_attention(run: Run) -> RunAttention:
    """Attention of a run's last checkpoint on 256 sequences of held-out tasks, training inputs.

    A run that holds no task out has pre-training tasks instead.
    """
    sample, p = Data(run.config), run.config.p
    tokens = sample.evaluation_set("ood_train" if len(sample.tasks["ood"]) else "id_train", 256)
    blocks = patterns(run.model(), tokens)
    contrasts = matching_attention(blocks, tokens, p)
    return RunAttention(
        tokens,
        blocks,
        matching_examples(tokens, p),
        look_back(blocks).mean(-2),
        mean_interval(contrasts.swapaxes(0, 1)),
        preferences(contrasts)[0],
        matching_heads(contrasts),
    )
