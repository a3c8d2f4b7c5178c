"""A question to a model, and the heads that can be made to look for another question."""

from typing import NamedTuple

import numpy as np

from modgrok.analysis.activations import draw_contexts
from modgrok.analysis.mechanisms import matching_heads, reading_heads
from modgrok.data import Data
from modgrok.storage.runs import Run


class HeadGroup(NamedTuple):
    """Heads, (block, number) each, and what they are called."""

    name: str
    heads: list[tuple[int, int]]


class SwapQuestion(NamedTuple):
    """A question, and groups of heads.

    Attributes:
        task: (a, b), held out.
        examples: (x, y, z) each.
        query: (x, y), a multiple of an example.
        groups: the matching heads and, where there are any, the other heads of their block.
    """

    task: list[int]
    examples: list[list[int]]
    query: list[int]
    groups: list[HeadGroup]


def draw_question(run: Run, shots: int = 4) -> SwapQuestion | None:
    """The first context of `draw_contexts`, its query twice the first example with y not 0; None if no head matches.

    The groups are those of `mechanisms.reading_heads` at the last checkpoint.
    """
    model, sample, p = run.model(), Data(run.config), run.config.p
    tokens = sample.evaluation_set("ood_train", 300)
    if not matching_heads(model, tokens):
        return None
    contexts, tasks = draw_contexts(sample, 1)
    context, task = contexts[0, : min(shots, run.config.n_examples - 1)], tasks[0]
    first = context[np.argmax(context[:, 1] > 0)]
    groups = [
        HeadGroup(f"{name} ({', '.join(f'{block}.{h}' for block, h in heads)})", heads)
        for name, heads in zip(
            ("matching heads", "the other heads"), reading_heads(model, tokens), strict=True
        )
        if heads
    ]
    examples = np.column_stack([context, context @ task % p])
    return SwapQuestion(task.tolist(), examples.tolist(), (2 * first % p).tolist(), groups)
