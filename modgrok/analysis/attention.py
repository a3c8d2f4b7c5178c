"""What attention heads look at, by what rule: tokens so far back, examples that match, every other one."""

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
from modgrok.evaluate import PLACES, places
from modgrok.model import Transformer, rotate
from modgrok.predictors import ratio_classes


def patterns(model: Transformer, tokens: Tensor) -> Tensor:
    """Attention of every head on tokens (B, 3·K), by block: (depth, B, H, T, T), T = 3·K - 1."""
    names = [f"blocks.{i}.attn.pattern" for i in range(model.config.depth)]
    return torch.stack(list(activations(model, tokens, names).values()))


def look_back(patterns: Tensor, reach: int = 6) -> np.ndarray:
    """Mean attention paid to the token so many places back.

    Args:
        patterns: (B, H, T, T) attention patterns.
        reach: the largest distance.

    Returns:
        (H, 3, reach + 1): head; attending token x, y or z; distance 0 (itself) … reach. Only positions from `reach`
        on count, which have tokens at all these distances.
    """
    size = patterns.shape[-1]
    rows = [range(first, size, 3) for first in (reach + (kind - reach) % 3 for kind in range(3))]
    mean = patterns.mean(0).cpu().numpy()  # (H, T, T)
    return np.stack(
        [[mean[:, r, np.array(r) - d].mean(-1) for d in range(reach + 1)] for r in rows]
    ).transpose(2, 0, 1)


def matching_examples(tokens: Tensor, p: int) -> Tensor:
    """Which earlier examples ratio matching can use at each query: (x, y) = c·(xᵢ, yᵢ) with c ≠ 0.

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

    Both share no number with the query and hold no 0, so that a head that likes or dislikes a token is no match.

    Args:
        patterns: (B, H, T, T), T = 3·K - 1.
        tokens: (B, 3·K) the sequences.
        p: the modulus.

    Returns:
        (B, H, 2): attention to the three tokens of a matching and of another example, averaged over examples and
        over the queries of a sequence that have both; nan where none has.
    """
    return _paid(patterns, *_by_ratio(tokens, p, _unlike(tokens)))


def preferences(paid: Sequence[np.ndarray]) -> list[np.ndarray]:
    """How much more every head pays the first kind of example than the other, counting all heads of the model.

    Args:
        paid: for each block (B, H, 2), as by `matching_attention`.

    Returns:
        for each block (3, H): the mean over sequences, low and high of its interval, which is so wide that of all
        heads none misses its mean in 95 models of 100 at least.
    """
    heads = sum(of.shape[1] for of in paid)
    return [mean_interval(of[..., 0] - of[..., 1], level=1 - 0.05 / heads) for of in paid]


def _by_ratio(tokens: Tensor, p: int, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Of the examples that count, those of the query's ratio and the others: (B, K, K) each."""
    ratio = matching_examples(tokens, p)
    return ratio & counts, ~ratio & counts


def _unlike(tokens: Tensor) -> Tensor:
    """Where an example shares neither number with the query and holds no 0: (B, K, K)."""
    without_zero = (tokens[:, 0::3] * tokens[:, 1::3] > 0).cpu()[:, None, :]
    return ~_same(tokens, 0) & ~_same(tokens, 1) & without_zero


def _same(tokens: Tensor, which: int) -> Tensor:
    """Where query and example have the same x (0) or y (1): (B, K, K)."""
    number = tokens[:, which::3].cpu()
    return number[:, :, None] == number[:, None, :]


def _paid(patterns: Tensor, match: Tensor, other: Tensor) -> np.ndarray:
    """Attention from y to one earlier example of two kinds (B, K, K), (B, H, 2); see `matching_attention`."""
    K, match, other = match.shape[-1], match.tril(-1), other.tril(-1)
    both = match.any(-1) & other.any(-1)  # (B, query)
    paid = F.pad(patterns[:, :, 1::3].cpu(), (0, 1)).unflatten(-1, (K, 3)).sum(-1)  # (B, H, query, example)
    each = [(paid * of[:, None]).sum(-1) / of.sum(-1).clamp(min=1)[:, None] for of in (match, other)]
    return torch.stack(each, -1).masked_fill(~both[:, None, :, None], torch.nan).nanmean(2).numpy()


HEAD_KINDS = {
    "near": "from $y$, half of the attention or more goes to the token itself and the two before it",
    "same ratio": "of the examples that share no number with the query and hold no 0, one of its ratio gets more than "
    "another, 1.5 times as much or more",
    "same x": "an example with the query's $x$ and another $y$ gets so much more than one of other numbers",
    "same y": "an example with the query's $y$ and another $x$ does",
    "every other": "attention to earlier $z$ but the last alternates with the distance in examples, by 0.1 or more",
    "even": "none of these",
}
"""What a head does, and the rule that says so; the first that holds counts. Repeats of the query are left out."""


def head_kinds(model: Transformer, tokens: Tensor) -> tuple[list[list[str]], np.ndarray]:
    """What every head does, by the rules of HEAD_KINDS, and its average attention (A3).

    Args:
        model: the transformer.
        tokens: (B, 3·K) sequences with pairs of their own, more than 8 examples long if possible.

    Returns:
        for each block its heads' kinds, and mean patterns (depth, H, T, T).
    """
    found, K = [], tokens.shape[1] // 3
    ratio, x, y = matching_examples(tokens, model.config.p), _same(tokens, 0), _same(tokens, 1)
    rules = {
        "same ratio": _by_ratio(tokens, model.config.p, _unlike(tokens)),
        "same x": (x & ~y & ~ratio, ~x & ~y & ~ratio),
        "same y": (y & ~x & ~ratio, ~x & ~y & ~ratio),
    }
    every = patterns(model, tokens)
    chosen = {rule: _choose([_paid(pattern, *of) for pattern in every]) for rule, of in rules.items()}
    for i, pattern in enumerate(every):
        near = look_back(pattern, reach=3)[:, 1, :3].sum(-1) >= 0.5
        every_other = abs(alternates(_reached(pattern, min(8, K - 2)))) >= 0.1
        holds = {"near": near} | {rule: of[i] for rule, of in chosen.items()} | {"every other": every_other}
        heads = range(model.config.n_head)
        found.append([next((kind for kind, of in holds.items() if of[h]), "even") for h in heads])
    return found, every.mean(1).cpu().numpy()


def _choose(paid: Sequence[np.ndarray]) -> np.ndarray:
    """Whether heads pay the first kind 1.5 times the second or more, beyond the error of `preferences`: (depth, H)."""
    first, second = np.stack([mean_interval(of)[0] for of in paid]).transpose(2, 0, 1)
    return (np.stack(preferences(paid))[:, 1] > 0) & (first >= 1.5 * second)


def choice_by_place(model: Transformer, tokens: Tensor) -> np.ndarray:
    """How much more every head pays a matching example than another, by where the query lies: (heads, places).

    Means over sequences (B, 3·K), block by block; places as in `evaluate.PLACES`. Examples are those of
    `matching_attention` where neither number is 0. Where one is, every match shares the 0, so that all but repeats of
    the query count, and a head that likes the same token does, too.
    """
    of_heads, where = torch.cat(list(patterns(model, tokens)), 1), places(tokens).cpu()
    no_repeat = ~(_same(tokens, 0) & _same(tokens, 1))
    counts = torch.where((where == 0)[..., None], _unlike(tokens), no_repeat)
    same, other = _by_ratio(tokens, model.config.p, counts)
    paid = [
        _paid(of_heads, *(of & (where == i)[..., None] for of in (same, other))) for i in range(len(PLACES))
    ]
    return np.stack([mean_interval(of[..., 0] - of[..., 1])[0] for of in paid], 1)


def reach_back(model: Transformer, tokens: Tensor, layer: int, reach: int = 8) -> np.ndarray:
    """Attention of a block's heads from y to the z of the example so many back, over later queries: (H, reach)."""
    name = f"blocks.{layer}.attn.pattern"
    return _reached(activations(model, tokens, [name])[name], reach)


def _reached(patterns: Tensor, reach: int) -> np.ndarray:
    pattern = patterns[:, :, 1::3].mean(0).cpu().numpy()  # (H, K, T)
    K = pattern.shape[1]
    return np.stack(
        [np.mean([pattern[:, k, 3 * (k - d) + 2] for k in range(reach, K)], 0) for d in range(1, reach + 1)],
        1,
    )


@torch.no_grad()
def rotary_logits(model: Transformer, tokens: Tensor, layer: int, reach: int = 8) -> np.ndarray:
    """What each rotary pair adds to the attention logit of y on the z of the example so many back (A5).

    Args:
        model: the transformer.
        tokens: (B, 3·K), K > reach.
        layer: the block.
        reach: the largest distance, in examples.

    Returns:
        (H, pairs, reach): means over sequences and over queries that have so many examples before them. The sum over
        pairs is the logit.
    """
    before = "embed" if layer == 0 else f"blocks.{layer - 1}.resid_post"
    x, block = activations(model, tokens, [before])[before], model.blocks[layer]
    q, k, _ = (block.attn.heads(part) for part in block.attn.qkv(block.ln_1(x)).chunk(3, dim=-1))
    rope = model.rope[:, : x.shape[1]]
    q, k = rotate(q, rope)[:, :, 1::3], rotate(k, rope)[:, :, 2::3]  # (B, H, K, D), and a z less
    K, found = q.shape[2], []
    for d in range(1, reach + 1):
        product = (q[:, :, reach:] * k[:, :, reach - d : K - d]).mean((0, 2))  # (H, D)
        found.append(product.unflatten(-1, (-1, 2)).sum(-1) / q.shape[-1] ** 0.5)
    return torch.stack(found, -1).cpu().numpy()


def rotary_periods(config: Config) -> np.ndarray:
    """Number of examples in which each rotary pair of a head turns once, (pairs,)."""
    width = config.n_embd // config.n_head
    return 2 * np.pi / 3 * config.rope_base ** (np.arange(0, width, 2) / width)


class Alternation(NamedTuple):
    """The head of a model whose attention from y to earlier z alternates most with the distance in examples (A5).

    The last example does not count: a head that reads that alone does not alternate.

    Attributes:
        layer, head: which it is.
        paid: (H, reach) attention of its block's heads, as `reach_back`.
        logits: (H, pairs, reach) what makes it, as `rotary_logits`.
    """

    layer: int
    head: int
    paid: np.ndarray
    logits: np.ndarray

    @property
    def panel(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the head alone: attention (reach,), and what each rotary pair adds to its logits (pairs, reach)."""
        return self.paid[self.head], self.logits[self.head]

    @property
    def reads(self) -> float:
        """How much the head's attention alternates: odd distances less even ones."""
        return float(alternates(self.paid[self.head]))

    @property
    def fastest(self) -> float:
        """Share of the fastest rotary pair in what its logit alternates by; beyond 0 … 1 where pairs disagree."""
        swing = alternating(self.logits[self.head])
        return float(swing[0] / swing.sum())

    @property
    def opposite(self) -> float:
        """How much another head of the block alternates the other way, at most; 0 if none does."""
        others = np.delete(alternates(self.paid), self.head)
        return float((others * -np.sign(self.reads)).max(initial=0))


def most_alternating(model: Transformer, tokens: Tensor, reach: int = 8) -> Alternation:
    """The head that reads every other example most; arguments as for `reach_back`."""
    every = [reach_back(model, tokens, layer, reach) for layer in range(model.config.depth)]
    swing = abs(alternates(np.stack(every)))  # (depth, H)
    layer, head = (int(i) for i in np.unravel_index(swing.argmax(), swing.shape))
    return Alternation(layer, head, every[layer], rotary_logits(model, tokens, layer, reach))


def alternates(curve: np.ndarray) -> np.ndarray:
    """`alternating` of a curve (…, reach) without the last example, odd distances less even ones as there: (…).

    What stands out at the last example alone does not alternate.
    """
    return -alternating(curve[..., 1:])


def alternating(curve: ArrayLike) -> np.ndarray:
    """How much of a curve by distance (…, reach), from 1 on, goes to odd distances rather than even ones: (…).

    The mean over odd distances less that over even ones, of the curve less its straight trend.
    """
    curve = np.asarray(curve, dtype=float)
    back = np.arange(curve.shape[-1])
    line = np.vander(back, 2).astype(float)
    sign = np.where(back % 2 == 0, 1.0, -1.0)
    sign -= line @ np.linalg.lstsq(line, sign, rcond=None)[0]
    return 2 * (curve @ sign) / (sign @ sign)
