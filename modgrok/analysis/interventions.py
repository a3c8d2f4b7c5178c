"""Reaching into a trained model: parts switched off, and answers read off before the end."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modgrok.analysis.activations import CHUNK, Edit, activations, edited
from modgrok.evaluate import REPEAT, Predictor, is_correct, query_kinds, targets
from modgrok.model import Transformer


def parts_of(model: Transformer) -> dict[str, str]:
    """Every part that `ablated` can switch off: label → name, such as "head 0.1" → `blocks.0.head.1`."""
    names = {}
    for i in range(model.config.depth):
        names |= {f"head {i}.{h}": f"blocks.{i}.head.{h}" for h in range(model.config.n_head)}
        names |= {f"heads of block {i}": f"blocks.{i}.attn", f"MLP of block {i}": f"blocks.{i}.mlp"}
        names[f"block {i}"] = f"blocks.{i}"
    return names


@contextmanager
def ablated(model: Transformer, *parts: str, mean: bool = False) -> Iterator[Predictor]:
    """Context manager: parts of the model add nothing to the residual stream; yields the predictor that remains (A7).

    Parts have names as in `parts_of`: heads, all heads of a block, MLPs, whole blocks; ValueError for another. With
    `mean` a part adds its mean over the batch at each position, instead of nothing.
    """
    names = sorted(parts_of(model).values())
    for part in parts:
        if part not in names:
            raise ValueError(f"{part!r} is no part of this model; choose from {', '.join(names)}.")
    edits: dict[str, Edit] = {}
    for i in range(model.config.depth):
        heads = [h for h in range(model.config.n_head) if f"blocks.{i}.head.{h}" in parts]
        if heads:
            edits[f"blocks.{i}.attn.mix"] = _silencer(mean, heads)
        for part in ("attn", "mlp"):
            if f"blocks.{i}" in parts or f"blocks.{i}.{part}" in parts:
                edits[f"blocks.{i}.{part}.out"] = _silencer(mean)
    with edited(model, edits):
        yield model


def _silencer(mean: bool, heads: list[int] | None = None) -> Edit:
    """An edit that replaces an output (B, T, …), or only some heads of a mix (B, T, H, D), by zeros or the mean."""

    def silence(output: Tensor) -> Tensor:
        constant = output.mean(0, keepdim=True).expand_as(output) if mean else torch.zeros_like(output)
        if heads is None:
            return constant
        output = output.clone()
        output[:, :, heads] = constant[:, :, heads]
        return output

    return silence


@torch.no_grad()
def layer_readout(model: Transformer, tokens: Tensor) -> Tensor:
    """Logits of tokens (B, 3·K) read off early: the final LayerNorm and head applied before and after each block (A6).

    They are (depth + 1, B, K, p): from the embedding, then from the stream after each block. The last are the model's.
    """
    names = ["embed", *(f"blocks.{i}.resid_post" for i in range(model.config.depth))]
    streams = activations(model, tokens, names, slice(1, None, 3))
    return F.linear(model.ln_f(torch.stack([streams[name] for name in names])), model.embed.weight)


def readout_by_kind(model: Transformer, tokens: Tensor) -> np.ndarray:
    """Accuracy of answers to tokens (B, 3·K) read off early, by kind of query, all shots together (A6).

    The result is (3, depth + 1): repeats, other multiples, combinations; embedding, then each block. nan without such
    queries.
    """
    hits = torch.cat(
        [layer_readout(model, chunk).argmax(-1) == targets(chunk) for chunk in tokens.split(CHUNK)], 1
    )
    kinds = query_kinds(tokens, model.config.p)
    return np.array([[float(stage[kinds == kind].double().mean()) for stage in hits] for kind in range(3)])


@torch.no_grad()
def correct_without(model: Transformer, tokens: Tensor, *parts: str) -> Tensor:
    """Whether a model answers right while parts add their mean over sequences: (B, K) bool of tokens (B, 3·K) (A7)."""
    with ablated(model, *parts, mean=True) as predict:
        return is_correct(predict, tokens, len(tokens))


def accuracy_without(model: Transformer, questions: dict[str, Tensor], *parts: str) -> dict[str, float]:
    """Accuracy of a model in which parts add their mean over all sequences, instead of their output (A7).

    Of questions, set → tokens (B, 3·K): set → accuracy on queries that repeat no example, after K // 2 shots or more.
    Parts have names as in `parts_of`; without one it is the whole model.
    """
    tokens, K = torch.cat(list(questions.values())), next(iter(questions.values())).shape[1] // 3
    hits = correct_without(model, tokens, *parts)
    is_counted = query_kinds(tokens, model.config.p) != REPEAT
    is_counted[:, : K // 2] = False
    sizes = [len(sequences) for sequences in questions.values()]
    chunks = zip(questions, hits.split(sizes), is_counted.split(sizes), strict=True)
    return {name: float((hit & counted).sum() / counted.sum()) for name, hit, counted in chunks}
