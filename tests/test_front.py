"""The front page's question, the findings and what other sites show of a page."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import PHONE
from IPython.display import HTML
from made_up import ALL, COMBINES, NOTHING, RATIOS, seeds
from test_browser import site, tabs, visit  # noqa: F401
from tiny import tiny

from modgrok import evaluate, plots
from modgrok.book import findings
from modgrok.claims.verdicts import VERDICTS, Claim, Rule
from modgrok.data import pretraining_tasks
from modgrok.live import contrast as contrast_module
from modgrok.live.contrast import contrast_depths, label_runs
from modgrok.train import train


@pytest.fixture(scope="module")
def contrast(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    fields = dict(
        steps=4, eval_every=2, n_checkpoints=2, eval_sequences=8, init_std=0.3, n_examples=6, n_embd=16
    )
    return contrast_depths({depth: [train(tiny(**fields, p=5, depth=depth), root)] for depth in (1, 2)}, 7)


def test_the_table_says_how_many_contexts_its_medians_are_taken_over(contrast):
    head, rows = contrast_module.summary(contrast)
    assert head[1] == "right answers of 25, median of 7 contexts"
    assert [row[0] for row in rows] == list(contrast.runs) and {len(row) for row in rows} == {len(head)}


def test_the_question_is_held_out_and_both_models_are_typical_in_it(contrast):
    x, y = np.mgrid[:5, :5]
    truth = (contrast.task[0] * x + contrast.task[1] * y) % 5
    distances = sum(abs(counts - np.median(counts)) for counts in contrast.n_correct.values())
    n_correct = [(answers[-1] == truth).sum() for answers in contrast.answers.values()]
    medians = [np.median(counts) for counts in contrast.n_correct.values()]
    assert len(distances) == 7 and np.abs(np.subtract(n_correct, medians)).sum() == distances.min()
    run = next(iter(contrast.runs.values()))
    assert contrast.task not in pretraining_tasks(run.config).tolist()
    assert all((contrast.task[0] * u + contrast.task[1] * v - z) % 5 == 0 for u, v, z in contrast.examples)


def test_its_query_is_answered_by_the_better_model_alone_where_there_is_one(contrast):
    x, y = np.mgrid[:5, :5]
    truth = (contrast.task[0] * x + contrast.task[1] * y) % 5
    better = max(contrast.combinations, key=contrast.combinations.get)
    worse = min(contrast.combinations, key=contrast.combinations.get)
    hits = {label: answers[-1] == truth for label, answers in contrast.answers.items()}
    differs = hits[better] & ~hits[worse]
    assert differs[tuple(contrast.query)] or (not differs.any() and contrast.query == [0, 0])


def test_its_answers_are_those_of_query_grid_after_every_number_of_shots(contrast):
    pairs = np.array(contrast.examples)[:, :2]
    for label, run in contrast.runs.items():
        for shots in (0, 2, 5):
            expected = evaluate.query_grid(run.model(), [contrast.task], pairs, [shots])[0, 0]
            np.testing.assert_array_equal(contrast.answers[label][shots], expected)


def test_the_seed_is_the_one_whose_depths_differ_most(monkeypatch):
    def run(depth, seed):
        return SimpleNamespace(config=SimpleNamespace(depth=depth, seed=seed))

    shares = {(2, 0): 0.1, (4, 0): 0.2, (2, 1): 0.3, (4, 1): 0.9, (2, 2): 0.0}
    runs = {depth: [run(depth, seed) for d, seed in shares if d == depth] for depth in (2, 4)}

    def measure(pair, n):
        combinations = {label: shares[run.config.depth, run.config.seed] for label, run in pair.items()}
        return contrast_module.Contrast(pair, [], [], [], {}, {}, combinations)

    monkeypatch.setattr(contrast_module, "_measure", measure)
    assert list(contrast_depths(runs).runs) == ["2 blocks, seed 1", "4 blocks, seed 1"]
    assert list(label_runs(runs))[:2] == ["2 blocks", "2 blocks, seed 1"]
    with pytest.raises(ValueError, match=r"^No seed has runs of 2 blocks and 4 blocks\.$"):
        contrast_depths({2: [run(2, 0)], 4: [run(4, 1)]})


# --- findings -------------------------------------------------------------------------------------------------


def claim(verdict):
    rule = Rule("It is so", "it <can>", "it does <so>", "it does not")
    return Claim(rule, verdict, 7, {"skill": "0.5"}, "seeds: 3, able to tell: 3", {"n": "40"})


def shown_card(*verdicts, note=""):
    """HTML of one card with these verdicts."""
    figure = plots.seed_dots({"a": [0.1, 0.2], "b": [0.8]}, "skill", 0.5, "solved")
    card = findings.Card("A finding.", "A number.", "04_in_context", figure)
    return findings.as_html([card], {f"1{i}": claim(verdict) for i, verdict in enumerate(verdicts)}, note)


def test_a_card_tells_verdict_number_figure_and_reason():
    card = shown_card("shown", "not shown", note="The models.")
    assert isinstance(card, HTML)
    for part in ("1. A finding.", "A number.", 'href="04_in_context.html">In context:', "The models."):
        assert part in card.data
    assert 'role="img" aria-label="skill, seed by seed"' in card.data
    visible, details = card.data.split("<details>")
    assert "p\u00a0=\u00a07: shown" in visible and "p\u00a0=\u00a07: not shown" not in visible
    assert "To be shown: it does &lt;so&gt;. Seen: skill 0.5." in details


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_a_reason_and_a_style(verdict):
    card = shown_card(verdict).data
    assert f'<span class="verdict {verdict.split()[0]}">p\u00a0=\u00a07: {verdict}</span>' in card
    assert ("for it would take this: it &lt;can&gt;. Tried: n 40." in card) == (verdict == "needs a larger p")
    assert ("Seen: skill 0.5." in card) == (
        verdict != "needs a larger p"
    )  # claim 5 goes by counts, not seeds


def test_a_cards_ink_follows_the_theme():
    card = shown_card("shown").data
    ink = plots.INK.lower()
    assert f"var(--mg-{ink[1:]}, {ink})" in card and f": {ink}" not in card.partition("</style>")[2]


def test_cards_have_the_numbers_of_the_runs():
    one_block, two_blocks = seeds(3, (NOTHING, NOTHING), depth=1), seeds(3, (ALL, ALL), depth=2, last=RATIOS)
    four_blocks = seeds(3, (ALL, NOTHING), depth=4, last=COMBINES)
    points = np.empty((3, 1, 2), dtype=object)
    points[:, 0, 0], points[:, 0, 1] = seeds(3, (NOTHING, NOTHING), n_tasks=20), two_blocks
    for run in (*one_block, *two_blocks, *four_blocks, *points.flat):
        embedding = np.eye(7, dtype=np.float32)
        run.model = lambda e=embedding: SimpleNamespace(
            embed=SimpleNamespace(weight=SimpleNamespace(detach=lambda: SimpleNamespace(numpy=lambda: e)))
        )
        run.metrics["step"] = np.arange(2)
    by_depth = np.array([two_blocks, four_blocks], dtype=object)
    models = [*one_block, *two_blocks, *four_blocks]
    runs = findings.Evidence(
        points, {1: one_block, 2: two_blocks}, {2: two_blocks, 4: four_blocks}, by_depth, models, {5: two_blocks},
        four_blocks,
    )  # fmt: skip
    cards = list(findings.cards(runs))
    numbers = [re.findall(r"-?\d\.\d\d", card.sentence) for card in cards]
    assert numbers[0] == ["1.00"] * 3 + ["0.00"] * 3  # with most tasks and with fewest
    assert numbers[2] == ["0.00"] * 3 + ["1.00"] * 3  # one block, two
    assert numbers[5] == ["0.90"] * 3 + ["0.14"] * 4  # combinations: four blocks, two, a guess
    assert "p\u00a0=\u00a07, 0 of 3 (none solved)" in cards[3].sentence
    assert len({run.config for run in runs.judged}) == len(runs.judged) == 12


def test_a_group_without_runs_says_so():
    (ax,) = plots.seed_dots({"solve": [], "control": [1, 0]}, "parity is best", 0.5, "").axes
    assert ax.texts[-1].get_text() == "none" and len(ax.lines) == 3  # the reference, a mean and its dots


def test_seed_lines_are_the_curves_of_each_group_at_its_places():
    curves = {"2 blocks": ([0, 5], [[0.1, 0.2], [0.3, 0.4]]), "4 blocks": ([0, 2, 4], [[0.5, 0.6, 0.7]])}
    (ax,) = plots.seed_lines(curves, "step", "skill", 0.5, "solved").axes
    half, *marks = ax.lines
    assert list(half.get_ydata()) == [0.5, 0.5]
    assert [list(line.get_ydata()) for line in marks] == [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6, 0.7]]
    assert [list(line.get_xdata()) for line in marks] == [[0, 5], [0, 5], [0, 2, 4]]
    assert len({line.get_linestyle() for line in marks[:2]}) == 1 != marks[2].get_linestyle()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["2 blocks", "4 blocks"]


# --- what other sites show ------------------------------------------------------------------------------------


@pytest.fixture
def from_folder(chromium, book):
    """The front page as it opens from a folder, on a phone."""
    context = chromium.new_context(viewport=PHONE, offline=True)
    page = context.new_page()
    page.goto(f"file://{book.html}/intro.html")
    yield page
    context.close()


def test_the_built_front_page_answers_over_http_and_from_a_folder(visit, from_folder):  # noqa: F811
    for page in (visit("intro"), from_folder):
        page.get_by_text("the rule gives").wait_for()
        assert page.evaluate("globalThis.modgrokLoaded.size") == 0
        page.locator(".ask-examples button").first.click()
        page.wait_for_function("globalThis.modgrokLoaded.size === 2")
        assert "could not be loaded" not in page.get_by_role("status").inner_text()
        page.locator("a.ask-more").click()
        page.locator(".ask-lie").wait_for()  # the whole control has the lie, too
        page.get_by_text(re.compile("^After")).wait_for()


@pytest.mark.parametrize("name", ["06_answers", "07_heads", "11_lies", "12_ask"])
def test_a_chapters_control_loads_when_it_is_reached(visit, name):  # noqa: F811
    page = visit(name, viewport=PHONE)
    assert page.locator(".modgrok-live").count() == 1
    page.locator(".modgrok-live").scroll_into_view_if_needed()
    page.get_by_text(re.compile("^After")).wait_for()
    assert page.evaluate("globalThis.modgrokLoaded.size") == page.locator(".ask-flow").count()
    state = {"07_heads": "[aria-checked=false]", "11_lies": ".ask-lie"}.get(name, ".ask-card")
    assert page.locator(state).count(), "it opens in the state that the text speaks of"


def test_every_page_describes_itself(book):
    pages = [
        page
        for page in book.html.glob("*.html")
        if page.stem not in ("index", "search", "genindex", "py-modindex")
    ]
    properties_by_page = {}
    for page in pages:
        head = page.read_text().split("</head>")[0]
        properties_by_page[page.stem] = dict(re.findall(r'<meta property="(og:\w+)" content="([^"]*)"', head))
        assert len(properties_by_page[page.stem]["og:description"]) > 20, page.name
        assert properties_by_page[page.stem]["og:image"].endswith("/_static/social.png")
    assert len({properties["og:title"] for properties in properties_by_page.values()}) == len(pages)
    assert (book.html / "_static/social.png").read_bytes()[16:24] == (1200).to_bytes(4) + (630).to_bytes(4)
