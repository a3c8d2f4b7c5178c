"""The findings at a glance: a card for each of the paper's six claims, filled from runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure
from numpy.typing import NDArray

from modgrok import plots
from modgrok.analysis.skill import (
    SOLVED,
    learned_training_set,
    map_skill,
    novel_by_shot,
    ood_stop,
    skill_curve,
)
from modgrok.book.chapter import Chapter, flat, typeset
from modgrok.claims import rules
from modgrok.claims.verdicts import Claim, by_seed, contrasted, count, curriculum, distinct, trained_alike
from modgrok.config import PRESETS, preset
from modgrok.evaluate import COMBINATION
from modgrok.storage.find import finished_runs
from modgrok.storage.runs import Run
from modgrok.widgets.svg import CSS, picture


class Evidence(NamedTuple):
    """The runs that the claims are put to; p may differ from one group to the next.

    Attributes:
        points: (seeds, alphas, n_tasks), the map of tasks and inputs.
        shallow: 1 and 2 blocks → runs, seed by seed.
        deep: 2 and another number of blocks → runs, seed by seed.
        fewer_inputs: (depths, seeds), another setting to ask whether generalisation lasts.
        replicates: the `distinct` runs, `trained_alike` and with weights, of the p at which depths are compared.
        smaller: smaller p → such runs of that p.
        trained: the `distinct` runs of every p, for the count of falls.
    """

    points: NDArray[np.object_]
    shallow: Mapping[int, Sequence[Run]]
    deep: Mapping[int, Sequence[Run]]
    fewer_inputs: NDArray[np.object_]
    replicates: Sequence[Run]
    smaller: Mapping[int, Sequence[Run]]
    trained: Sequence[Run]

    @property
    def judged(self) -> list[Run]:
        """The runs that verdicts rest on, each once."""
        groups = self.points, self.fewer_inputs, self.shallow, self.deep, self.replicates, self.smaller
        return list({run.config: run for run in flat(groups)}.values())


def gather(page: Chapter, depth: int = 4) -> Evidence:
    """The runs of a chapter's parameters that its claims are put to.

    Each claim is judged at the largest p, up to that of the preset, that has `n_seeds` seeds of every depth that the
    claim contrasts, two blocks with `depth`; the map, `n_seeds_map` at each of its points. FileNotFoundError: no p has
    what a claim needs.
    """
    deep = page.by_depth(2, depth)
    fewer_inputs = page.largest(lambda scaled: scaled.sweep("lasting"))
    p = deep[2][0].config.p
    replicates = {
        prime: distinct(
            trained_alike(run for run in finished_runs(prime, page.parameters["root"]) if run.steps)
        )
        for prime in sorted({preset(name).p for name in PRESETS} | {p}, reverse=True)
        if prime <= p
    }
    return Evidence(
        page.largest(lambda scaled: scaled.sweep("map", "n_seeds_map")).transpose(2, 1, 0),
        page.by_depth(1, 2),
        deep,
        fewer_inputs.reshape(len(fewer_inputs), -1),
        replicates.pop(p),
        {prime: runs for prime, runs in replicates.items() if runs},
        distinct(finished_runs(None, page.parameters["root"])),
    )


def judge(runs: Evidence) -> dict[str, Claim]:
    """The verdicts on all claims: name → claim. A card shows those whose names begin with its own."""
    shallow, deep = runs.deep.values()
    reference, *deeper = runs.fewer_inputs
    return {
        "1a": rules.more_tasks(runs.points),
        "1b": rules.four_phases(runs.points),
        "2": rules.in_context(shallow),
        "3": rules.two_blocks(*runs.shallow.values()),
        "4, training inputs": rules.transience(shallow, deep),
        "4, test inputs": rules.transience(shallow, deep, "ood_test"),
        **{
            f"4, fewer inputs, depth {group[0].config.depth}": rules.transience(reference, group)
            for group in deeper
        },
        "5, parity": rules.parity(runs.replicates),
        **{f"5, parity, p = {p}": rules.parity(group) for p, group in runs.smaller.items()},
        "5, waves": rules.waves(runs.replicates),
        "5, ratios": rules.ratios(runs.replicates),
        "6a": rules.combination(shallow, deep),
        "6b": rules.shift(shallow, deep),
    }


class Card(NamedTuple):
    """A finding: the claim in a sentence, what was measured, the page with the evidence, and a small figure."""

    title: str
    sentence: str
    page: str
    figure: Figure


def cards(runs: Evidence) -> Iterator[Card]:
    """A card for each of the six claims, from the runs that they are put to."""
    shallow, deep = runs.deep.values()
    chance, depth = 1 / shallow[0].config.p, deep[0].config.depth
    blocks = plots.blocks(depth)

    n_tasks = [run.config.n_tasks for run in runs.points[0, 0]]
    solved = (map_skill(runs.points)["ood_train"] >= SOLVED).mean(1).T  # (n_tasks, seeds)
    shares = {f"{n} tasks": by_n for n, by_n in zip(n_tasks, solved, strict=True)}
    yield Card(
        "With more training tasks, models come to solve tasks that they never saw.",
        f"Share of the α at which unseen tasks are solved, seed by seed: {by_seed(solved[-1])} with {n_tasks[-1]} "
        f"training tasks, {by_seed(solved[0])} with {n_tasks[0]}.",
        "03_phases",
        plots.seed_dots(shares, "share of α solved", 0.5, "half"),
    )

    accuracy = np.array([novel_by_shot(run)["ood_train"][-1] for run in shallow])
    shots = np.arange(accuracy.shape[1])
    yield Card(
        "They learn these tasks from the examples in front of the question.",
        f"Accuracy on unseen tasks, seed by seed: {by_seed(accuracy[:, 0])} without an example, "
        f"{by_seed(accuracy[:, -1])} after {shots[-1]}.",
        "04_in_context",
        plots.seed_lines({"2 blocks": (shots, accuracy)}, "number of shots", "accuracy", chance, "chance"),
    )

    best = {plots.blocks(n): [ood_stop(run).best for run in group] for n, group in runs.shallow.items()}
    taught = count([learned_training_set(run) for run in runs.shallow[1]])
    yield Card(
        "It takes two blocks; one is not enough.",
        f"Skill on unseen tasks when stopped early, seed by seed: one block {by_seed(best['1 block'])}; two blocks "
        f"{by_seed(best['2 blocks'])}. Seeds in which one block learned its own training set: {taught}.",
        "05_depth",
        plots.seed_dots(best, "skill", SOLVED, "solved"),
    )

    falls = "; ".join(
        f"p\u00a0=\u00a0{p}, {_lost(*counts[:2])} ({_lost(*counts[2:])})"
        for p, n_blocks, has_curriculum, _, *counts in rules.fallen_rows(runs.trained)
        if (n_blocks, has_curriculum) == (depth, curriculum(deep[0]))
    )
    curves = {
        name: (group[0].metrics["step"], [skill_curve(run, "ood_train") for run in group])
        for name, group in (("2 blocks", shallow), (blocks, deep))
    }
    yield Card(
        f"With {blocks} the ability fades when training goes on; with 2 it stays.",
        f"Runs of {blocks} that lose unseen tasks again, of those that solve them on training inputs (on test inputs): "
        f"{falls or 'none here learned its training set'}.",
        "05_depth",
        plots.seed_lines(curves, "training step", "skill", SOLVED, ""),
    )

    ranks, groups = map(rules.parity_rank, runs.replicates), contrasted(runs.replicates)
    rank, n_splits = np.transpose(list(ranks))
    parity = {name: rank[group] == 1 for name, group in zip(("solve", "control"), groups, strict=True)}
    yield Card(
        "Inside, numbers are ordered by their logarithm.",
        "Odd and even logarithms lie apart more than any other halves of the numbers in the models that solve unseen "
        f"tasks: {count(parity['solve'])}. In those that learned their own tasks alone: {count(parity['control'])}.",
        "07_heads",
        plots.seed_dots(parity, "parity is best", 1 / n_splits[0], "chance"),
    )

    combined = [rules.pooled_accuracy(group, COMBINATION)[0] for group in (shallow, deep)]
    yield Card(
        f"2 blocks match ratios; {depth} also combine examples.",
        f"Accuracy on questions that need a combination, seed by seed: {blocks} {by_seed(combined[1])}; 2 blocks "
        f"{by_seed(combined[0])}; a guess {chance:.2f}.",
        "06_answers",
        plots.seed_dots(dict(zip(("2 blocks", blocks), combined, strict=True)), "accuracy", chance, "guess"),
    )


REASONS = {
    "shown": "Asked for, and found: {agrees}. Seen: {measured}.",
    "contrary": "The claim says otherwise, but: {contradicts}. Seen: {measured}.",
    "needs a larger p": "No seed can tell, for it would take this: {presupposes}. Tried: {setting}.",
    "not shown": "To be shown: {agrees}. Seen: {measured}.",
}
"""Verdict → what a card says of it."""


def _lost(n_solved: int, n_fallen: int) -> str:
    return f"{n_fallen} of {n_solved}" if n_solved else "none solved"


def as_html(cards: Iterable[Card], claims: Mapping[str, Claim], note: str) -> HTML:
    """The cards and a note below them, styled by the book's style sheet, as HTML that follows the page's theme.

    A card shows those of the claims by `judge` whose names begin with its number, the first as its own.
    """
    items = "".join(
        _card(number, card, {name: claim for name, claim in claims.items() if name.startswith(str(number))})
        for number, card in enumerate(cards, 1)
    )
    return HTML(
        f'<style>{CSS}</style><ol class="modgrok-cards">{items}</ol><p class="modgrok-note">{escape(note)}</p>'
    )


def _card(number: int, card: Card, claims: Mapping[str, Claim]) -> str:
    """An item of the list of cards."""
    reasons = "".join(
        f"<p>{_badge(claim)} <b>{escape(name)}.</b> {_reason(claim)}</p>" for name, claim in claims.items()
    )
    chapter, ax = card.page[3:].replace("_", " ").capitalize(), card.figure.axes[0]
    alt = " by ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel()))) + ", seed by seed"
    return (
        f"<li><h3>{number}. {escape(card.title)}</h3>{picture(card.figure, alt)}"
        f"<p>{_badge(next(iter(claims.values())))}</p><p>{escape(typeset(card.sentence))}</p>"
        f"<details><summary>Why this verdict</summary>{reasons}</details>"
        f'<a href="{card.page}.html">{chapter}: the evidence</a></li>'
    )


def _badge(claim: Claim) -> str:
    return f'<span class="verdict {claim.verdict.split()[0]}">p\u00a0=\u00a0{claim.p}: {claim.verdict}</span>'


def _reason(claim: Claim) -> str:
    lists = {
        name: "; ".join(f"{key} {values}" for key, values in fields.items())
        for name, fields in (("setting", claim.setting), ("measured", claim.measured))
    }
    return escape(typeset(REASONS[claim.verdict].format(**claim.rule._asdict(), **lists)))
