"""Attention heads by target: near tokens, examples that match the query's ratio, every other example (F6, A3)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
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
    """Mean attention to the token 0 … reach places back.

    Args:
        patterns: (B, H, T, T).
        reach: the largest distance, in tokens.

    Returns:
        (H, 3, reach + 1): head; attending token x, y or z; distance, 0 being the token itself. The mean is over
        sequences and over the positions that have `reach` tokens before them.
    """
    mean = patterns.mean(0).cpu().numpy()  # (H, T, T)
    rows = [np.arange(reach + (token - reach) % 3, mean.shape[-1], 3) for token in range(3)]
    return np.stack(
        [
            np.stack([mean[:, row, row - distance].mean(-1) for distance in range(reach + 1)], -1)
            for row in rows
        ],
        1,
    )


def matching_examples(tokens: Tensor, p: int) -> Tensor:
    """Mark the earlier examples (xᵢ, yᵢ) that ratio matching can use at each query (x, y) = c·(xᵢ, yᵢ), c ≠ 0.

    Args:
        tokens: (B, 3·K).
        p: the modulus.

    Returns:
        (B, K, K) bool: sequence, query, example.
    """
    ratio = torch.from_numpy(ratio_classes(p))[(tokens[:, 0::3] * p + tokens[:, 1::3]).cpu()]  # (B, K)
    return ((ratio[:, :, None] == ratio[:, None, :]) & (ratio >= 0)[:, :, None]).tril(-1)


def matching_attention(patterns: Tensor, tokens: Tensor, p: int) -> np.ndarray:
    """Attention from a query's y to an earlier example that matches its ratio, and to one that does not.

    In both cases only examples count that share no number with the query and hold no 0. So a head that likes, or
    dislikes, a token does not count as one that matches ratios.

    Args:
        patterns: (B, H, T, T), T = 3·K - 1.
        tokens: (B, 3·K) the sequences.
        p: the modulus.

    Returns:
        (B, H, 2): attention to the three tokens of a matching example, and of another, averaged over examples and over
        the queries of a sequence that have both; nan for a sequence without such a query.
    """
    is_match, is_unlike = matching_examples(tokens, p), _is_unlike(tokens)
    is_first, is_second = (is_match & is_unlike).tril(-1), (~is_match & is_unlike).tril(-1)
    has_both = is_first.any(-1) & is_second.any(-1)  # (B, query)
    attention = F.pad(patterns[:, :, 1::3].cpu(), (0, 1)).unflatten(-1, (-1, 3)).sum(-1)
    means = [
        (attention * is_kind[:, None]).sum(-1) / is_kind.sum(-1).clamp(min=1)[:, None]
        for is_kind in (is_first, is_second)
    ]  # (B, H, query) each
    return torch.stack(means, -1).masked_fill(~has_both[:, None, :, None], torch.nan).nanmean(2).numpy()


class MatchingHead(NamedTuple):
    """A head that pays more attention to examples of the query's ratio than to other examples.

    Attributes:
        layer, head: number of its block, and its number in the block, from 0.
        match, mismatch: mean attention to an example of the query's ratio, and to one of another ratio.
    """

    layer: int
    head: int
    match: float
    mismatch: float

    @property
    def name(self) -> str:
        """Such as 1.0, head 0 of block 1."""
        return f"{self.layer}.{self.head}"


def matching_heads(contrasts: Sequence[np.ndarray]) -> list[MatchingHead]:
    """The heads of a model that match ratios, the one with the largest difference first.

    Args:
        contrasts: for each block (B, H, 2), as by `matching_attention`.

    Returns:
        the heads whose interval in `preferences` lies above 0.
    """
    heads = [
        MatchingHead(layer, head, *map(float, mean_interval(contrast)[0, head]))
        for layer, (contrast, (_, low, _)) in enumerate(zip(contrasts, preferences(contrasts), strict=True))
        for head in np.flatnonzero(low > 0).tolist()
    ]
    return sorted(heads, key=lambda head: head.mismatch - head.match)


def preferences(contrasts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Difference between the attention of every head to matching and to other examples, with its interval.

    Args:
        contrasts: for each block (B, H, 2), as by `matching_attention`.

    Returns:
        for each block (3, H): the mean over sequences, low and high of its interval. In at least 95 of 100 models all
        these intervals cover their means (Bonferroni).
    """
    n_heads = sum(contrast.shape[1] for contrast in contrasts)
    return [
        mean_interval(contrast[..., 0] - contrast[..., 1], level=1 - 0.05 / n_heads) for contrast in contrasts
    ]


class RunAttention(NamedTuple):
    """Attention of the heads of a run on sequences of held-out tasks.

    Attributes:
        tokens: (B, 3·K) the sequences.
        patterns: (depth, B, H, T, T), T = 3·K - 1.
        matches: (B, K, K) as by `matching_examples`.
        contrasts: for each block (B, H, 2), as by `matching_attention`.
    """

    tokens: Tensor
    patterns: Tensor
    matches: Tensor
    contrasts: list[np.ndarray]

    @property
    def heads(self) -> list[MatchingHead]:
        """The heads that match ratios, see `matching_heads`."""
        return matching_heads(self.contrasts)

    @property
    def preference(self) -> float:
        """The largest difference, over heads, between mean attention to a matching example and to another."""
        return max(float(means[0].max()) for means in preferences(self.contrasts))

    @property
    def richest(self) -> int:
        """Index of the sequence with the most matching examples."""
        return int(self.matches.sum((1, 2)).argmax())

    @property
    def habits(self) -> np.ndarray:
        """Mean attention to the token 0, 1, … places back, (depth, H, distances)."""
        return np.stack([look_back(block).mean(1) for block in self.patterns])

    @property
    def matching(self) -> np.ndarray:
        """Mean attention to a matching and to another example, low and high of its interval: (3, depth, H, 2)."""
        return np.stack([mean_interval(contrast) for contrast in self.contrasts], 1)


def run_attention(run: Run, n_sequences: int = 256) -> RunAttention:
    """Attention of a run's last checkpoint on held-out tasks; a run without them uses pre-training tasks."""
    sample = Data(run.config)
    tokens = sample.evaluation_set("ood_train" if len(sample.tasks["ood"]) else "id_train", n_sequences)
    blocks = patterns(run.model(), tokens)
    contrasts = [matching_attention(block, tokens, run.config.p) for block in blocks]
    return RunAttention(tokens, blocks, matching_examples(tokens, run.config.p), contrasts)


def _is_unlike(tokens: Tensor) -> Tensor:
    """Where an example shares neither number with the query and holds no 0: (B, K, K)."""
    x, y = tokens[:, 0::3].cpu(), tokens[:, 1::3].cpu()
    shares_number = (x[:, :, None] == x[:, None]) | (y[:, :, None] == y[:, None])
    return ~shares_number & (x * y > 0)[:, None]


HEAD_KINDS = {
    "near": "from $y$, half of the attention or more goes to the token itself and the two before it",
    "same ratio": "of the examples that share no number with the query and hold no 0, one of its ratio gets more than "
    "another, 1.5 times as much or more",
    "every other": "attention to earlier $z$ but the last alternates with the distance in examples, by 0.1 or more",
    "even": "none of these",
}
"""Kind of head → its rule. The first that holds counts."""


def head_kinds(model: Transformer, tokens: Tensor) -> tuple[list[list[str]], np.ndarray]:
    """The kind of every head, by the rules of HEAD_KINDS, and its average attention (A3).

    Args:
        model: the transformer.
        tokens: (B, 3·K) independent sequences, more than 8 examples long if possible.

    Returns:
        for each block the kinds of its heads, and mean patterns (depth, H, T, T).
    """
    reach, blocks = min(8, tokens.shape[1] // 3 - 2), patterns(model, tokens)
    contrasts = [matching_attention(block, tokens, model.config.p) for block in blocks]
    match, mismatch = np.stack([mean_interval(contrast)[0] for contrast in contrasts]).transpose(2, 0, 1)
    is_kind = {
        "near": np.stack([look_back(block, reach=3)[:, 1, :3].sum(-1) for block in blocks]) >= 0.5,
        "same ratio": (np.stack(preferences(contrasts))[:, 1] > 0) & (match >= 1.5 * mismatch),
        "every other": abs(alternates(np.stack([attention_by_distance(block, reach) for block in blocks])))
        >= 0.1,
    }  # (depth, H) each
    kinds = [
        [next((kind for kind in is_kind if is_kind[kind][layer, head]), "even") for head in range(n_heads)]
        for layer, n_heads in enumerate([model.config.n_head] * model.config.depth)
    ]
    return kinds, blocks.mean(1).cpu().numpy()


def described_heads(run: Run, n_sequences: int = 128) -> list[tuple[np.ndarray, str, str]]:
    """Mean pattern (T, T), name such as "2 blocks, 1.0", and kind of every head of a run's last checkpoint."""
    sample = Data(run.config)
    tokens = sample.evaluation_set("ood_train" if len(sample.tasks["ood"]) else "id_train", n_sequences)
    kinds, maps = head_kinds(run.model(), tokens)
    return [
        (pattern, f"{run.config.depth} blocks, {layer}.{head}", kinds[layer][head])
        for layer, block in enumerate(maps)
        for head, pattern in enumerate(block)
    ]


def attention_by_distance(patterns: Tensor, reach: int = 8) -> np.ndarray:
    """Mean attention from y to the z of the example 1 … reach back, over queries with `reach` examples before them.

    Args:
        patterns: (B, H, T, T).
        reach: the largest distance, in examples.

    Returns:
        (H, reach)
    """
    mean = patterns[:, :, 1::3].mean(0).cpu().numpy()  # (H, K, T)
    queries = np.arange(reach, mean.shape[1])
    distances = range(1, reach + 1)
    return np.stack([mean[:, queries, 3 * (queries - distance) + 2].mean(1) for distance in distances], 1)


@torch.no_grad()
def rotary_logits(model: Transformer, tokens: Tensor, layer: int, reach: int = 8) -> np.ndarray:
    """Contribution of each rotary pair to the attention logit of y on the z of the example 1 … reach back (A5).

    Args:
        model: the transformer.
        tokens: (B, 3·K), K > reach.
        layer: the block.
        reach: the largest distance, in examples.

    Returns:
        (H, pairs, reach): means over sequences and over queries with `reach` examples before them. The sum over pairs
        is the logit.
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


class Alternation(NamedTuple):
    """The head of a model whose attention from y to earlier z alternates most with the distance in examples (A5).

    The last example does not count: a head that reads only that example does not alternate.

    Attributes:
        layer, head: number of its block, and its number in the block.
        attention: (H, reach) of its block's heads, as by `attention_by_distance`.
        logits: (H, pairs, reach) attention logits by rotary pair, as by `rotary_logits`.
    """

    layer: int
    head: int
    attention: np.ndarray
    logits: np.ndarray

    @property
    def panel(self) -> tuple[np.ndarray, np.ndarray]:
        """Attention of the head alone, (reach,), and its attention logits by rotary pair, (pairs, reach)."""
        return self.attention[self.head], self.logits[self.head]

    @property
    def strength(self) -> float:
        """Attention of the head to odd distances less that to even ones, as by `alternates`."""
        return float(alternates(self.attention[self.head]))


def most_alternating(model: Transformer, tokens: Tensor, reach: int = 8) -> Alternation:
    """The head of the model that alternates most on tokens (B, 3·K), K > reach."""
    blocks = [attention_by_distance(block, reach) for block in patterns(model, tokens)]
    swing = abs(alternates(np.stack(blocks)))  # (depth, H)
    layer, head = (int(i) for i in np.unravel_index(swing.argmax(), swing.shape))
    return Alternation(layer, head, blocks[layer], rotary_logits(model, tokens, layer, reach))


def alternation_panels(
    runs: Sequence[Run], n_sequences: int, reach: int = 8
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Label → `Alternation.panel` of the head that alternates most in each run, on o.o.d. training sequences (A5)."""
    panels = {}
    for run in runs:
        tokens = Data(run.config).evaluation_set("ood_train", n_sequences)
        alternation = most_alternating(run.model(), tokens, reach)
        panels[f"seed {run.config.seed}: head {alternation.layer}.{alternation.head}"] = alternation.panel
    return panels


def alternates(curve: np.ndarray) -> np.ndarray:
    """Odd distances less even ones, (…), of a curve by distance (…, reach), as `alternating` without distance 1."""
    return -alternating(curve[..., 1:])


def alternating(curve: ArrayLike) -> np.ndarray:
    """Mean of a curve (…, reach) over odd distances less its mean over even ones, (…).

    The distances are 1 … reach. The straight trend of the curve is removed first.
    """
    curve = np.asarray(curve, dtype=float)
    distance = np.arange(curve.shape[-1])
    trend = np.vander(distance, 2).astype(float)
    sign = np.where(distance % 2 == 0, 1.0, -1.0)
    sign -= trend @ np.linalg.lstsq(trend, sign, rcond=None)[0]
    return 2 * (curve @ sign) / (sign @ sign)
