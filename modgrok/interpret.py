"""Inside a trained model: activations, heads, ablation, and how structured the representations are.

Activations are taken by forward hooks on the plain path, `model.logits_everywhere`, and named as in TransformerLens:
`embed`, and for each block i `blocks.i.attn.pattern` (B, H, T, T), `blocks.i.attn.mix` (B, T, H, D),
`blocks.i.attn.out`, `blocks.i.mlp.out` and `blocks.i.resid_post` (B, T, C).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from modgrok.algorithms import modular_inverse
from modgrok.data import Data, generator, grid, sequences
from modgrok.evaluate import Predictor, mean_interval
from modgrok.model import Transformer

# --- activations ------------------------------------------------------------------------------------------


def hook_points(model: Transformer) -> dict[str, nn.Module]:
    """Name → the module whose output has that name."""
    points: dict[str, nn.Module] = {"embed": model.embed}
    for i, block in enumerate(model.blocks):
        points |= {f"blocks.{i}.attn.{name}": getattr(block.attn, name) for name in ("pattern", "mix", "out")}
        points |= {f"blocks.{i}.mlp.out": block.mlp, f"blocks.{i}.resid_post": block}
    return points


@contextmanager
def hooked(model: Transformer, edits: dict[str, Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
    """While open, each named activation passes through its function; a returned tensor replaces it.

    Raises:
        ValueError: a name that the model does not have.
    """
    points, handles = hook_points(model), []
    for name in edits:
        if name not in points:
            raise ValueError(f"{name!r} is no activation of this model; choose one of {', '.join(points)}.")
    try:
        for name, edit in edits.items():
            hook = points[name].register_forward_hook(lambda module, args, output, edit=edit: edit(output))
            handles.append(hook)
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def activations(
    model: Transformer, tokens: Tensor, names: list[str], positions: slice | list[int] = slice(None)
) -> dict[str, Tensor]:
    """Named activations of tokens (B, 3·K) or (B, 3·K - 1), by the plain path.

    Args:
        model: the transformer.
        tokens: as for the model; of 3·K tokens the last z is not read.
        names: see the module's docstring.
        positions: the positions T to keep; of a pattern, the attending ones.

    Raises:
        ValueError: a name that the model does not have.
    """
    kept: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str) -> Callable[[Tensor], None]:
        axis = 2 if name.endswith("pattern") else 1
        where = (slice(None),) * axis + (positions,)
        return lambda output: kept[name].append(output[where].clone())

    with hooked(model, {name: keep(name) for name in names}):
        for part in tokens.split(256):  # bounds memory: a paper-scale pattern is 144 kB a sequence and block
            model.logits_everywhere(part)
    return {name: torch.cat(parts) for name, parts in kept.items()}


def head_output(
    model: Transformer, tokens: Tensor, layer: int, head: int, positions: slice | list[int] = slice(None)
) -> Tensor:
    """What one head adds to the residual stream, (B, T, C): its mix through its share of the output matrix."""
    name = f"blocks.{layer}.attn.mix"
    return through_output(model, activations(model, tokens, [name], positions)[name], layer)[..., head, :]


@torch.no_grad()
def through_output(model: Transformer, mix: Tensor, layer: int) -> Tensor:
    """The heads' mixes (…, H, D) as what each adds to the residual stream, (…, H, C)."""
    weight = model.blocks[layer].attn.out.weight  # (C, H·D)
    return torch.einsum("...hd,chd->...hc", mix, weight.unflatten(1, mix.shape[-2:]))


def pair_tokens(context: ArrayLike, task: ArrayLike, p: int) -> Tensor:
    """Every pair (x, y) as the next example after one context.

    Args:
        context: (k, 2) context pairs, also (0, 2).
        task: (2,) the task (a, b) that answers them.
        p: the modulus.

    Returns:
        (p², 3·k + 5) tokens in the order of `data.grid`: the context, x, y and z at positions 3k, 3k+1, 3k+2, and
        the first two tokens of one more example, 0 0, so that the model reads the z as well.
    """
    context = np.asarray(context, dtype=int).reshape(-1, 2)
    pairs = grid(p)[:, None]  # (p², 1, 2)
    pairs = np.concatenate([np.broadcast_to(context, (p * p, *context.shape)), pairs, 0 * pairs], axis=1)
    return sequences(torch.as_tensor(np.asarray(task))[None], torch.from_numpy(pairs), p)[:, :-1]


def head_features(model: Transformer, context: ArrayLike, task: ArrayLike) -> np.ndarray:
    """Every head's output at x, y and z of every pair after one context (F6).

    Returns:
        (depth, H, 3, p², C): layer, head, position, pair in the order of `data.grid`.
    """
    names = [f"blocks.{i}.attn.mix" for i in range(model.config.depth)]
    mixes = _at_pair(model, context, task, names)  # (p², 3, H, D) each
    outputs = torch.stack([through_output(model, mix, i) for i, mix in enumerate(mixes)])
    return outputs.permute(0, 3, 2, 1, 4).cpu().numpy()


def block_features(model: Transformer, context: ArrayLike, task: ArrayLike) -> np.ndarray:
    """Every block's output at x, y and z of every pair after one context, (depth, 3, p², C) (F7)."""
    names = [f"blocks.{i}.resid_post" for i in range(model.config.depth)]
    return torch.stack(_at_pair(model, context, task, names)).transpose(1, 2).cpu().numpy()


def stage_features(model: Transformer, context: ArrayLike, task: ArrayLike) -> dict[str, np.ndarray]:
    """All heads' and blocks' outputs at x, y and z of every pair, in the model's order: (3, p², C) by name (F7)."""
    heads, blocks = head_features(model, context, task), block_features(model, context, task)
    stages = {}
    for i, after in enumerate(blocks):
        stages |= {f"block {i}, head {h}": output for h, output in enumerate(heads[i])}
        stages[f"after block {i}"] = after
    return stages


def draw_contexts(sample: Data, n: int, task: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Contexts to measure in: of training inputs, each answered by a held-out task, tasks taking turns.

    Only tasks whose a and b are both not 0 are used: with another, the answer depends on one number alone. Where none
    is held out, pre-training tasks stand in.

    Args:
        sample: a run's tasks and inputs.
        n: how many contexts; fewer are the first of more.
        task: (2,) one task (a, b) for all of them instead.

    Returns:
        (n, n_examples, 2) pairs, of which the first are the examples, and (n, 2) tasks.
    """
    config, pairs = sample.config, sample.pairs["train"].cpu().numpy()
    draws = generator(config.seed, "contexts").integers(len(pairs), size=(n, config.n_examples))
    tasks = [tasks[(tasks != 0).all(1)] for tasks in (sample.tasks[w].cpu().numpy() for w in ("ood", "id"))]
    usable = np.asarray(task)[None] if task is not None else tasks[0] if len(tasks[0]) else tasks[1]
    return pairs[draws], usable[np.arange(n) % len(usable)]


def _at_pair(model: Transformer, context: ArrayLike, task: ArrayLike, names: list[str]) -> list[Tensor]:
    """Named activations at the last pair's x, y and z: (p², 3, …) each."""
    shots, most = len(context), model.config.n_examples - 2
    if shots > most:
        raise ValueError(
            f"shots={shots} must lie between 0 and {most}: pair and context are followed by an example."
        )
    tokens = pair_tokens(context, task, model.config.p).to(model.embed.weight.device)
    kept = activations(model, tokens, names, slice(3 * shots, 3 * shots + 3))
    return [kept[name] for name in names]


def plain(model: Transformer) -> Predictor:
    """The model by its plain path, which hooks act on, with the call of a predictor: (B, 3·K) → (B, K, p)."""
    return lambda tokens: model.logits_everywhere(tokens)[:, 1::3]


@contextmanager
def ablated(model: Transformer, *parts: str, mean: bool = False) -> Iterator[Predictor]:
    """While open, parts of the model add nothing; gives the predictor that remains (A7).

    Args:
        model: the transformer.
        parts: `blocks.0.head.1`, `blocks.0.attn`, `blocks.0.mlp`, or `blocks.0` for both.
        mean: instead of nothing, let a part add its mean over the batch at each position.

    Raises:
        ValueError: a part that the model does not have.
    """
    edits: dict[str, Callable[[Tensor], Tensor]] = {}
    known = [name for i in range(model.config.depth) for name in _parts(model, i)]
    for part in parts:
        if part not in known:
            raise ValueError(f"{part!r} is no part of this model; choose from {', '.join(known)}.")
    for i in range(model.config.depth):
        heads = [h for h in range(model.config.n_head) if f"blocks.{i}.head.{h}" in parts]
        if heads:
            edits[f"blocks.{i}.attn.mix"] = _silencer(mean, heads)
        for part in ("attn", "mlp"):
            if f"blocks.{i}" in parts or f"blocks.{i}.{part}" in parts:
                edits[f"blocks.{i}.{part}.out"] = _silencer(mean)
    with hooked(model, edits):
        yield plain(model)


def _parts(model: Transformer, i: int) -> list[str]:
    heads = [f"blocks.{i}.head.{h}" for h in range(model.config.n_head)]
    return [f"blocks.{i}", f"blocks.{i}.attn", f"blocks.{i}.mlp", *heads]


def _silencer(mean: bool, heads: list[int] | None = None) -> Callable[[Tensor], Tensor]:
    def silence(output: Tensor) -> Tensor:
        rest = output.mean(0, keepdim=True).expand_as(output) if mean else torch.zeros_like(output)
        if heads is None:
            return rest
        output = output.clone()
        output[:, :, heads] = rest[:, :, heads]
        return output

    return silence


@torch.no_grad()
def layer_readout(model: Transformer, tokens: Tensor) -> Tensor:
    """Answers read off early: the embedding and each block's output through the final LayerNorm and head (A6).

    Returns:
        (depth + 1, B, K, p) logits of tokens (B, 3·K); the last are the model's own.
    """
    names = ["embed", *(f"blocks.{i}.resid_post" for i in range(model.config.depth))]
    kept = activations(model, tokens, names, slice(1, None, 3))
    return F.linear(model.ln_f(torch.stack([kept[name] for name in names])), model.embed.weight)


# --- attention --------------------------------------------------------------------------------------------


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

    Repeats of the query count for neither: a head that likes the same token would pay them more.

    Args:
        patterns: (B, H, T, T), T = 3·K - 1.
        tokens: (B, 3·K) the sequences.
        p: the modulus.

    Returns:
        (B, H, 2): attention to the three tokens of a matching and of another example, averaged over examples and
        over the queries of a sequence that have both; nan where none has.
    """
    K = tokens.shape[1] // 3
    same_ratio, pair = matching_examples(tokens, p), (tokens[:, 0::3] * p + tokens[:, 1::3]).cpu()
    repeat = pair[:, :, None] == pair[:, None, :]
    match, other = same_ratio & ~repeat, (~(same_ratio | repeat)).tril(-1)
    both = match.any(-1) & other.any(-1)  # (B, query)
    paid = F.pad(patterns[:, :, 1::3].cpu(), (0, 1)).unflatten(-1, (K, 3)).sum(-1)  # (B, H, query, example)
    each = [(paid * of[:, None]).sum(-1) / of.sum(-1).clamp(min=1)[:, None] for of in (match, other)]
    return torch.stack(each, -1).masked_fill(~both[:, None, :, None], torch.nan).nanmean(2).numpy()


# --- numbers modulo p -------------------------------------------------------------------------------------


def primitive_root(p: int) -> int:
    """The smallest number whose powers are all of 1 … p - 1."""
    return next(base for base in range(1, p) if is_primitive_root(base, p))


def is_primitive_root(base: int, p: int) -> bool:
    """Whether the powers of base modulo the prime p are all of 1 … p - 1."""
    return len({pow(base, k, p) for k in range(1, p)}) == p - 1 and base % p != 0


def discrete_log(p: int, base: int | None = None) -> np.ndarray:
    """Logarithms modulo the prime p, (p,): log[base^k mod p] = k for k = 1 … p - 1, and log[0] = 0.

    So 1 has the logarithm p - 1, and the number 0, which has none, is alone with 0, as in the paper's Figure 1d.

    Args:
        p: the modulus.
        base: a primitive root, by default the smallest (the paper uses 27 for p = 29).

    Raises:
        ValueError: the base is no primitive root.
    """
    base = primitive_root(p) if base is None else base
    if not is_primitive_root(base, p):
        roots = [str(b) for b in range(1, p) if is_primitive_root(b, p)]
        raise ValueError(f"base={base} is no primitive root modulo {p}; choose one of {', '.join(roots)}.")
    log = np.zeros(p, dtype=int)
    for k in range(1, p):
        log[pow(base, k, p)] = k
    return log


def ratio_classes(p: int) -> np.ndarray:
    """The class x/y of each pair in the order of `data.grid`, (p²,): 0 … p - 1, p for y = 0, and -1 for (0, 0).

    Two pairs share a class exactly when one is a multiple c·(x, y), c ≠ 0, of the other.
    """
    x, y = grid(p).T
    inverse = modular_inverse(p).numpy()
    return np.where(y > 0, x * inverse[y] % p, np.where(x > 0, p, -1))


# --- geometry ---------------------------------------------------------------------------------------------


class PCA(NamedTuple):
    """Principal components: `features = mean + coordinates @ components`.

    Attributes:
        coordinates: (N, M), M = min(N, C), the largest variance first.
        components: (M, C) orthonormal directions.
        mean: (C,).
        share: (M,) of the variance; zeros if there is none.
    """

    coordinates: np.ndarray
    components: np.ndarray
    mean: np.ndarray
    share: np.ndarray


def pca(features: ArrayLike) -> PCA:
    """Principal components of features (N, C), each sign such that the largest coordinate is positive."""
    features = np.asarray(features, dtype=float)
    mean = features.mean(0)
    u, s, components = np.linalg.svd(features - mean, full_matrices=False)
    largest = np.abs(u).argmax(0)
    sign = np.where(u[largest, np.arange(len(s))] < 0, -1.0, 1.0)
    total = (s**2).sum()
    return PCA(u * s * sign, components * sign[:, None], mean, s**2 / total if total > 0 else 0 * s)


def cosine_similarity(features: ArrayLike, center: bool = False) -> np.ndarray:
    """Cosines between all rows of features (N, C), (N, N); a row of zeros is similar to nothing.

    With `center`, the rows' mean is taken off first, so that what all rows have in common does not count.
    """
    features = np.asarray(features, dtype=float)
    features = features - features.mean(0) if center else features
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(norms > 1e-12 * max(norms.max(), 1e-300), norms, np.inf)
    return unit @ unit.T


def class_means(features: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Mean of the features (N, C) of each label 0, 1, …: (labels, C)."""
    features, labels = np.asarray(features, dtype=float), np.asarray(labels)
    sums = np.zeros((labels.max() + 1, features.shape[1]))
    np.add.at(sums, labels, features)
    return sums / np.bincount(labels)[:, None]


def aligned(points: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """Points (N, M) turned and reflected about the origin to lie as near as possible to a reference (N, M)."""
    u, _, vt = np.linalg.svd(np.asarray(points).T @ np.asarray(reference))
    return np.asarray(points) @ u @ vt


# --- scores of structure ----------------------------------------------------------------------------------


class Score(NamedTuple):
    """A score of structure beside its chance level.

    Attributes:
        value: measured.
        baseline: its mean over random relabellings.
        low, high: the middle 95 % of these.
        p_value: share of the relabellings, the true labels among them, that score at least as much.
        interval: low and high of the 95 % interval of a mean over contexts; nan where there is one context.
    """

    value: float
    baseline: float
    low: float
    high: float
    p_value: float
    interval: tuple[float, float] = (math.nan, math.nan)

    @property
    def significant(self) -> bool:
        """Whether the structure is there: above the chance band, and positive, whatever side of 0 the band lies on."""
        return self.value > max(self.high, 0.0)


def compare(scores: ArrayLike) -> Score:
    """The score of the true labels beside those of random ones; means over contexts, if there are several.

    Args:
        scores: (relabellings,) or (contexts, relabellings), the true labels first. A relabelling must be the same in
            every context, so that what contexts share stays shared under chance.
    """
    each = np.atleast_2d(scores)
    null = each.mean(0)
    value, low, high = null[0], *np.quantile(null[1:], (0.025, 0.975))
    p_value = (null >= value - 1e-9).mean()  # relabellings that amount to the same count in spite of rounding
    interval = tuple(mean_interval(each[:, 0])[1:].tolist())
    return Score(float(value), float(null[1:].mean()), float(low), float(high), float(p_value), interval)


def relabellings(n: int, most: int = 1000, seed: int = 0) -> np.ndarray:
    """Orders of n things, (shuffles, n), the given one first: all n! if they are at most `most`, else random."""
    if math.factorial(min(n, 13)) <= most:
        return np.array(list(permutations(range(n))))
    rng = np.random.default_rng(seed)
    return np.stack([np.arange(n), *(rng.permutation(n) for _ in range(most - 1))])


def circularity(points: ArrayLike) -> float:
    """How close points (n, 2) come to a circle about their centre: 1 less the relative spread of the radii.

    1 on a circle, about 0.5 for a Gaussian cloud; never below 0.
    """
    points = np.asarray(points, dtype=float)
    radii = np.linalg.norm(points - points.mean(0), axis=1)
    return max(0.0, 1 - radii.std() / radii.mean()) if radii.mean() > 0 else 0.0


def log_order(points: ArrayLike, most: int = 1000) -> tuple[Score, int]:
    """Whether points stand around their centre in the order of their logarithm (F1d).

    The angle of the point with logarithm k is compared with 2π·s·k/n, up to a rotation and reflection; the score is
    the length of the mean of the differences as unit vectors, 1 for perfect order, and the best stride s ≤ n/2 counts.

    Args:
        points: (n, 2), n = p - 1, the points of logarithm 1 … p - 1; or (contexts, n, 2), and the stride that is best
            on the mean over contexts counts.
        most: relabellings, which put the points in another order.

    Returns:
        the score and the stride.
    """
    points = np.asarray(points, dtype=float).reshape(-1, *np.shape(points)[-2:])
    z = (points - points.mean(1, keepdims=True)) @ (1, 1j)  # (contexts, n)
    unit = z / np.where(abs(z) > 0, abs(z), 1)
    n = z.shape[1]
    waves = abs(np.fft.fft(unit[:, relabellings(n, most)])) / n  # strides and, mirrored, -strides
    half = n // 2
    return best_of(np.maximum(waves[..., 1 : half + 1], waves[..., -1 : -half - 1 : -1]))


def best_of(waves: np.ndarray) -> tuple[Score, int]:
    """The score of the best wave, chosen anew for every relabelling, and which it is for the true labels.

    Args:
        waves: (contexts, shuffles, waves); the wave with the largest mean over contexts is the best.
    """
    best = waves.mean(0).argmax(-1)  # (shuffles,)
    return compare(np.take_along_axis(waves, best[None, :, None], -1)[..., 0]), int(best[0]) + 1


def log_spectrum(means: ArrayLike, most: int = 1000) -> np.ndarray:
    """How much of the variance between numbers goes round s times with their logarithm (F1d, F1e).

    The Fourier spectrum over the multiplicative group: features on one circle in the order of the logarithm have all
    their variance at one s; those that know only the logarithm's parity, at s = (p - 1)/2.

    Args:
        means: (p - 1, C) mean feature of the numbers of logarithm 1 … p - 1.
        most: relabellings of the baseline.

    Returns:
        (shuffles, (p - 1) // 2) shares for s = 1, 2, …, which sum to 1; the true labels first.
    """
    means = pca(means).coordinates
    n = len(means)
    power = (abs(np.fft.fft(means[relabellings(n, most)], axis=1)) ** 2).sum(-1)  # (shuffles, n)
    half = n // 2
    share = power[:, 1 : half + 1]
    share[:, : n - 1 - half] += power[:, :half:-1]  # s and -s are one wave
    total = share.sum(1, keepdims=True)
    return share / np.where(total > 0, total, 1)


def parity_rank(features: ArrayLike, p: int, most: int = 10_000) -> tuple[int, int]:
    """How well odd and even logarithms are told apart, among all ways to halve the numbers 1 … p - 1 (F1e).

    A split scores the share of the variance between the numbers that lies between its halves; for odd against even
    logarithms that is the last wave of `log_spectrum`. Even logarithms are squares, so the primitive root does not
    matter. The expected rank of a split that means nothing is (splits + 1)/2.

    Args:
        features: (p, C) one row a number, such as the embedding; that of 0 is left out.
        p: the modulus.
        most: where there are more splits (p > 17), so many random ones stand for them.

    Returns:
        rank, from 1 (no other split scores as much), and the number of splits: 10 at p = 7, 126 at p = 11.
    """
    n = p - 1
    points = np.asarray(features, dtype=float)[1:]
    points = points - points.mean(0)
    odd = np.where(discrete_log(p)[1:] % 2 == 1, 1.0, -1.0)
    if math.comb(n, n // 2) // 2 <= most:
        halves = np.full((math.comb(n - 1, n // 2 - 1), n), -1.0)
        for signs, half in zip(halves, combinations(range(1, n), n // 2 - 1), strict=True):
            signs[[0, *half]] = 1  # the number 1 is always in the first half: each split once
    else:
        rng = np.random.default_rng(0)
        halves = np.stack([odd, *(rng.permutation(odd) for _ in range(most - 1))])
    scores = ((halves @ points) ** 2).sum(1)  # times the same total for all splits
    own = ((odd @ points) ** 2).sum()
    return int((scores >= own * (1 - 1e-9)).sum()), len(halves)  # itself among them; a tie counts against it


def log_plane(features: ArrayLike, numbers: ArrayLike) -> tuple[np.ndarray, float]:
    """The plane of the first two principal components of the pairs whose number is not 0, which has no logarithm.

    Args:
        features: (N, C).
        numbers: (N,) the pairs' x, y or z.

    Returns:
        (N, 2) coordinates of all pairs, those with 0 too, and the share of variance in the plane, without these.
    """
    features = np.asarray(features)
    found = pca(features[np.asarray(numbers) > 0])
    return (features - found.mean) @ found.components[:2].T, float(found.share[:2].sum())


class Structure(NamedTuple):
    """How a head's output over all pairs depends on one of their numbers, pairs where it is 0 left out.

    Attributes:
        carried: share of the variance that this number explains.
        share: of the variance in the first two principal components.
        circle: circularity of its class means in that plane; baseline: pairs in random classes.
        order: log order of these means; baseline: numbers in another order.
        stride: of the best log order.
        spectrum: (contexts, shuffles, waves) log spectra, in all dimensions; baseline: numbers in another order.
        wave: its largest share.
        turns: which wave that is.
        parity: its last, which tells odd from even logarithms.
    """

    carried: float
    share: float
    circle: Score
    order: Score
    stride: int
    spectrum: np.ndarray
    wave: Score
    turns: int
    parity: Score


def structure(features: ArrayLike, numbers: ArrayLike, log: ArrayLike, shuffles: int = 200) -> Structure:
    """The structure of the features of pairs, a mean over contexts where there are several.

    Args:
        features: (N, C), or (contexts, N, C) of the same pairs in every context.
        numbers: (N,) the number of each pair.
        log: (p,) the log table.
        shuffles: random classes for the circle's baseline.
    """
    labels = np.asarray(log)[np.asarray(numbers)] - 1  # 0 … p - 2
    rows, labels = labels >= 0, labels[labels >= 0]
    random_classes = relabellings(len(labels), shuffles)
    all_means, carried, shares, circles = [], [], [], []
    for each in np.reshape(features, (-1, *np.shape(features)[-2:])):
        found = pca(each[rows])
        means, total = class_means(found.coordinates, labels), (found.coordinates**2).sum()
        all_means.append(means)
        carried.append((means[labels] ** 2).sum() / total if total > 0 else 0.0)
        shares.append(found.share[:2].sum())
        plane = found.coordinates[:, :2]
        circles.append([circularity(class_means(plane[order], labels)) for order in random_classes])
    order, stride = log_order(np.stack(all_means)[..., :2])
    spectrum = np.stack([log_spectrum(means) for means in all_means])
    wave, turns = best_of(spectrum)
    return Structure(
        float(np.mean(carried)),
        float(np.mean(shares)),
        compare(circles),
        order,
        stride,
        spectrum,
        wave,
        turns,
        compare(spectrum[..., -1]),
    )


def parity_view(features: ArrayLike, numbers: ArrayLike, log: ArrayLike) -> np.ndarray:
    """The class means in three directions, the last of which tells odd logarithms from even ones (F1e).

    Args:
        features: (N, C) of pairs whose number is given (N,).
        log: (p,) the log table.

    Returns:
        (p, 3), in the order of the logarithm, the number 0 first: the two largest principal components across the
        direction between the parities' means, and that direction, its origin half-way.
    """
    means = class_means(features, np.asarray(log)[np.asarray(numbers)])
    odd, even = means[1::2].mean(0), means[2::2].mean(0)
    axis = (odd - even) / max(np.linalg.norm(odd - even), 1e-300)
    height = (means - (odd + even) / 2) @ axis
    across = means - np.outer(means @ axis, axis)
    flat = pca(across[1:])
    return np.column_stack([(across - flat.mean) @ flat.components[:2].T, height])


def contrast(similarity: ArrayLike, groupings: ArrayLike) -> np.ndarray:
    """Mean similarity within groups less that between groups (F7).

    Args:
        similarity: (…, N, N).
        groupings: (shuffles, N) group 0, 1, … of each row; rows of group -1 are left out.

    Returns:
        (…, shuffles)
    """
    similarity, groupings = np.asarray(similarity, dtype=float), np.asarray(groupings)
    n = groupings.shape[1]
    found = []
    for part in np.array_split(groupings, math.ceil(len(groupings) * n**2 / 4e6)):  # bounds memory: 32 MB
        valid = ((part[:, :, None] >= 0) & (part[:, None, :] >= 0)) & ~np.eye(
            n, dtype=bool
        )  # no row with itself
        within = valid & (part[:, :, None] == part[:, None, :])
        weights = [
            of / np.maximum(of.sum((1, 2), keepdims=True), 1) for of in (within, valid & ~within)
        ]  # (part, N, N) each
        flat = (weights[0] - weights[1]).reshape(len(part), n * n)
        found.append(similarity.reshape(*similarity.shape[:-2], n * n) @ flat.T)
    return np.concatenate(found, -1)


def contrast_over_contexts(
    model: Transformer,
    contexts: ArrayLike,
    tasks: ArrayLike,
    groupings: dict[str, np.ndarray],
    center: bool = True,
) -> dict[str, np.ndarray]:
    """How much more alike the pairs of one group are, in each of several contexts (F7).

    Args:
        model: the transformer.
        contexts: (n, shots, 2) pairs in front of the pair that is looked at.
        tasks: (n, 2) the task that answers each.
        groupings: name → (n or 1, shuffles, p²), as `all_groupings`.
        center: compare vectors without what the vectors of all pairs have in common.

    Returns:
        name → (n, 3, stages, shuffles): context; position x, y or z; stage in the order of `stage_features`; grouping,
        the true one first. `compare` judges (n, shuffles) of these.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in groupings}
    for i, (context, task) in enumerate(zip(contexts, tasks, strict=True)):
        stages = stage_features(model, context, task).values()
        alike = np.stack([[cosine_similarity(at, center) for at in stage] for stage in stages], 1)
        for name, of in groupings.items():
            found[name].append(contrast(alike, of[i if len(of) > 1 else 0]))
    return {name: np.stack(each) for name, each in found.items()}


def all_groupings(tasks: ArrayLike, p: int, shuffles: int = 200, seed: int = 0) -> dict[str, np.ndarray]:
    """The pairs grouped by ratio, by x, by y and by the answers z to tasks (n, 2), each with its chance groupings.

    Returns:
        name → (1, shuffles, p²), or (n, shuffles, p²) for z.
    """
    x, y = grid(p).T
    return {
        "same ratio x/y": ratio_groupings(p, shuffles, seed)[None],
        "same x": number_groupings(x, shuffles, seed)[None],
        "same y": number_groupings(y, shuffles, seed)[None],
        "same z": np.stack([answer_groupings(task, p, shuffles, seed) for task in np.asarray(tasks)]),
    }


def ratio_groupings(p: int, shuffles: int = 200, seed: int = 0) -> np.ndarray:
    """The pairs grouped by x/y, pairs with a zero left out, and the same after numbers are renamed, (shuffles, p²).

    Two pairs of one ratio share neither x nor y. Renaming the x among themselves, and the y, keeps that, so the
    baseline allows for whatever similarity pairs have because they share a number.
    """
    rng, (x, y) = np.random.default_rng(seed), grid(p).T
    classes = np.where(x * y > 0, ratio_classes(p) - 1, -1).reshape(p, p)
    names = [np.arange(1, p), *(rng.permutation(np.arange(1, p)) for _ in range(2 * shuffles - 1))]
    names[1] = np.arange(1, p)
    renamed = [np.concatenate([[0], order]) for order in names]
    return np.stack([classes[a[x], b[y]] for a, b in zip(renamed[::2], renamed[1::2], strict=True)])


def answer_groupings(task: ArrayLike, p: int, shuffles: int = 200, seed: int = 0) -> np.ndarray:
    """The pairs grouped by z = a·x + b·y mod p, and the same after numbers are renamed, (shuffles, p²).

    Two pairs of one z share neither x nor y. The baseline keeps that: it groups by a·π(x) + b·σ(y) with the numbers x
    renamed by π and the y by σ (a Latin square). What a model knows of x and of y, each alone, then scores under the
    true grouping as it does under the others; only what it knows of their sum stands out.

    Raises:
        ValueError: a task with a or b = 0, for which z is just the other number, renamed.
    """
    a, b = (int(number) % p for number in task)
    if a * b == 0:
        raise ValueError(
            f"task={[a, b]} has an answer that depends on one number at most; to group by z choose a task with a and b "
            f"from 1 to {p - 1}, such as [1, 2]."
        )
    rng, (x, y) = np.random.default_rng(seed), grid(p).T
    names = rng.permuted(np.broadcast_to(np.arange(p), (shuffles, 2, p)), axis=-1)
    names[0] = np.arange(p)
    return (a * names[:, 0, x] + b * names[:, 1, y]) % p


def number_groupings(numbers: ArrayLike, shuffles: int = 200, seed: int = 0) -> np.ndarray:
    """The pairs grouped by their x or y (p²,), and by renamed sums as in `answer_groupings`, (shuffles, p²)."""
    numbers = np.asarray(numbers)
    return np.concatenate([numbers[None], answer_groupings((1, 1), numbers.max() + 1, shuffles, seed)[1:]])


def ratio_order(p: int, log: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The pairs without a zero, sorted by x/y and within it by the logarithm of x: indices and ratios (F7)."""
    ratio, x = ratio_classes(p), grid(p)[:, 0]
    order = np.lexsort((np.asarray(log)[x], ratio))
    order = order[(grid(p)[order] > 0).all(1)]
    return order, ratio[order]


def value_order(values: ArrayLike, log: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The pairs sorted by one of their numbers (p²,) in the order of its logarithm, 0 first: indices and numbers."""
    values = np.asarray(values)
    order = np.argsort(np.asarray(log)[values], kind="stable")
    return order, values[order]
