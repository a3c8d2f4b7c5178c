"""Attention heads by target: near tokens, examples that match the query's ratio, every other example (F6, A3)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modgrok.analysis.activations import activations
from modgrok.analysis.stats import mean_interval
from modgrok.config import Config
from modgrok.data import Data
from modgrok.model import Transformer, rotate
from modgrok.predictors import ratio_classes
from modgrok.storage.runs import Run


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


def attention_by_distance(patterns: Tensor, reach: int) -> np.ndarray:
    """Mean attention of patterns (…, B, H, T, T) from y to the z of the example 1 … reach back: (…, H, reach).

    The mean is over sequences and over queries with `reach` examples before them.
    """
    return look_back(patterns, 3 * reach - 1)[..., 1, 2::3]


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


def match_ratios(contrasts: np.ndarray) -> np.ndarray:
    """Which heads find examples by their ratio: (depth, H) bool.

    Such a head pays at least 1.5 times as much attention to an example of the query's ratio as to another, and its
    interval in `preferences`, which takes the same argument, lies above 0.
    """
    match, mismatch = np.moveaxis(np.nanmean(contrasts, 1), -1, 0)
    return (preferences(contrasts)[1] > 0) & (match >= 1.5 * mismatch)


class RunAttention(NamedTuple):
    """Attention of the heads of a run on sequences of held-out tasks.

    Attributes:
        tokens: (B, 3·K) the sequences.
        patterns: (depth, B, H, T, T), T = 3·K - 1.
        matches: (B, K, K) as by `matching_examples`.
        habits: (depth, H, distances) mean attention to the token 0, 1, … places back.
        matching: (3, depth, H, 2) mean attention to a matching and to another example, low and high of its interval.
        preferences: (3, depth, H) as by `preferences`.
    """

    tokens: Tensor
    patterns: Tensor
    matches: Tensor
    habits: np.ndarray
    matching: np.ndarray
    preferences: np.ndarray

    @property
    def heads(self) -> list[tuple[int, int]]:
        """The heads (block, number) with an interval of `preferences` above 0, the largest mean first."""
        mean, low, _ = self.preferences
        return sorted(map(tuple, np.argwhere(low > 0).tolist()), key=lambda head: -mean[head])

    @property
    def strongest(self) -> tuple[int, int]:
        """The first of `heads`; if there is none, the head (block, number) with the largest mean preference."""
        mean = self.preferences[0]
        return (self.heads or [divmod(int(mean.argmax()), mean.shape[1])])[0]

    @property
    def richest(self) -> int:
        """Index of the sequence with the most matching examples."""
        return int(self.matches.sum((1, 2)).argmax())


def run_attention(run: Run) -> RunAttention:
    """Attention of a run's last checkpoint on 256 sequences, see `_sequences`."""
    tokens = _sequences(run, 256)
    blocks = patterns(run.model(), tokens)
    contrasts = matching_attention(blocks, tokens, run.config.p)
    return RunAttention(
        tokens,
        blocks,
        matching_examples(tokens, run.config.p),
        look_back(blocks).mean(-2),
        mean_interval(contrasts.swapaxes(0, 1)),
        preferences(contrasts),
    )


def _sequences(run: Run, n: int) -> Tensor:
    """Tokens (n, 3·K) of held-out tasks, or of pre-training tasks if the run holds none out; training inputs."""
    sample = Data(run.config)
    return sample.evaluation_set("ood_train" if len(sample.tasks["ood"]) else "id_train", n)


HEAD_KINDS = {
    "near": "from $y$, half of the attention or more goes to the token itself and the two before it",
    "same ratio": "of the examples that share no number with the query and hold no 0, one of its ratio gets more than "
    "another, 1.5 times as much or more",
    "every other": "attention to earlier $z$ but the last alternates with the distance in examples, by 0.1 or more",
    "even": "none of these",
}
"""Kind of head → its rule. The first that holds counts."""


def described_heads(run: Run) -> list[tuple[np.ndarray, str, str]]:
    """Mean pattern (T, T), name such as "depth 2, 1.0", and kind of every head of a run's last checkpoint (A3).

    The kind is a key of HEAD_KINDS. Means are over 128 sequences, see `_sequences`.
    """
    depth, tokens = run.config.depth, _sequences(run, 128)
    blocks = patterns(run.model(), tokens)
    rules = (
        look_back(blocks, reach=3)[..., 1, :3].sum(-1) >= 0.5,
        match_ratios(matching_attention(blocks, tokens, run.config.p)),
        abs(alternation(attention_by_distance(blocks, min(8, run.config.n_examples - 2)))) >= 0.1,
    )  # (depth, H) each
    *kinds, plain = HEAD_KINDS
    mean = blocks.mean(1).cpu().numpy()
    return [
        (mean[i, h], f"depth {depth}, {i}.{h}", str(kind))
        for (i, h), kind in np.ndenumerate(np.select(rules, kinds, plain))
    ]


@torch.no_grad()
def rotary_logits(model: Transformer, tokens: Tensor, layer: int, reach: int) -> np.ndarray:
    """Contribution of each rotary pair to the attention logit of y on the z of the example 1 … reach back (A5).

    Of block `layer`, on tokens (B, 3·K), K > reach: (H, pairs, reach), means over sequences and over queries with
    `reach` examples before them. The sum over pairs is the logit.
    """
    stream = "embed" if layer == 0 else f"blocks.{layer - 1}.resid_post"
    x, block = activations(model, tokens, [stream])[stream], model.blocks[layer]
    q, k, _ = (block.attn.heads(part) for part in block.attn.qkv(block.ln_1(x)).chunk(3, dim=-1))
    rope = model.rope[:, : x.shape[1]]
    q, k = rotate(q, rope)[:, :, 1::3], rotate(k, rope)[:, :, 2::3]  # (B, H, K, D), and a z less
    n_examples, logits = q.shape[2], []
    for distance in range(1, reach + 1):
        keys = k[:, :, reach - distance : n_examples - distance]
        product = (q[:, :, reach:] * keys).mean((0, 2))  # (H, D)
        logits.append(product.unflatten(-1, (-1, 2)).sum(-1) / q.shape[-1] ** 0.5)
    return torch.stack(logits, -1).cpu().numpy()


def rotary_periods(config: Config) -> np.ndarray:
    """Number of examples in which each rotary pair of a head turns once, (pairs,)."""
    width = config.n_embd // config.n_head
    return 2 * np.pi / 3 * config.rope_base ** (np.arange(0, width, 2) / width)


def alternation(curve: np.ndarray) -> np.ndarray:
    """Mean of a curve (…, reach) over odd distances less its mean over even ones, (…); the distances are 2 … reach.

    The straight trend of the curve is removed first. Distance 1 is left out, since a head that reads only the last
    example does not alternate.
    """
    distance = np.arange(2, curve.shape[-1] + 1)
    trend, sign = np.vander(distance, 2).astype(float), np.where(distance % 2, 1.0, -1.0)
    sign -= trend @ np.linalg.lstsq(trend, sign, rcond=None)[0]
    return 2 * (curve[..., 1:] @ sign) / (sign @ sign)


def alternation_panels(
    runs: Sequence[Run], n_sequences: int, reach: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The head of each run whose attention from y to earlier z alternates most with the distance in examples (A5).

    Of last checkpoints, on n sequences of o.o.d. tasks with training inputs: label with seed and head → attention by
    distance 1 … reach, (reach,), and logits by rotary pair (pairs, reach).
    """
    panels = {}
    for run in runs:
        model, tokens = run.model(), Data(run.config).evaluation_set("ood_train", n_sequences)
        curves = attention_by_distance(patterns(model, tokens), reach)  # (depth, H, reach)
        swing = abs(alternation(curves))
        layer, head = map(int, np.unravel_index(swing.argmax(), swing.shape))
        logits = rotary_logits(model, tokens, layer, reach)
        panels[f"seed {run.config.seed}: head {layer}.{head}"] = curves[layer, head], logits[head]
    return panels
