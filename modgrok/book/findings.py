"""The findings at a glance: a card for each of the paper's six claims, filled from runs."""

from collections.abc import Mapping, Sequence
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
from modgrok.book.chapter import Chapter
from modgrok.claims import rules
from modgrok.claims.verdicts import Claim, by_seed, contrasted, count, distinct
from modgrok.config import PRESETS, preset
from modgrok.evaluate import COMBINATION
from modgrok.storage.find import finished_runs
from modgrok.storage.runs import Run
from modgrok.widgets.svg import CSS, picture, without_narrow


class Evidence(NamedTuple):
    """The runs that the claims are put to; p may differ from one group to the next.

    Attributes:
        points: (seeds, alphas, n_tasks), the map of tasks and inputs.
        shallow: 1 and 2 blocks → runs, seed by seed.
        deep: 2 and another number of blocks → runs, seed by seed.
        fewer_inputs: (depths, seeds), another setting to ask whether generalisation lasts.
        replicates: the `distinct` runs, with their weights, of the p at which depths are compared.
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
        groups = (*self.shallow.values(), *self.deep.values(), self.replicates, *self.smaller.values())
        runs = [run for group in (self.points.flat, self.fewer_inputs.flat, *groups) for run in group]
        return list({run.config: run for run in runs}.values())


def gather(page: Chapter, depth: int = 4) -> Evidence:
    """The runs of a chapter's parameters that its claims are put to.

    Each claim is judged at the largest p, up to that of the preset, that has `n_seeds` seeds of every depth that the
    claim contrasts; the map, `n_seeds_map` at each of its points.

    Args:
        page: has the parameters n_seeds and n_seeds_map.
        depth: blocks that are compared with two.

    Raises:
        FileNotFoundError: no p has what a claim needs.
    """
    deep = page.by_depth(2, depth)
    fewer_inputs = page.largest(lambda scaled: scaled.sweep("lasting"))
    p = deep[2][0].config.p
    replicates = {
        prime: distinct([run for run in finished_runs(prime, page.parameters["root"]) if run.steps])
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
            f"4, fewer inputs, {group[0].config.depth} blocks": rules.transience(reference, group)
            for group in deeper
        },
        "5, parity": rules.parity(runs.replicates),
        **{f"5, parity, p = {p}": rules.parity(group) for p, group in runs.smaller.items()},
        "5, waves": rules.waves(runs.replicates),
        "5, ratios": rules.ratios(runs.replicates),
        "6a": rules.combination(shallow, deep),
        "6b": rules.shift(shallow, deep),
    }


# --- cards ----------------------------------------------------------------------------------------------


class CardText(NamedTuple):
    """The words of a card, with the numbers of `card_numbers` in braces.

    Attributes:
        title: the claim in a sentence.
        sentence: what was measured.
        alt: what the picture shows.
        page, chapter: file and title of the page with the evidence.
    """

    title: str
    sentence: str
    alt: str
    page: str
    chapter: str


CARDS = (
    CardText(
        "With more training tasks, models come to solve tasks that they never saw.",
        "Share of the α at which unseen tasks are solved, seed by seed: {share_many} with {n_many} training tasks, "
        "{share_few} with {n_few}.",
        "the share of α at which unseen tasks are solved, for each number of training tasks, a dot a seed",
        "03_phases",
        "Phases",
    ),
    CardText(
        "They learn these tasks from the examples in front of the question.",
        "Accuracy on unseen tasks, seed by seed: {accuracy_first} without an example, {accuracy_last} after "
        "{n_shots}.",
        "accuracy on unseen tasks by number of shots, a line a seed",
        "04_in_context",
        "In context",
    ),
    CardText(
        "It takes two blocks; one is not enough.",
        "Skill on unseen tasks when stopped early, seed by seed: one block {skill_one}, two blocks {skill_two}. One "
        "block learned its own training set in {n_taught} seeds.",
        "skill on unseen tasks of one block and of two, a dot a seed",
        "05_depth",
        "Depth",
    ),
    CardText(
        "With {depth} blocks the ability fades when training goes on; with 2 it stays.",
        "Runs of {depth} blocks that lose what they had solved: {falls}.",
        "skill on unseen tasks, training inputs, along training, 2 blocks and {depth}, a line a seed",
        "05_depth",
        "Depth",
    ),
    CardText(
        "Inside, numbers are ordered by their logarithm.",
        "The parity of the logarithm halves the numbers best in {parity_solving} of the models that solve unseen "
        "tasks, and in {parity_control} of those that learned their own tasks alone.",
        "share of models whose embedding splits best by parity of the logarithm: those that solve unseen tasks, and "
        "those that learned their own tasks alone",
        "07_heads",
        "Heads",
    ),
    CardText(
        "2 blocks match ratios; {depth} also combine examples.",
        "Accuracy on questions that need a combination, seed by seed: {depth} blocks {combined_deep}, 2 blocks "
        "{combined_two}, a guess {chance}.",
        "accuracy on unseen tasks' questions that need a combination, 2 blocks and {depth}, a dot a seed",
        "06_answers",
        "Answers",
    ),
)

REASONS = {
    "shown": "Asked for, and found: {agrees}. Seen: {measured}.",
    "contrary": "The claim says otherwise, but: {contradicts}. Seen: {measured}.",
    "needs a larger p": "No seed can tell, for it would take this: {presupposes}. Tried: {setting}.",
    "not shown": "To be shown: {agrees}. Seen: {measured}.",
}
"""Verdict → what a card says of it."""


class Card(NamedTuple):
    """A finding.

    Attributes:
        text: its words, with numbers.
        figure: a small one.
        claims: name → the verdicts that it stands for; the first is the card's own.
    """

    text: CardText
    figure: Figure
    claims: Mapping[str, Claim]


def cards(claims: Mapping[str, Claim], runs: Evidence) -> list[Card]:
    """A card a claim, with the verdicts that `judge` gives of the same runs."""
    numbers = card_numbers(runs)
    return [
        Card(
            CardText(*(part.format(**numbers) for part in text)),
            figure,
            {name: claim for name, claim in claims.items() if name.startswith(str(i))},
        )
        for i, (text, figure) in enumerate(zip(CARDS, card_figures(runs), strict=True), 1)
    ]


def card_numbers(runs: Evidence) -> dict[str, str]:
    """The numbers that CARDS asks for, as text."""
    shallow, deep = runs.deep.values()
    depth, n_tasks = deep[0].config.depth, [run.config.n_tasks for run in runs.points[0, 0]]
    solved, accuracy = solved_shares(runs.points), novel_by_shot(shallow)["ood_train"]
    single, double = ([ood_stop(run).best for run in group] for group in runs.shallow.values())
    is_best, (is_solving, is_control) = parity_is_best(runs.replicates), contrasted(runs.replicates)
    falls = [row for row in rules.fallen_rows(runs.trained) if row.blocks == depth]
    return {
        "depth": str(depth),
        "share_few": by_seed(solved[:, 0]),
        "share_many": by_seed(solved[:, -1]),
        "n_few": str(n_tasks[0]),
        "n_many": str(n_tasks[-1]),
        "accuracy_first": by_seed(accuracy[:, 0]),
        "accuracy_last": by_seed(accuracy[:, -1]),
        "n_shots": str(accuracy.shape[1] - 1),
        "skill_one": by_seed(single),
        "skill_two": by_seed(double),
        "n_taught": count([learned_training_set(run) for run in runs.shallow[1]]),
        "falls": "; ".join(
            f"p = {row.p}, {row.fall_train} of {row.solve_train} on training inputs, {row.fall_test} of "
            f"{row.solve_test} on test inputs"
            for row in falls
        ),
        "parity_solving": count(is_best[is_solving]),
        "parity_control": count(is_best[is_control]),
        "combined_two": by_seed(rules.pooled_accuracy(shallow, COMBINATION).accuracy),
        "combined_deep": by_seed(rules.pooled_accuracy(deep, COMBINATION).accuracy),
        "chance": f"{1 / shallow[0].config.p:.2f}",
    }


def card_figures(runs: Evidence) -> list[Figure]:
    """A small picture for each of CARDS."""
    shallow = runs.deep[2]
    chance, n_tasks = 1 / shallow[0].config.p, [run.config.n_tasks for run in runs.points[0, 0]]
    by_depth = {plots.blocks(depth): group for depth, group in runs.deep.items()}
    accuracy = novel_by_shot(shallow)["ood_train"]
    is_best, contrast = parity_is_best(runs.replicates), contrasted(runs.replicates)
    _, n_splits = rules.parity_rank(runs.replicates[0])
    solved = {f"{n} tasks": shares for n, shares in zip(n_tasks, solved_shares(runs.points).T, strict=True)}
    best = {
        plots.blocks(depth): [ood_stop(run).best for run in group] for depth, group in runs.shallow.items()
    }
    curves = {name: [skill_curve(run, "ood_train") for run in group] for name, group in by_depth.items()}
    steps = {name: group[0].metrics["step"] for name, group in by_depth.items()}
    parity = {"solve": is_best[contrast.is_solving], "control": is_best[contrast.is_control]}
    combined = {name: rules.pooled_accuracy(group, COMBINATION).accuracy for name, group in by_depth.items()}
    shots = np.arange(accuracy.shape[1])
    return [
        plots.seed_dots(solved, "share of α solved", 0.5, "half"),
        plots.seed_lines(shots, {"2 blocks": accuracy}, "number of shots", "accuracy", chance, "chance"),
        plots.seed_dots(best, "skill", SOLVED, "solved"),
        plots.seed_lines(steps, curves, "training step", "skill", SOLVED, ""),
        plots.seed_dots(parity, "parity is best", 1 / n_splits, "chance"),
        plots.seed_dots(combined, "accuracy", chance, "guess"),
    ]


def solved_shares(points: NDArray[np.object_]) -> NDArray:
    """Share of all α at which o.o.d. tasks are solved at the end, training inputs: (seeds, n_tasks)."""
    return (map_skill(points)["ood_train"] >= SOLVED).mean(1)


def parity_is_best(runs: Sequence[Run]) -> NDArray[np.bool_]:
    """Whether no split of the numbers is clearer in the embedding than that by parity of the logarithm: (runs,)."""
    return np.array([rules.parity_rank(run)[0] == 1 for run in runs])


# --- HTML -----------------------------------------------------------------------------------------------

STYLE = """
.modgrok-cards { display: grid; gap: 0.9rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr));
  list-style: none; margin: 0.5rem 0; padding: 0; }
.modgrok-cards > li { border: 1px solid var(--pst-color-border, #c3c9d0); border-radius: 0.5rem; display: flex;
  flex-direction: column; gap: 0.35rem; margin: 0; min-width: 0; padding: 0.7rem 0.8rem; }
.modgrok-cards h3 { font-size: 1rem; line-height: 1.3; margin: 0; }
.modgrok-cards p { font-size: 0.85rem; line-height: 1.35; margin: 0; }
.modgrok-cards .verdict { border: 1px solid currentColor; border-radius: 1rem; display: inline-block;
  font-size: 0.8rem; font-weight: 600; line-height: 1.4; padding: 0 0.5rem; }
.modgrok-cards .shown { background: #00604a; border-color: #00604a; color: #fff; }
.modgrok-cards .contrary { background: #40356b; border-color: #40356b; color: #fff; }
.modgrok-cards .needs { border-style: dashed; }
.modgrok-cards details { font-size: 0.8rem; line-height: 1.35; }
.modgrok-note { color: var(--pst-color-text-muted, #57606a); font-size: 0.85rem; }
.modgrok-cards a { font-size: 0.85rem; margin-top: auto; }
.bd-main .bd-content .bd-article-container:has(.modgrok-cards) { max-width: 80rem; }
html[data-theme="dark"] .bd-content .text_html:has(.modgrok-cards) { background: none !important;
  color: inherit !important; padding: 0 !important; }
"""


def as_html(cards: Sequence[Card], note: str) -> HTML:
    """The cards, and a note below them, as HTML that follows the page's theme."""
    items = "".join(_card(number, card) for number, card in enumerate(cards, 1))
    return HTML(
        f'<style>{CSS}{STYLE}</style><ol class="modgrok-cards">{items}</ol><p class="modgrok-note">{escape(note)}</p>'
    )


def _card(number: int, card: Card) -> str:
    text, (main, *_) = card.text, card.claims.values()
    details = "".join(
        f"<p>{_badge(claim)} <b>{escape(name)}.</b> {_reason(claim)}</p>"
        for name, claim in card.claims.items()
    )
    return (
        f"<li><h3>{number}. {escape(text.title)}</h3>{without_narrow(picture(card.figure, text.alt))}"
        f"<p>{_badge(main)}</p><p>{escape(text.sentence)}</p>"
        f"<details><summary>Why this verdict</summary>{details}</details>"
        f'<a href="{text.page}.html">{escape(text.chapter)}: the evidence</a></li>'
    )


def _badge(claim: Claim) -> str:
    return f'<span class="verdict {claim.verdict.split()[0]}">{claim.verdict}, p\u00a0=\u00a0{claim.p}</span>'


def _reason(claim: Claim) -> str:
    lists = {
        name: "; ".join(f"{key} {values}" for key, values in fields.items())
        for name, fields in (("setting", claim.setting), ("measured", claim.measured))
    }
    return escape(REASONS[claim.verdict].format(**claim.rule._asdict(), **lists))
