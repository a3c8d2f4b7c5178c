"""A question to a model, and the heads that can be made to look for another question."""

import numpy as np

from modgrok.analysis.activations import draw_contexts
from modgrok.analysis.mechanisms import matching_heads, reading_heads
from modgrok.data import Data
from modgrok.storage.runs import Run


def draw_question(run: Run, shots: int = 4) -> dict | None:
    """The first context of `draw_contexts`, its query twice the first example with y not 0.

    Returns:
        "task" (a, b), held out; "examples" (x, y, z) each; "query" (x, y); and "groups" with "name" and "heads",
        (block, number) each, of `mechanisms.reading_heads` at the last checkpoint: the matching heads and, where there
        are any, the other heads of their block. None if no head matches.
    """
    model, sample, p = run.model(), Data(run.config), run.config.p
    tokens = sample.evaluation_set("ood_train", 300)
    if not matching_heads(model, tokens):
        return None
    contexts, tasks = draw_contexts(sample, 1)
    context, task = contexts[0, : min(shots, run.config.n_examples - 1)], tasks[0]
    first = context[np.argmax(context[:, 1] > 0)]
    names = ("matching heads", "the other heads")
    groups = [
        {"name": f"{name} ({', '.join(f'{block}.{h}' for block, h in heads)})", "heads": heads}
        for name, heads in zip(names, reading_heads(model, tokens), strict=True)
        if heads
    ]
    return {
        "task": task.tolist(),
        "examples": np.column_stack([context, context @ task % p]).tolist(),
        "query": (2 * first % p).tolist(),
        "groups": groups,
    }
