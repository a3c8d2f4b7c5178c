"""The findings at a glance: a card for each of the paper's six claims, filled from runs."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure
from numpy.typing import NDArray

from modgrok import plots
from modgrok.analysis import structure
from modgrok.analysis.skill import SOLVED, map_skill, novel_at_end, ood_stop, skill_curve
from modgrok.analysis.stats import SHARE
from modgrok.book.chapter import Chapter
from modgrok.claims import rules as claims
from modgrok.claims.verdicts import Claim, contrasted, distinct, interval, share
from modgrok.config import PRESETS, preset
from modgrok.evaluate import COMBINATION
from modgrok.storage.find import finished_runs
from modgrok.storage.runs import Run
from modgrok.widgets.svg import CSS, picture, without_narrow


class Card(NamedTuple):
    """A finding.

    Attributes:
        title: the claim in a sentence.
        number: what was measured, with its 95 % interval, in a sentence.
        figure: a small one, with the numbers that decide.
        shows: what the figure shows, for readers who do not see it.
        claims: name → the verdicts that it stands for, the name empty if there is one alone.
        page: where more is told, without ending.
        chapter: what that page is called.
    """

    title: str
    number: str
    figure: Figure
    shows: str
    claims: dict[str, Claim]
    page: str
    chapter: str


class Evidence(NamedTuple):
    """The runs that the claims are put to; p may differ from one to the next.

    Attributes:
        points: (seeds, alphas, n_tasks), the map of tasks and inputs.
        least: 1 and 2 blocks → runs, seed by seed.
        deeper: 2 and another number of blocks → runs, seed by seed.
        lasting: (depths, seeds), another setting to ask whether generalisation lasts.
        together: runs of one p that keep their weights, to be judged together; see `distinct`.
        smaller: p of smaller presets → such runs of that p, for what is asked of embeddings alone.
    """

    points: NDArray[np.object_]
    least: Mapping[int, Sequence[Run]]
    deeper: Mapping[int, Sequence[Run]]
    lasting: NDArray[np.object_]
    together: Sequence[Run]
    smaller: Mapping[int, Sequence[Run]]

    @property
    def every(self) -> list[Run]:
        """All of them, in a row, each once."""
        groups = (
            self.points.flat,
            *self.least.values(),
            *self.deeper.values(),
            self.lasting.flat,
            self.together,
            *self.smaller.values(),
        )
        return list({run.config: run for group in groups for run in group}.values())


def gather(page: Chapter, deep: int = 4) -> Evidence:
    """The runs of a chapter's parameters that its claims are put to.

    Each claim is judged at the largest p, up to that of the preset, that has `n_seeds` seeds of every depth that the
    claim contrasts; of the map, `n_seeds_map` at each of its points. Claim 5 takes all finished runs of the p at which
    the depths are compared, and its half about embeddings those of each smaller p as well.

    Args:
        page: has the parameters n_seeds and n_seeds_map.
        deep: blocks that are set beside two.

    Raises:
        FileNotFoundError: no p has what a claim needs.
    """
    deeper = page.by_depth(2, deep)
    lasting = page.largest(lambda at: at.sweep("lasting"))
    p = deeper[2][0].config.p
    smaller = {preset(name).p for name in PRESETS if preset(name).p < p}

    def with_weights(p: int) -> list[Run]:
        return distinct([run for run in finished_runs(p, page.parameters["root"]) if run.steps])

    return Evidence(
        page.largest(lambda at: at.sweep("map", "n_seeds_map")).transpose(2, 1, 0),
        page.by_depth(1, 2),
        deeper,
        lasting.reshape(len(lasting), -1),
        with_weights(p),
        {q: runs for q in sorted(smaller, reverse=True) if (runs := with_weights(q))},
    )


def judge(runs: Evidence) -> dict[str, Claim]:
    """The verdicts on all claims, by the name that their part has on a card."""
    (two, deep), together, lasting = runs.deeper.values(), runs.together, runs.lasting
    return {
        "more tasks": claims.more_tasks(runs.points),
        "four phases": claims.four_phases(runs.points),
        "in context": claims.in_context(two),
        "two blocks": claims.two_blocks(*runs.least.values()),
        "transience": claims.transience(two, deep),
        "transience, test inputs": claims.transience(two, deep, "ood_test"),
        **{
            f"transience, fewer inputs{'' if i < 1 else f' {i}'}": claims.transience(lasting[0], group)
            for i, group in enumerate(lasting[1:])
        },
        "parity of the logarithm": claims.parity(together),
        **{
            f"parity of the logarithm, smaller p{'' if i < 1 else f' {i}'}": claims.parity(of)
            for i, of in enumerate(runs.smaller.values())
        },
        "waves of the logarithm": claims.waves(together),
        "likeness by ratio": claims.ratios(together),
        "combination": claims.combination(two, deep),
        "shift with shots": claims.shift(two, deep),
    }


def cards(judged: Mapping[str, Claim], runs: Evidence) -> list[Card]:
    """A card a claim, with the verdicts that `judge` gives of the same runs."""
    (two, deep), together, points = runs.deeper.values(), runs.together, runs.points
    n_deep, chance = deep[0].config.depth, 1 / two[0].config.p

    def of(*names: str) -> dict[str, Claim]:
        return {name if len(names) > 1 else "": judged[name] for name in names}

    def dots(groups: Mapping, line: float, ylabel: str, name: str) -> Figure:
        return plots.seed_dots(dict(groups), line, ylabel, name)

    solved = (map_skill(points)["ood_train"] >= SOLVED).mean(1)  # (seeds, n_tasks), over all α
    tasks = [run.config.n_tasks for run in points[0, 0]]
    shots = np.stack([novel_at_end(run, "ood_train")[0] for run in two])  # (seeds, K)
    best = {plots.blocks(depth): [ood_stop(run).best for run in group] for depth, group in runs.least.items()}
    lost = {
        inputs: ", ".join(
            f"{plots.blocks(group[0].config.depth)} {interval([stop.best - stop.final for stop in stops])}"
            for group in (deep, two)
            if (stops := [ood_stop(run, name) for run in group])
        )
        for name, inputs in claims.INPUTS.items()
    }
    along = {plots.blocks(group[0].config.depth): group for group in (two, deep)}
    odd_even = np.array([structure.parity_rank(_embedding(run), run.config.p)[0] == 1 for run in together])
    able, control = contrasted(together)
    both = {"solve": able} | ({"control": control} if control.any() else {})
    combined = {plots.blocks(group[0].config.depth): _combinations(group) for group in (two, deep)}
    a, b = combined.values()
    return [
        Card(
            "With more training tasks, models come to solve tasks that they never saw.",
            f"Share of the values of α at which unseen tasks are solved: {interval(solved[:, -1], SHARE)} with "
            f"{tasks[-1]} training tasks, {interval(solved[:, 0], SHARE)} with {tasks[0]}.",
            dots(
                {f"{n} tasks": of_n for n, of_n in zip(tasks, solved.T, strict=True)},
                0.5,
                "share of α solved",
                "half",
            ),
            "the share of α at which unseen tasks are solved, for each number of training tasks, a dot a seed",
            of("more tasks", "four phases"),
            "03_phases",
            "Phases",
        ),
        Card(
            "They learn these tasks from the examples in front of the question.",
            f"Accuracy on unseen tasks rises from {interval(shots[:, 0], SHARE)} without an example to "
            f"{interval(shots[:, -1], SHARE)} after {shots.shape[1] - 1}.",
            plots.seed_lines(
                np.arange(shots.shape[1]),
                {"2 blocks": shots},
                chance,
                "number of shots",
                "accuracy",
                "chance",
            ),
            "accuracy on unseen tasks by number of shots, a line a seed",
            of("in context"),
            "04_in_context",
            "In context",
        ),
        Card(
            "It takes two blocks; one is not enough.",
            "Skill on unseen tasks, stopped early: "
            + ", ".join(f"{name} {interval(values)}" for name, values in best.items())
            + ".",
            dots(best, SOLVED, "skill", "solved"),
            "skill on unseen tasks of one block and of two, a dot a seed",
            of("two blocks"),
            "05_depth",
            "Depth",
        ),
        Card(
            f"With {n_deep} blocks the ability fades when training goes on; with 2 it stays.",
            f"Skill lost since the best moment: {'; '.join(f'{inputs}, {of}' for inputs, of in lost.items())}.",
            plots.seed_lines(
                {name: group[0].metrics["step"] for name, group in along.items()},
                {name: [skill_curve(run, "ood_train") for run in group] for name, group in along.items()},
                SOLVED,
                "training step",
                "skill",
            ),
            f"skill on unseen tasks, training inputs, along training, 2 blocks and {n_deep}, a line a seed",
            of(*(name for name in judged if name.startswith("transience"))),
            "05_depth",
            "Depth",
        ),
        Card(
            "Inside, numbers are ordered by their logarithm.",
            "The best of all ways to halve the numbers is by the parity of the logarithm in "
            f"{share(odd_even[able])} of the models that solve unseen tasks; "
            + (
                f"of those that learned their own tasks alone, in {share(odd_even[control])}."
                if control.any()
                else "none learned its own tasks alone, to compare with."
            ),
            dots(
                {name: odd_even[of] for name, of in both.items()},
                1 / structure.parity_rank(_embedding(together[0]), together[0].config.p)[1],
                "parity is best",
                "chance",
            ),
            "share of models whose embedding splits best by parity of the logarithm, those that solve and, if there "
            "are any, those that learned their own tasks alone",
            of(
                *(name for name in judged if name.startswith("parity")),
                "waves of the logarithm",
                "likeness by ratio",
            ),
            "07_heads",
            "Heads",
        ),
        Card(
            f"2 blocks match ratios; {n_deep} also combine examples.",
            f"On questions that need a combination: {n_deep} blocks {interval(b, SHARE)}, 2 blocks "
            f"{interval(a, SHARE)}, a guess {chance:.2f}.",
            dots(combined, chance, "accuracy", "guess"),
            f"accuracy on unseen tasks' questions that need a combination, 2 blocks and {n_deep}, a dot a seed",
            of("combination", "shift with shots"),
            "06_answers",
            "Answers",
        ),
    ]


def _embedding(run: Run) -> NDArray:
    return run.model().embed.weight.detach().numpy()


def _combinations(runs: Sequence[Run]) -> list[float]:
    """Accuracy at the end on o.o.d. queries (training inputs) that need a combination, all shots together."""
    return [
        run.correct["ood_train"][-1, COMBINATION].sum() / max(run.queries["ood_train"][COMBINATION].sum(), 1)
        for run in runs
    ]


STYLE = """
.modgrok-cards { display: grid; gap: 0.9rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr));
  list-style: none; margin: 0.5rem 0; padding: 0; }
.modgrok-cards > li { border: 1px solid var(--pst-color-border, #c3c9d0); border-radius: 0.5rem; display: flex;
  flex-direction: column; gap: 0.35rem; margin: 0; min-width: 0; padding: 0.7rem 0.8rem; }
.modgrok-cards h3 { font-size: 1rem; line-height: 1.3; margin: 0; }
.modgrok-cards p { font-size: 0.85rem; line-height: 1.35; margin: 0; }
.modgrok-cards .verdict { border: 1px solid currentColor; border-radius: 1rem; display: inline-block;
  font-size: 0.8rem; font-weight: 600; line-height: 1.4; margin: 0.1rem 0.3rem 0.1rem 0; padding: 0 0.5rem; }
.modgrok-cards .shown { background: #00604a; border-color: #00604a; color: #fff; }
.modgrok-cards .contrary { background: #40356b; border-color: #40356b; color: #fff; }
.modgrok-cards details { font-size: 0.8rem; line-height: 1.35; }
.modgrok-note { color: var(--pst-color-text-muted, #57606a); font-size: 0.85rem; }
.modgrok-cards a { font-size: 0.85rem; margin-top: auto; }
.bd-main .bd-content .bd-article-container:has(.modgrok-cards) { max-width: 80rem; }
html[data-theme="dark"] .bd-content .text_html:has(.modgrok-cards) { background: none !important;
  color: inherit !important; padding: 0 !important; }
"""


def shown(of: Sequence[Card], note: str) -> HTML:
    """The cards, and a note below them, as HTML that follows the page's theme."""
    items = "".join(map(_card, of, range(1, len(of) + 1)))
    return HTML(
        f'<style>{CSS}{STYLE}</style><ol class="modgrok-cards">{items}</ol><p class="modgrok-note">{escape(note)}</p>'
    )


def _card(card: Card, number: int) -> str:
    def badge(name: str, claim: Claim) -> str:
        text = f"{name}: {claim.verdict}, p = {claim.p}".removeprefix(": ")
        return f'<span class="verdict {claim.verdict.split()[0]}">{escape(text)}</span>'

    missing = {name: claim for name, claim in card.claims.items() if claim.verdict != "shown"}
    wanted = "".join(
        f"<p><b>{escape((name or claim.verdict).capitalize())}.</b> To be shown: {escape(claim.agrees)}. "
        f"Measured ({escape(claim.units)}): {escape(claim.measured)}.</p>"
        for name, claim in missing.items()
    )
    disagrees = f"<details><summary>What disagrees</summary>{wanted}</details>" if missing else ""
    return (
        f"<li><h3>{number}. {escape(card.title)}</h3>{without_narrow(picture(card.figure, card.shows))}"
        f"<p>{''.join(badge(*item) for item in card.claims.items())}</p><p>{escape(card.number)}</p>{disagrees}"
        f'<a href="{card.page}.html">{escape(card.chapter)}: the evidence</a></li>'
    )
