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
from modgrok.model import Transformer, rotate

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


@torch.no_grad()
def pair_features(
    model: Transformer, context: ArrayLike, task: ArrayLike
) -> tuple[list[Tensor], list[Tensor]]:
    """What heads gather and blocks put out at x, y and z of every pair (x, y) as the next example after one context.

    The context passes once and leaves its keys and values behind, as in `Transformer.query_logits`.

    Args:
        model: the transformer.
        context: (k, 2) context pairs, also (0, 2).
        task: (2,) the task (a, b) that answers them.

    Returns:
        `attn.mix` (p², 3, H, D) and `resid_post` (p², 3, C) of each block, pairs in the order of `data.grid`.

    Raises:
        ValueError: more examples than stand before a z that the model reads.
    """
    p, device, k = model.config.p, model.embed.weight.device, len(context)
    if k > (most := model.config.n_examples - 2):
        raise ValueError(
            f"shots={k} must lie between 0 and {most}: a model never reads the z of its last example."
        )
    task = torch.as_tensor(np.asarray(task))[None]
    before = torch.from_numpy(np.asarray(context, dtype=int).reshape(1, -1, 2))
    c = model.embed(sequences(task, before, p).to(device))  # (1, T, C), T = 3·k
    x = model.embed(sequences(task, torch.from_numpy(grid(p))[:, None], p).to(device))  # (p², 3, C)
    place, hidden = model.rope[:, 3 * k : 3 * k + 3], ~model.causal[:3, :3].to(device)
    mixes, outputs = [], []
    for block in model.blocks:
        attn = block.attn
        q, key, v = (attn.heads(part) for part in attn.qkv(block.ln_1(x)).chunk(3, dim=-1))
        _, key_c, v_c = (attn.heads(part) for part in attn.qkv(block.ln_1(c)).chunk(3, dim=-1))
        q, key, key_c = rotate(q, place), rotate(key, place), rotate(key_c, model.rope[:, : 3 * k])
        scores = torch.cat(
            [q @ key_c.mT, (q @ key.mT).masked_fill(hidden, -torch.inf)], -1
        )  # (p², H, 3, T + 3)
        pattern = (scores / q.shape[-1] ** 0.5).softmax(-1)
        mixed = (pattern[..., : 3 * k] @ v_c + pattern[..., 3 * k :] @ v).transpose(1, 2)  # (p², 3, H, D)
        c, x = block(c, model.rope[:, : 3 * k]), block.update(x, mixed.flatten(-2))
        mixes.append(mixed)
        outputs.append(x)
    return mixes, outputs


def head_features(model: Transformer, context: ArrayLike, task: ArrayLike) -> np.ndarray:
    """Every head's output at x, y and z of every pair after one context (F6).

    Returns:
        (depth, H, 3, p², C): layer, head, position, pair in the order of `data.grid`.
    """
    return _outputs_of_heads(model, pair_features(model, context, task)[0])


def block_features(model: Transformer, context: ArrayLike, task: ArrayLike) -> np.ndarray:
    """Every block's output at x, y and z of every pair after one context, (depth, 3, p², C) (F7)."""
    return torch.stack(pair_features(model, context, task)[1]).transpose(1, 2).cpu().numpy()


def stage_features(model: Transformer, context: ArrayLike, task: ArrayLike) -> dict[str, np.ndarray]:
    """All heads' and blocks' outputs at x, y and z of every pair, in the model's order: (3, p², C) by name (F7)."""
    mixes, outputs = pair_features(model, context, task)
    stages = {}
    for i, (heads, after) in enumerate(zip(_outputs_of_heads(model, mixes), outputs, strict=True)):
        stages |= {f"block {i}, head {h}": output for h, output in enumerate(heads)}
        stages[f"after block {i}"] = after.transpose(0, 1).cpu().numpy()
    return stages


def _outputs_of_heads(model: Transformer, mixes: list[Tensor]) -> np.ndarray:
    """What each head adds to the stream, (depth, H, 3, p², C), given what they gather."""
    outputs = [through_output(model, mix, i).permute(2, 1, 0, 3).cpu().numpy() for i, mix in enumerate(mixes)]
    return np.stack(outputs)


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
    """Short label → name of everything that `ablated` can take away: "block 0", "MLP of block 0", "head 0.1"."""
    each = {}
    for i in range(model.config.depth):
        each |= {f"head {i}.{h}": f"blocks.{i}.head.{h}" for h in range(model.config.n_head)}
        each |= {f"heads of block {i}": f"blocks.{i}.attn", f"MLP of block {i}": f"blocks.{i}.mlp"}
        each[f"block {i}"] = f"blocks.{i}"
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
