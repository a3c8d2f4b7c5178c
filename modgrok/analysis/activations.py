"""Activations of a trained model: read by name, and replaced while the model runs.

They are those of the plain path, `Transformer.logits_everywhere`, and are named as in TransformerLens. With B
sequences, T positions, H heads of width D, and C = H·D: `embed` (B, T, C); and for each block i

- `blocks.i.attn.qkv` (B, T, 3·C): queries, then keys, then values, each head after head, before positions turn them;
- `blocks.i.attn.pattern` (B, H, T, T): the attention that each position (first T) pays;
- `blocks.i.attn.mix` (B, T, H, D): the values that each head gathers;
- `blocks.i.attn.out`, `blocks.i.mlp.out` (B, T, C): sums that all heads together, and the MLP, add to the stream;
- `blocks.i.resid_post` (B, T, C): the residual stream after the block.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from modgrok.data import Data, check_count, generator, grid, sequences
from modgrok.model import Transformer, rotate
from modgrok.predictors import check_vectors
from modgrok.storage.runs import Run

Edit = Callable[[Tensor], Tensor | None]
"""Takes an activation and returns its replacement, or None to leave it."""

CHUNK = 256
"""Sequences in one pass, which bounds memory: a pattern of the paper's model takes 144 kB a sequence and block."""


def hook_points(model: Transformer) -> dict[str, nn.Module]:
    """Name of every activation → the module whose output it is."""
    points: dict[str, nn.Module] = {"embed": model.embed}
    for i, block in enumerate(model.blocks):
        names = ("qkv", "pattern", "mix", "out")
        points |= {f"blocks.{i}.attn.{name}": getattr(block.attn, name) for name in names}
        points |= {f"blocks.{i}.mlp.out": block.mlp, f"blocks.{i}.resid_post": block}
    return points


@contextmanager
def edited(model: Transformer, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Context manager: replace named activations by their edits in every pass of the plain path.

    edits: name of an activation → its edit. Raises ValueError if the model has no activation of a name.
    """
    points, handles = hook_points(model), []
    for name in edits:
        if name not in points:
            raise ValueError(f"{name!r} is no activation of this model; choose one of {', '.join(points)}.")
    try:
        for name, edit in edits.items():
            hook = points[name].register_forward_hook(lambda module, inputs, output, edit=edit: edit(output))
            handles.append(hook)
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def activations(
    model: Transformer, tokens: Tensor, names: list[str], positions: slice | list[int] = slice(None)
) -> dict[str, Tensor]:
    """Named activations of tokens (B, 3·K) or (B, 3·K - 1); the last z is not read.

    Names and shapes are those of the module's docstring; `positions` are the positions T to keep, of a pattern the
    attending ones. Errors are those of `edited`.
    """
    chunks: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str) -> Edit:
        axis = 2 if name.endswith("pattern") else 1
        index = (slice(None),) * axis + (positions,)
        return lambda output: chunks[name].append(output[index].clone())

    with edited(model, {name: keep(name) for name in names}):
        for chunk in tokens.split(CHUNK):
            model.logits_everywhere(chunk)
    return {name: torch.cat(outputs) for name, outputs in chunks.items()}


@torch.no_grad()
def remember(model: Transformer, tokens: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Pass tokens (N, 3·K - 1) through the model once, for passes that differ at the last position alone.

    For each block: the stream (N, 1, C) that enters it at the last position; keys and values (N, H, 3·K - 2, D) before.
    """
    streams = ["embed", *(f"blocks.{i}.resid_post" for i in range(model.config.depth - 1))]
    projections = [f"blocks.{i}.attn.qkv" for i in range(model.config.depth)]
    outputs = activations(model, tokens, [*streams, *projections])
    memory = []
    for block, stream, projection in zip(model.blocks, streams, projections, strict=True):
        _, keys, values = (block.attn.heads(part) for part in outputs[projection][:, :-1].chunk(3, dim=-1))
        memory.append((outputs[stream][:, -1:], rotate(keys, model.rope[:, : tokens.shape[1] - 1]), values))
    return memory


@torch.no_grad()
def last_logits(
    model: Transformer, memory: Sequence[tuple[Tensor, Tensor, Tensor]], edits: Mapping[str, Edit]
) -> Tensor:
    """Logits (N, p) after the last position, at which alone the model runs, with edits in place.

    They are those of the plain path whose edits change the last position only.

    Args:
        model: the transformer.
        memory: of the sequences, as by `remember`; without that of the first blocks, these are not run again.
        edits: name of an activation in a block that is run → its edit, which gets T = 1.
    """
    x, place = memory[0][0], memory[0][1].shape[2]  # of the last position
    with edited(model, edits):
        for block, (_, *past) in zip(model.blocks[-len(memory) :], memory, strict=True):
            x = block(x, model.rope[:, place : place + 1], past)
    return F.linear(model.ln_f(x[:, 0]), model.embed.weight)


@torch.no_grad()
def through_output(model: Transformer, mix: Tensor, layer: int) -> Tensor:
    """Contribution of each head of a block to the residual stream, (…, H, C), from the values it gathers, (…, H, D)."""
    weight = model.blocks[layer].attn.out.weight  # (C, H·D)
    return torch.einsum("...hd,chd->...hc", mix, weight.unflatten(1, mix.shape[-2:]))


@torch.no_grad()
def stage_features(
    model: Transformer, context: ArrayLike, task: ArrayLike, n_blocks: int | None = None
) -> dict[str, np.ndarray]:
    """What every head adds to the residual stream, and the stream after every block, for all pairs (x, y) (F6, F7).

    Each pair is the next example after one context, (k, 2) pairs, which passes through the model once; a task (a, b)
    gives every z. The pairs pass through the first `n_blocks` blocks, by default all.

    Returns:
        in the model's order "block 0, head 0", …, "after block 0", … → (3, p², C): at x, y and z of each pair, in the
        order of `data.grid`.

    Raises:
        ValueError: the context is longer than n_examples - 2.
    """
    p, k, stages = model.config.p, len(context), {}
    if k > (longest := model.config.n_examples - 2):
        raise ValueError(
            f"shots={k} must lie between 0 and {longest}: a model never reads the z of its last example."
        )
    pairs, task = torch.from_numpy(grid(p)), torch.as_tensor(np.asarray(task))[None]
    x = model.embed(sequences(task, pairs[:, None], p).to(model.embed.weight.device))  # (p², 3, C)
    before = torch.cat([torch.from_numpy(np.asarray(context, dtype=int).reshape(-1, 2)), pairs[:1]])
    memory = remember(model, sequences(task, before[None], p)[:, :-1].to(x.device))
    for i, (block, (_, *past)) in enumerate(list(zip(model.blocks, memory, strict=True))[:n_blocks]):
        past, mixes = [part[:, :, : 3 * k].expand(len(x), -1, -1, -1) for part in past], []
        with edited(model, {f"blocks.{i}.attn.mix": mixes.append}):
            x = block(x, model.rope[:, 3 * k : 3 * k + 3], past)
        heads = through_output(model, mixes[0], i).permute(2, 1, 0, 3)  # (H, 3, p², C)
        stages |= {f"block {i}, head {h}": head.cpu().numpy() for h, head in enumerate(heads)}
        stages[f"after block {i}"] = x.transpose(0, 1).cpu().numpy()
    return stages


def draw_contexts(sample: Data, n: int, task: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw contexts of training inputs, each with a held-out task; the tasks take turns.

    Tasks with a = 0 or b = 0 are left out, because their answers depend on one number alone. A run without other
    held-out tasks uses pre-training tasks. With `task`, (a, b), all contexts use it instead. The result is pairs
    (n, n_examples, 2), in the order in which examples come, and tasks (n, 2); the first are the same for every n.
    """
    check_count(n, "contexts")
    config, pairs = sample.config, sample.pairs["train"].cpu().numpy()
    draws = generator(config.seed, "contexts").integers(len(pairs), size=(n, config.n_examples))
    both_matter = [
        tasks[(tasks != 0).all(1)] for tasks in (sample.tasks[s].cpu().numpy() for s in ("ood", "id"))
    ]
    if task is not None:
        usable = check_vectors(np.asarray(task)[None], config.p, "task").numpy()
    else:
        usable = next(filter(len, both_matter), both_matter[1])
    return pairs[draws], usable[np.arange(n) % len(usable)]


def features_by_context(
    run: Run, n_contexts: int, shots: int, n_blocks: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """`stage_features` of a run's last checkpoint after each of the contexts of `draw_contexts`, cut to `shots`."""
    model = run.model()
    for context, context_task in zip(*draw_contexts(Data(run.config), n_contexts), strict=True):
        yield stage_features(model, context[:shots], context_task, n_blocks)


def features_at_y(
    run: Run, stages: Sequence[str], n_contexts: int, shots: int = 4, n_blocks: int | None = None
) -> np.ndarray:
    """Those of `features_by_context` at y of every pair, of some stages by name: (contexts, stages, p², C).

    The contexts have fewer examples than `shots` if sequences are shorter. The stages lie in the first `n_blocks`
    blocks, by default anywhere.
    """
    contexts = features_by_context(run, n_contexts, min(shots, run.config.n_examples - 2), n_blocks)
    return np.array([[features[name][1] for name in stages] for features in contexts])
