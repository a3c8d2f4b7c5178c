"""How a model finds its answer, tested by replacing values inside it and predicting its new answer.

A model that matches ratios is thought to do three things: block 0 writes x where y stands, as a wave of the
logarithm of x; heads of a later block find an example j of the query's ratio and fetch z_j / y_j; the rest multiplies
by y. Each step is tested by a change that has one predicted outcome, beside a control of the same size:

- `query_swap`: exchange the query vectors of the matching heads;
- `turned_inputs`, `turned_slopes`: turn a wave of the logarithm, so that it stands for another number;
- `patching`: move the stream, position by position, or heads, from one context to another;
- `joint_ablation`: switch the matching heads off together;
- `measure_progress`: when each of these begins to work, along training.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modgrok.analysis import structure
from modgrok.analysis.activations import (
    Edit,
    activations,
    draw_contexts,
    edited,
    last_logits,
    remember,
    through_output,
)
from modgrok.analysis.attention import Head, matching_attention, matching_heads, patterns
from modgrok.analysis.interventions import correct_without
from modgrok.data import Data, generator, grid, paired_sequences
from modgrok.evaluate import MULTIPLE, REPEAT, is_correct, query_kinds
from modgrok.model import Transformer
from modgrok.predictors import modular_inverse, ratio_classes
from modgrok.storage.runs import Run


def reading_heads(run: Run) -> dict[str, list[Head]]:
    """The heads of a run's last checkpoint to intervene on, and the other heads of their block as a control.

    Name → heads: "matching heads", which find examples by their ratio (`attention.matching_heads`) on 300 sequences of
    held-out tasks, in the block that has most of them; and "the other heads" of this block, if there are any. If no
    head matches, all heads of the last block come alone, with a name such as "all heads of block 1".
    """
    model, tokens = run.model(), Data(run.config).evaluation_set("ood_train", 300)
    heads = matching_heads(matching_attention(patterns(model, tokens), tokens, run.config.p))
    layers = [layer for layer, _ in heads]
    layer = max(layers, key=layers.count, default=run.config.depth - 1)
    in_block = [(layer, h) for h in range(run.config.n_head)]
    if not heads:
        return {f"all heads of block {layer}": in_block}
    matching, control = (
        [head for head in in_block if (head in heads) == is_matching] for is_matching in (True, False)
    )
    return {"matching heads": matching} | ({"the other heads": control} if control else {})


def carrying_heads(effects: np.ndarray) -> list[Head]:
    """The two heads with the largest effects (depth, H), as by `patching`; none where these are nan."""
    if np.isnan(effects).any():
        return []
    return [divmod(int(i), effects.shape[1]) for i in np.argsort(-effects, axis=None)[:2]]


# --- the query swap -------------------------------------------------------------------------------------


class Swap(NamedTuple):
    """Sequences that end in a query, a donor of activations for each, and the answers that tell the two apart.

    Attributes:
        tokens: (N, 3·k + 2) k examples, then x and y of the query.
        donors: (N, 3·k + 2) the sequences that lend activations, likewise.
        predicted: (N,) the answer if the exchanged activations do what they are thought to do.
        usual: (N,) the correct answers a·x + b·y to `tokens`.
        donated: (N,) those to `donors`.
    """

    tokens: Tensor
    donors: Tensor
    predicted: Tensor
    usual: Tensor
    donated: Tensor


def draw_swaps(sample: Data, n_contexts: int = 20, shots: int = 4) -> Swap:
    """Draw contexts (`draw_contexts`); take every query that has an example of its ratio, and a random donor for each.

    The donor follows the same examples and has one, j, of its ratio, too; predicted is (y / y_j)·z_j. Its ratio and its
    y differ from those of the query, and no y is 0. The three answers of a `Swap` are different numbers. A query
    without such a donor is left out.
    """
    p, pairs = sample.config.p, grid(sample.config.p)
    y = pairs[:, 1]
    ratio, rng = ratio_classes(p), generator(sample.config.seed, "swaps")
    contexts, tasks = draw_contexts(sample, n_contexts)
    shots = min(shots, sample.config.n_examples - 1)
    chosen: list[tuple[np.ndarray, ...]] = []
    for context, task in zip(contexts[:, :shots], tasks, strict=True):
        is_usable = np.isin(ratio, ratio[context @ (p, 1)]) & (y > 0) & (ratio >= 0)
        answer, slope = pairs @ task % p, (task[0] * ratio + task[1]) % p  # slope: z / y, where y is not 0
        predicted = y[:, None] * slope % p  # (query, donor)
        fits = is_usable[:, None] & is_usable & (ratio[:, None] != ratio) & (y[:, None] != y)
        fits &= (predicted != answer[:, None]) & (predicted != answer) & (answer[:, None] != answer)
        queries = np.flatnonzero(fits.any(1))
        donors = (fits * rng.random(fits.shape))[queries].argmax(1)
        sequence = np.column_stack([context, context @ task % p]).ravel()
        prefix = np.broadcast_to(sequence, (len(queries), len(sequence)))
        chosen.append(
            (np.hstack([prefix, pairs[queries]]), np.hstack([prefix, pairs[donors]]),
             predicted[queries, donors], answer[queries], answer[donors])
        )  # fmt: skip
    return Swap(*(torch.from_numpy(np.concatenate(parts)) for parts in zip(*chosen, strict=True)))


def swapped_logits(model: Transformer, swap: Swap, heads: Sequence[Head]) -> Tensor:
    """The logits of the answer (N, p) when heads take their query vectors from the donor.

    Only the query vector of each head (i, h) at the last position, y, is replaced: coordinates h·D … (h + 1)·D - 1 of
    `blocks.i.attn.qkv`, before positions turn it, take their value in the donor's sequence. Keys, values, other heads,
    other positions and the residual stream stay. Suppose a model finds an example j by its ratio with these heads and
    multiplies z_j by y / y_j: it then answers `swap.predicted`.
    """
    width, edits = model.config.n_embd // model.config.n_head, {}
    for layer in sorted({layer for layer, _ in heads}):
        columns = [h * width + d for i, h in heads if i == layer for d in range(width)]
        name = f"blocks.{layer}.attn.qkv"
        donated = activations(model, swap.donors, [name], [-1])[name][:, 0, columns]
        edits[name] = _replace((slice(None), -1, columns), donated)
    with edited(model, edits):
        return model.plain_logits(swap.tokens)[:, -1]


def query_swap(model: Transformer, swap: Swap, heads: Sequence[Head]) -> np.ndarray:
    """Shares (4,) of answers by `swapped_logits`: the predicted one, the query's, the donor's, and any other."""
    answers = swapped_logits(model, swap, heads).argmax(-1)
    shares = [float((answers == number).double().mean()) for number in swap[2:]]
    return np.array([*shares, 1 - sum(shares)])


# --- turned waves ---------------------------------------------------------------------------------------


def turned_inputs(
    model: Transformer, sample: Data, n_contexts: int = 20, shots: int = 8
) -> dict[str, np.ndarray]:
    """Turn the waves of log x in the output of all heads of block 0 at y, so that it stands for g^k·x.

    The predicted answer is that of the query (g^k·x, y). A query counts if it holds no 0 and its ratio has an example
    both before and after the turn. Contexts come from `draw_contexts`, each with `shots` examples.

    Returns:
        shares of predicted answers after turns by k = 1 … p - 2 steps, (p - 2,) each, nan where no query counts: of
        "all waves"; of the control, "random", in which all waves are displaced by the same length in a random
        direction; and of each wave alone, "wave 1", "wave 2", …
    """
    p = model.config.p
    log, g, ratio = structure.discrete_log(p), structure.primitive_roots(p)[0], ratio_classes(p)
    context, task, query, tokens = _queries(sample, n_contexts, shots)
    turned = [query * (pow(g, k, p), 1) % p for k in range(p - 1)]
    predicted = np.array([(pairs * task).sum(1) % p for pairs in turned])
    has_example = np.array(
        [(ratio[context @ (p, 1)] == ratio[pairs @ (p, 1)][:, None]).any(1) for pairs in turned]
    )
    heads = [(0, h) for h in range(model.config.n_head)]
    return _turn(model, tokens, heads, log[query[:, 0]], predicted, has_example & has_example[0])


def turned_slopes(
    model: Transformer, sample: Data, heads: Sequence[Head], n_contexts: int = 20, shots: int = 8
) -> dict[str, np.ndarray]:
    """Turn the waves of log(z / y) in the output of `heads` at y, so that it stands for g^k·z / y.

    The heads belong to one block. The predicted answer is g^k times the correct one. A query counts if neither it nor
    its answer holds a 0 and if its ratio has an example. Contexts and result as for `turned_inputs`.
    """
    p = model.config.p
    log, g, ratio = structure.discrete_log(p), structure.primitive_roots(p)[0], ratio_classes(p)
    context, task, query, tokens = _queries(sample, n_contexts, shots)
    answer = (query * task).sum(1) % p
    rows = (ratio[context @ (p, 1)] == ratio[query @ (p, 1)][:, None]).any(1) & (answer > 0)
    slope = (answer * modular_inverse(p).numpy()[query[:, 1]] % p)[rows]
    predicted = np.array([answer[rows] * pow(g, k, p) % p for k in range(p - 1)])
    return _turn(model, tokens[rows], heads, log[slope], predicted, np.ones(predicted.shape, dtype=bool))


def _queries(sample: Data, n_contexts: int, shots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Tensor]:
    """Every query without a 0 after every context: contexts (N, k, 2), tasks, queries (N, 2), tokens (N, 3·k + 2)."""
    p, (contexts, tasks) = sample.config.p, draw_contexts(sample, n_contexts)
    pairs, shots = grid(p)[(grid(p) > 0).all(1)], min(shots, sample.config.n_examples - 1)
    context, task = (np.repeat(part, len(pairs), axis=0) for part in (contexts[:, :shots], tasks))
    query = np.tile(pairs, (len(contexts), 1))
    sequence = np.concatenate([context, query[:, None]], 1)
    tokens = paired_sequences(torch.from_numpy(task), torch.from_numpy(sequence), p)[:, :-1]
    return context, task, query, tokens


@torch.no_grad()
def _turn(
    model: Transformer,
    tokens: Tensor,
    heads: Sequence[Head],
    logs: np.ndarray,
    predicted: np.ndarray,
    is_counted: np.ndarray,
) -> dict[str, np.ndarray]:
    """Fit the waves on the first half of the sequences, turn them in the second.

    Args:
        tokens: (N, T) sequences that end in a query.
        heads: of one block; their summed output at the last position is turned.
        logs: (N,) logarithm 1 … p - 1 of the number that the output stands for.
        predicted: (p - 1, N) the answer after a turn by k = 0 … p - 2 steps.
        is_counted: (p - 1, N) which sequences count at that turn.
    """
    if len({layer for layer, _ in heads}) != 1:
        raise ValueError(f"heads={list(heads)} must be heads of one block, (block, head) each.")
    n, layer, half = model.config.p - 1, heads[0][0], len(tokens) // 2
    mix = activations(model, tokens[:half], [name := f"blocks.{layer}.attn.mix"], [-1])[name][:, 0]
    written = through_output(model, mix, layer)[:, [h for _, h in heads]].sum(1).double()  # (N/2, C)
    means = structure.class_means(written.numpy(), logs[:half] - 1)  # (n, C)
    spectrum = np.fft.rfft(means - means.mean(0), axis=0)  # (1 + waves, C)
    memory = remember(model, tokens[half:])[layer:]

    def share(steps: int, waves: Sequence[int], directions: np.ndarray) -> float:
        """Share of predicted answers after a turn, the displacement being multiplied by directions (C, C)."""
        part = np.zeros_like(spectrum)
        part[waves] = spectrum[waves]
        wave = np.fft.irfft(part, n, axis=0)  # (n, C)
        rows = np.flatnonzero(is_counted[steps, half:])
        row_memory = [[part[rows] for part in parts] for parts in memory]
        displacement = ((np.roll(wave, -steps, axis=0) - wave) @ directions)[logs[half + rows] - 1]
        added = torch.from_numpy(displacement).to(model.embed.weight)[:, None]
        edit = {f"blocks.{layer}.attn.out": lambda output: output + added}
        answers = last_logits(model, row_memory, edit).argmax(-1).numpy()
        return (answers == predicted[steps, half + rows]).mean() if len(rows) else np.nan

    waves, straight = range(1, n // 2 + 1), np.eye(means.shape[1])
    random, _ = np.linalg.qr(np.random.default_rng(0).standard_normal(straight.shape))
    turns = {"all waves": (waves, straight), "random": (waves, random)}
    turns |= {f"wave {s}": ([s], straight) for s in waves}
    return {name: np.array([share(k, *turn) for k in range(1, n)]) for name, turn in turns.items()}


# --- patching -------------------------------------------------------------------------------------------

PLACES = ("match x, y", "match z", "other x, y", "other z", "query x", "query y")
"""Groups of positions that `patching` replaces: in examples of the query's ratio, in other examples, in the query."""


def draw_pairs(sample: Data, kind: int, n: int, shots: int = 8) -> Swap:
    """Draw up to n sequences of `shots` examples and a query of one kind (`evaluate.KINDS`), and donors for them.

    Inputs are training inputs. A donor has the same pairs (x, y) under another task; tasks are held out, with a and b
    not 0 (`draw_contexts`). The answers differ; the donor's is predicted.
    """
    p, (contexts, tasks) = sample.config.p, draw_contexts(sample, 8 * n)
    pairs = torch.from_numpy(contexts[:, : min(shots, sample.config.n_examples - 1) + 1])
    tokens, donors = (
        paired_sequences(torch.from_numpy(task), pairs, p) for task in (tasks, np.roll(tasks, 1, axis=0))
    )
    usual, donated = tokens[:, -1], donors[:, -1]
    rows = ((query_kinds(tokens, p)[:, -1] == kind) & (usual != donated)).nonzero()[:n, 0]
    return Swap(tokens[rows, :-1], donors[rows, :-1], donated[rows], usual[rows], donated[rows])


def place_groups(tokens: Tensor, p: int) -> Tensor:
    """Index of PLACES at each position of tokens (N, 3·k + 2) that end in a query: (N, 3·k + 2)."""
    ratio = torch.from_numpy(ratio_classes(p))[tokens[:, 0::3] * p + tokens[:, 1::3]]  # (N, k + 1)
    groups = torch.where(ratio == ratio[:, -1:], 0, 2)[..., None] + torch.tensor([0, 0, 1])
    groups[:, -1] = torch.tensor([4, 5, 5])
    return groups.flatten(1)[:, :-1]


MIN_EFFECT = 0.2
"""Nats by which another task must move the logits before the shares of its parts mean anything."""


@torch.no_grad()
def patching(model: Transformer, pairs: Swap) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Effect of activations taken from the donors of `draw_pairs` (activation patching).

    The measure is the logit of the donor's answer less that of the usual answer, averaged over sequences. Its scale
    runs from 0 (nothing replaced) to 1 (the whole sequence of the donor). The sequences differ in z alone, so x and y
    at the embedding are a control that must give 0.

    Returns:
        effects of the stream at each of PLACES, (6,), by stage: "embedding", "after block 0", …; and (depth, H) effects
        of the values that one head gathers at the query's y. All are nan if the whole sequence moves the measure by
        less than MIN_EFFECT.
    """
    depth, n_head = model.config.depth, model.config.n_head
    streams = ["embed", *(f"blocks.{i}.resid_post" for i in range(depth))]
    mixes = [f"blocks.{i}.attn.mix" for i in range(depth)]
    usual, donated = (activations(model, tokens, streams) for tokens in (pairs.tokens, pairs.donors))
    donated_mixes = activations(model, pairs.donors, mixes, [-1])
    memory = remember(model, pairs.tokens)
    places, rope = place_groups(pairs.tokens, model.config.p), model.rope[:, : pairs.tokens.shape[1]]
    rows = torch.arange(len(pairs.tokens))

    def difference(logits: Tensor) -> float:
        return float((logits[rows, pairs.donated] - logits[rows, pairs.usual]).double().mean())

    def stream_difference(stream: Tensor, layer: int) -> float:
        """The measure, from the stream in front of a block."""
        for block in model.blocks[layer:]:
            stream = block(stream, rope)
        return difference(F.linear(model.ln_f(stream[:, -1]), model.embed.weight))

    start, end = (stream_difference(outputs[streams[-1]], depth) for outputs in (usual, donated))
    by_place = [
        [
            stream_difference(torch.where((places == i)[..., None], donated[name], usual[name]), layer)
            for i in range(len(PLACES))
        ]
        for layer, name in enumerate(streams)
    ]
    by_head = [
        [
            difference(
                last_logits(model, memory[layer:], {name: _replace((slice(None), 0, h), mix[:, 0, h])})
            )
            for h in range(n_head)
        ]
        for layer, (name, mix) in enumerate(donated_mixes.items())
    ]
    scale = end - start if end - start >= MIN_EFFECT else np.nan
    by_place, by_head = ((np.array(effects) - start) / scale for effects in (by_place, by_head))
    stages = ["embedding", *(f"after block {i}" for i in range(depth))]
    return dict(zip(stages, by_place, strict=True)), by_head


def joint_ablation(
    model: Transformer, tokens: Tensor, heads: Sequence[Head]
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy on tokens (B, 3·K) by kind of query while heads add their mean over sequences, and while others do.

    Returns:
        (3,) accuracy on repeats, other multiples and combinations without `heads`; and (choices, 3) without as many
        other heads of the same blocks, for every choice of them, or for 20 random choices if there are more.
    """
    layers = {layer for layer, _ in heads}
    every_head = np.ndindex(model.config.depth, model.config.n_head)
    control_heads = [head for head in every_head if head[0] in layers and head not in heads]
    choices = list(combinations(control_heads, len(heads)))
    if len(choices) > 20:
        choices = [choices[i] for i in np.random.default_rng(0).choice(len(choices), 20, replace=False)]
    kind = query_kinds(tokens, model.config.p)

    def accuracy(chosen: Sequence[Head]) -> list[float]:
        hits = correct_without(model, tokens, *(f"blocks.{i}.head.{h}" for i, h in chosen))
        return [float(hits[kind == i].double().mean()) for i in range(3)]

    return np.array(accuracy(heads)), np.array([accuracy(choice) for choice in choices]).reshape(-1, 3)


def _replace(index: tuple | Tensor, values: Tensor) -> Edit:
    """An edit that puts values at an index of the activation."""

    def edit(output: Tensor) -> Tensor:
        output = output.clone()
        output[index] = values
        return output

    return edit


# --- along training -------------------------------------------------------------------------------------


@torch.no_grad()
def measure_progress(run: Run, steps: Sequence[int], n_sequences: int = 60) -> dict[str, np.ndarray]:
    """Measure a mechanism at some checkpoints of a run (progress measures as in Nanda et al., 2023).

    Returns:
        name → (checkpoints,), all between 0 and 1:
        "repeats" and "multiples": accuracy by kind of query, held-out tasks, all shots; look-up and ratio matching are
        certain of these answers, so it is also how often the model agrees with them;
        "swap": share of predicted answers in `query_swap`, of the `reading_heads` of the last checkpoint;
        "attention": mean attention of these heads to an example of the query's ratio less that to another;
        "circle": score of `structure.windings` at its best stride, for the mean outputs of block 0 at y for each x;
        "circle_by_chance": mean of this score with the numbers renamed at random.
    """
    sample, p = Data(run.config), run.config.p
    tokens = sample.evaluation_set("ood_train", n_sequences)
    swap = draw_swaps(sample, 5)
    heads, *_ = reading_heads(run).values()
    _, _, query, queries = _queries(sample, 4, 4)
    logs = structure.discrete_log(p)[query[:, 0]] - 1
    kind, rows = query_kinds(tokens, p), []
    for step in steps:
        model = run.model(step)
        hits = is_correct(model, tokens)
        contrasts = matching_attention(patterns(model, tokens), tokens, p)  # (depth, B, H, 2)
        attention = np.mean([np.nanmean(contrasts[i, :, h, 0] - contrasts[i, :, h, 1]) for i, h in heads])
        written = activations(model, queries, ["blocks.0.attn.out"], [-1])["blocks.0.attn.out"][:, 0]
        plane = structure.pca(structure.class_means(written.numpy(), logs))[0][:, :2]
        circle, *by_chance = structure.windings(plane, 200).max((0, -1))
        rows.append(
            {
                "repeats": float(hits[kind == REPEAT].double().mean()),
                "multiples": float(hits[kind == MULTIPLE].double().mean()),
                "swap": query_swap(model, swap, heads)[0],
                "attention": attention,
                "circle": circle,
                "circle_by_chance": np.mean(by_chance),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
