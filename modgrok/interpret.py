"""Inside a trained model: activations, ablation, and per-layer read-out; `attention` says what heads look at.

Activations are taken by forward hooks on the plain path, `model.logits_everywhere`, and named as in TransformerLens:
`embed`, and for each block i `blocks.i.attn.pattern` (B, H, T, T), `blocks.i.attn.mix` (B, T, H, D),
`blocks.i.attn.out`, `blocks.i.mlp.out` and `blocks.i.resid_post` (B, T, C).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from modgrok.data import Data, generator, grid, sequences
from modgrok.evaluate import REPEAT, Predictor, targets
from modgrok.evaluate import kinds as query_kinds
from modgrok.model import Transformer

# --- activations ----------------------------------------------------------------------------------------


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


# --- ablation and read-out ------------------------------------------------------------------------------


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
    known = sorted(parts_of(model).values())
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
        yield model.plain_logits


def parts_of(model: Transformer) -> dict[str, str]:
    """Short label → name of everything that `ablated` can take away: "block 0", "0 heads", "0 MLP", "head 0.1"."""
    each = {}
    for i in range(model.config.depth):
        each |= {f"head {i}.{h}": f"blocks.{i}.head.{h}" for h in range(model.config.n_head)}
        each |= {f"{i} heads": f"blocks.{i}.attn", f"{i} MLP": f"blocks.{i}.mlp", f"block {i}": f"blocks.{i}"}
    return each


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


def read_off_by_kind(model: Transformer, tokens: Tensor) -> np.ndarray:
    """Accuracy of the answer after each stage, from the embedding to the last block, by kind of query (A6).

    Returns:
        (3, depth + 1): repeats, other multiples and combinations, all shots of tokens (B, 3·K) together.
    """
    right, kinds = (
        layer_readout(model, tokens).argmax(-1) == targets(tokens),
        query_kinds(tokens, model.config.p),
    )
    return np.array([[float(of[kinds == i].double().mean()) for of in right] for i in range(3)])


@torch.no_grad()
def accuracy_without(
    model: Transformer, questions: dict[str, Tensor], part: str | None = None
) -> dict[str, float]:
    """What is right if a part adds its mean over all these sequences instead of what it computes (A7).

    Args:
        model: the transformer.
        questions: set → tokens (B, 3·K).
        part: as for `ablated`; None for the whole model.

    Returns:
        set → accuracy on queries that repeat no example, after half of the shots or more.
    """
    tokens, K = torch.cat(list(questions.values())), next(iter(questions.values())).shape[1] // 3
    with ablated(model, *([part] if part else []), mean=True) as predict:
        right = predict(tokens).argmax(-1) == targets(tokens)
    counted = query_kinds(tokens, model.config.p) != REPEAT
    counted[:, : K // 2] = False
    sizes = [len(of) for of in questions.values()]
    parts = zip(questions, right.split(sizes), counted.split(sizes), strict=True)
    return {name: float((r & c).sum() / c.sum()) for name, r, c in parts}
