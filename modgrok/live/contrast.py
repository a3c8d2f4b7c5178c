"""The questions that controls open with, chosen by stated rules: one that depth decides, one for a swap of queries."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modgrok.analysis.activations import draw_contexts
from modgrok.analysis.mechanisms import reading_heads
from modgrok.data import Data
from modgrok.evaluate import correct_grid, query_grid
from modgrok.plots.style import blocks
from modgrok.predictors import ratio_matches
from modgrok.storage.runs import Run


class Contrast(NamedTuple):
    """Two models and one question to both, with their answers.

    Attributes:
        runs: label → run, the shallower one first; both of one seed, so trained on the same tasks and inputs.
        task: (a, b), held out.
        examples: (x, y, z), K - 1 of them.
        query: (x, y) that is looked at closely.
        answers: label → (K, p, p) answers to every query, indexed [shots, x, y].
        n_correct: label → (n,) right answers, of p², after all examples of each context to choose from.
        combinations: label → share of the combinations answered right, over these contexts.
    """

    runs: dict[str, Run]
    task: list[int]
    examples: list[list[int]]
    query: list[int]
    answers: dict[str, NDArray]
    n_correct: dict[str, NDArray]
    combinations: dict[str, float]


def label_runs(runs_by_depth: dict[int, Sequence[Run]]) -> dict[str, Run]:
    """Label → run, the same on every page: "2 blocks" for the first of a depth, "2 blocks, seed 1" for the others."""
    return {
        blocks(depth) if i == 0 else f"{blocks(depth)}, seed {run.config.seed}": run
        for depth, runs in runs_by_depth.items()
        for i, run in enumerate(runs)
    }


def contrast_depths(runs_by_depth: dict[int, Sequence[Run]], n: int = 60) -> Contrast:
    """The seed whose shallowest and deepest model differ most, and the context in which both are most typical.

    Models differ by the share of combinations (queries that are no multiple of one example) that they answer right. In
    the chosen context the two numbers of right answers are, together, closest to the two models' medians. The query is
    a combination that only the better model answers right, with x and y not 0; failing that, any query that only it
    answers right; failing that, (0, 0).

    Args:
        runs_by_depth: depth → runs of one p; seeds that not all depths have are left out.
        n: contexts of held-out tasks, drawn by `draw_contexts`.

    Raises:
        ValueError: no seed has a run of each depth.
    """
    labelled = label_runs(runs_by_depth)
    depths = (min(runs_by_depth), max(runs_by_depth))
    pairs = []
    for seed in sorted({run.config.seed for run in labelled.values()}):
        of_seed = {label: run for label, run in labelled.items() if run.config.seed == seed}
        pair = {label: run for depth in depths for label, run in of_seed.items() if run.config.depth == depth}
        if len(pair) == len(set(depths)):
            pairs.append(_measure(pair, n))
    if not pairs:
        raise ValueError(f"No seed has runs of {' and '.join(map(blocks, depths))}.")
    return max(pairs, key=lambda pair: np.ptp(list(pair.combinations.values())))


def summary(contrast: Contrast) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of a table: model, median of right answers after all examples, combinations answered right."""
    *_, deepest = contrast.runs.values()
    n_contexts = len(contrast.n_correct[next(iter(contrast.runs))])
    right = f"right answers of {deepest.config.p**2}, median of {n_contexts} contexts"
    rows = [
        [label, f"{np.median(contrast.n_correct[label]):.0f}", f"{contrast.combinations[label]:.2f}"]
        for label in contrast.runs
    ]
    return ["model", right, "share of combinations right"], rows


def _measure(runs: dict[str, Run], n: int) -> Contrast:
    """The contrast of some models of one seed."""
    config = next(iter(runs.values())).config
    p, shots = config.p, min(run.config.n_examples for run in runs.values()) - 1
    contexts, tasks = draw_contexts(Data(config), n)
    contexts = contexts[:, :shots]
    models = {label: run.model() for label, run in runs.items()}
    hits = {
        label: correct_grid(model, tasks, contexts, [shots])[:, 0] for label, model in models.items()
    }  # (n, p, p)
    is_combination = ~np.stack([ratio_matches(context, [shots], p)[0] for context in contexts])
    combinations = {label: float(hit[is_combination].mean()) for label, hit in hits.items()}
    n_correct = {label: hit.sum((1, 2)) for label, hit in hits.items()}
    typical = int(sum(abs(counts - np.median(counts)) for counts in n_correct.values()).argmin())

    better = max(combinations, key=combinations.get)
    worse = min(combinations, key=combinations.get)
    differs = hits[better][typical] & ~hits[worse][typical]
    x, y = np.mgrid[:p, :p]
    candidates = (differs & is_combination[typical] & (x > 0) & (y > 0), differs, x + y == 0)
    query = np.argwhere(next(mask for mask in candidates if mask.any()))[0]
    context, task = contexts[typical], tasks[typical]
    return Contrast(
        runs,
        task.tolist(),
        np.column_stack([context, context @ task % p]).tolist(),
        query.tolist(),
        {
            label: query_grid(model, task[None], context, [*range(shots + 1)])[0]
            for label, model in models.items()
        },
        n_correct,
        combinations,
    )


def draw_question(run: Run) -> dict | None:
    """Four examples of the first context of `draw_contexts`; the query is twice the first of them with y not 0.

    The result has "task" (a, b), held out; "examples" (x, y, z) each; "query" (x, y); and "groups" with "name" and
    "heads", (block, number) each, as by `mechanisms.reading_heads`. None if no head matches.
    """
    heads, sample, p = reading_heads(run), Data(run.config), run.config.p
    if "matching heads" not in heads:
        return None
    contexts, tasks = draw_contexts(sample, 1)
    context, task = contexts[0, : min(4, run.config.n_examples - 1)], tasks[0]
    first = context[np.argmax(context[:, 1] > 0)]
    groups = [
        {"name": f"{name} ({', '.join(f'{block}.{h}' for block, h in group)})", "heads": group}
        for name, group in heads.items()
    ]
    return {
        "task": task.tolist(),
        "examples": np.column_stack([context, context @ task % p]).tolist(),
        "query": (2 * first % p).tolist(),
        "groups": groups,
    }
