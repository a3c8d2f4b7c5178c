"""The live control in Chromium, on a page by itself opened from a folder, its numbers against torch's."""

import importlib.util
import re
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from conftest import PHONE, ROOT, Tabs
from nbformat.v4 import new_code_cell, new_notebook, new_output
from tiny import sentence, tiny

from modgrok import live
from modgrok.analysis import activations, interventions, mechanisms
from modgrok.book import build as book
from modgrok.config import preset
from modgrok.data import grid, pretraining_tasks
from modgrok.live.contrast import contrast_depths, draw_question
from modgrok.predictors import predictors
from modgrok.storage.runs import Run
from modgrok.train import train

FIELDS = dict(steps=4, eval_every=2, n_checkpoints=2, eval_sequences=8, init_std=0.3, n_examples=6, n_embd=16)
CODE = "".join(
    (ROOT / f"modgrok/live/{part}.js").read_text()
    for part in ("product", "kernel", "transformer", "predictors", "engine", "state")
)
PAGE = """<!doctype html><html lang="en" {}><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>live</title>
<style>body {{ margin: 16px; font-family: sans-serif }}</style>
</head><body>{}</body></html>"""


ALL_DRAWN = """new Promise((drawn) => {
  requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(drawn)));
})"""  # the frame after the answers

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "shallow": train(tiny(**FIELDS, p=5, depth=2), root),
        "deep": train(tiny(**FIELDS, p=5, depth=3, n_head=4), root),
        "large": train(tiny(**FIELDS | {"n_examples": 4}, p=29, depth=1), root),
    }


@pytest.fixture(scope="module")
def tabs(chromium) -> Tabs:
    return Tabs(chromium, ("file:", "blob:", "data:", "about:"), offline=True)


@pytest.fixture
def opened(tabs, tmp_path):
    """opened(body, **options of Tabs.open) opens a page of that body; at the end nothing may have gone wrong on it."""

    def open_page(body, hash="", in_book=True, **options):
        (tmp_path / "page.html").write_text(PAGE.format('data-content_root="./"' if in_book else "", body))
        return tabs.open(f"file://{tmp_path}/page.html{hash}", **options)

    yield open_page
    assert tabs.leave() == []


@pytest.fixture
def ask_page(opened, runs, tmp_path):
    """ask_page(**arguments of ask, hash=…) opens the control on the two models of p = 5."""

    def open_control(hash="", **arguments):
        pair = {name: runs[name] for name in ("shallow", "deep")}
        for run in pair.values():
            live.write_weights(run, run.steps[:-1], tmp_path)
        page = opened(live.ask(pair, **arguments).data, hash)
        page.get_by_text(re.compile("^After")).wait_for()
        page.evaluate(ALL_DRAWN)
        return page

    return open_control


def shipped(run: Run, step: int | None = None) -> torch.nn.Module:
    """The model with the weights that the page receives, in half precision."""
    model = run.model(step)
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    return model


def questions(context, p) -> torch.Tensor:
    """All p² queries after a context of tokens: (p², 3·k + 2)."""
    repeated = torch.tensor(context, dtype=torch.long).expand(p * p, -1)
    return torch.cat([repeated, torch.from_numpy(grid(p))], 1)


def draw_examples(p, k, seed=0) -> list[list[int]]:
    """Examples of a task, a third of them lies."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(p, size=2)
    examples = rng.integers(p, size=(k, 3))
    true = (a * examples[:, 0] + b * examples[:, 1]) % p
    examples[:, 2] = np.where(rng.random(k) < 1 / 3, examples[:, 2], true)
    return examples.tolist()


# --- the numbers ------------------------------------------------------------------------------------------


def forward(page, run, context, shots, off=(), query=(1, 2)):
    """What the page computes: logits of all queries, and attention and read-out after each block at one query."""
    return page.evaluate(
        """([text, config, context, shots, off, [x, y]]) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const model = new Transformer(readSafetensors(bytes.buffer), config);
          const numbers = [...Array(config.p).keys()];
          const reading = model.read(context.slice(0, 3 * shots), new Set(off));
          const blocks = [];
          model.answers(reading, [x], [y], (b, ...arrays) => blocks.push(arrays.map((array) => [...array])));
          return { logits: [...model.answers(reading, numbers, numbers)], blocks };
        }""",
        [live.weights(run, run.steps[-1]), run.config.to_dict(), context, shots, list(off), list(query)],
    )


@pytest.fixture
def bare(opened):
    return opened(f"<script>{CODE}</script>")


@pytest.mark.parametrize("gap", [0, 4])
def test_the_fast_product_is_the_plain_one(bare, gap):
    """Rows follow each other or have other numbers between them, which stay as they are."""
    for n, k, m in [(1, 4, 4), (5, 8, 8), (121, 16, 44), (3, 6, 8), (2, 0, 4)]:  # 6: not for the fast one
        a, w, out = (RNG.standard_normal((rows, columns + gap)) for rows, columns in ((n, k), (m, k), (n, m)))
        fast, plain = bare.evaluate(
            """([arrays, n, k, m, gap]) => {
              const memory = new WebAssembly.Memory({ initial: 1 });
              const fast = new WebAssembly.Instance(compiled, { js: { memory } }).exports.product;
              Object.assign(room, { top: 0, missing: 0, numbers: new Float32Array(memory.buffer), fast });
              const [a, w, out] = arrays.map(([rows, list]) => room.put(list, rows));
              const plain = Float32Array.from(out);
              const steps = [k, k, m].map((columns) => columns + gap);
              product(a, w, out, n, k, m, steps);
              plainProduct(a, w, plain, n, k, m, steps);
              return [[...out], [...plain]];
            }""",
            [[[len(array), array.ravel().tolist()] for array in (a, w, out)], n, k, m, gap],
        )
        out[:, :m] += a[:, :k] @ w[:, :k].T
        for product in (fast, plain):
            np.testing.assert_allclose(product[: out.size], out.ravel(), atol=1e-4)


def test_the_browser_has_the_fast_product(bare):
    assert bare.evaluate("room.clear(), room.fast !== null && room.take(1, 4).buffer === room.numbers.buffer")


def test_a_reading_keeps_what_is_as_in_the_last(bare, runs):
    run, p = runs["deep"], runs["deep"].config.p
    context = np.ravel(draw_examples(p, 4)).tolist()
    lied = [*context[:5], (context[5] + 1) % p, *context[6:]]
    switched_off = ["blocks.1.mlp"]
    requests = [
        (context, []),
        (lied, []),
        (lied[:6], []),
        (context, []),
        (context, switched_off),
        (lied, switched_off),
    ]
    readings = bare.evaluate(
        """([text, config, requests]) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const model = new Transformer(readSafetensors(bytes.buffer), config);
          const numbers = [...Array(config.p).keys()];
          const { rows } = model;
          let last = null;
          return requests.map(([tokens, off]) => {
            let read = null;
            model.rows = (table, fresh) => ((read ??= fresh.length), rows.call(model, table, fresh));
            last = model.read(tokens, new Set(off), last);
            delete model.rows;
            const fresh = model.read(tokens, new Set(off));
            return [read, ...[last, fresh].map((reading) => [...model.answers(reading, numbers, numbers)])];
          });
        }""",
        [live.weights(run, run.steps[-1]), run.config.to_dict(), requests],
    )
    assert [read for read, *_ in readings] == [12, 7, 0, 7, 12, 7], (
        "tokens from the lie on; all, for other parts"
    )
    for _, reused, fresh in readings:
        np.testing.assert_allclose(reused, fresh, atol=1e-4)


@pytest.mark.parametrize(("name", "shots"), [("shallow", 0), ("shallow", 3), ("deep", 5), ("large", 2)])
def test_answers_are_those_of_query_logits(bare, runs, name, shots):
    run = runs[name]
    p, K = run.config.p, run.config.n_examples
    context = np.ravel(draw_examples(p, K - 1, shots)).tolist()
    logits = torch.tensor(forward(bare, run, context, shots)["logits"]).view(p, p, p)
    expected = shipped(run).query_logits(torch.tensor(context)[None], [shots])[0, 0]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1  # else anything would agree


@pytest.mark.parametrize(
    "off", [("blocks.0.head.1",), ("blocks.1.head.0", "blocks.1.head.3", "blocks.2.mlp"), ("blocks.0.mlp",)]
)
def test_switched_off_parts_are_those_of_ablated(bare, runs, off):
    run, shots = runs["deep"], 4
    p = run.config.p
    context = np.ravel(draw_examples(p, shots, 1)).tolist()
    logits = torch.tensor(forward(bare, run, context, shots, off)["logits"]).view(p * p, p)
    model = shipped(run)
    with torch.no_grad(), interventions.ablated(model, *off) as predict:
        expected = predict(questions(context, p))[:, -1]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    whole = torch.tensor(forward(bare, run, context, shots)["logits"]).view(p * p, p)
    assert (whole - logits).abs().max() > 0.01


def test_attention_and_early_answers_are_those_of_the_model(bare, runs):
    run, shots, query = runs["deep"], 3, (4, 1)
    p, depth = run.config.p, run.config.depth
    context = np.ravel(draw_examples(p, shots, 2)).tolist()
    tokens, model = torch.tensor([context + list(query)]), shipped(run)
    names = [f"blocks.{b}.attn.pattern" for b in range(depth)]
    patterns = activations.activations(model, tokens, names, [-1])
    early = interventions.layer_readout(model, tokens)[1:, 0, -1]
    for b, (weights, readout) in enumerate(forward(bare, run, context, shots, query=query)["blocks"]):
        torch.testing.assert_close(torch.tensor(weights), patterns[names[b]].flatten(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.tensor(readout), early[b], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("p", [5, 11])
def test_predictors_are_those_of_algorithms(bare, p):
    tasks = pretraining_tasks(tiny(p=p, n_tasks=12, batch_size=12))
    exact = predictors(p, tasks)
    for seed, k in enumerate([0, 1, 2, 3, 8]):
        examples = draw_examples(p, k, seed)
        probabilities = bare.evaluate(
            """([p, examples, tasks]) => Object.fromEntries(Object.entries(PREDICTORS).map(([name, makePredictor]) => {
              const predict = makePredictor(p, examples, tasks);
              return [name, allTasks(p).map(([x, y]) => predict(x, y))];
            }))""",
            [p, examples, tasks.tolist()],
        )
        assert list(probabilities) == list(exact)
        for name, predict in exact.items():
            expected = predict(questions(np.ravel(examples).astype(int).tolist(), p))[:, -1].exp()
            probability = torch.tensor(probabilities[name], dtype=torch.float32)
            torch.testing.assert_close(probability, expected, msg=f"{name}, {examples}")


# --- the control ------------------------------------------------------------------------------------------


def cells(page, number: int) -> list[str]:
    """What a screen reader is told of every cell of a grid, x·p + y, by walking through it with the arrow keys."""
    labels = (
        page.get_by_role("grid")
        .nth(number)
        .evaluate(
            """async (grid) => {
          const labels = [];
          for (const key of [...Array(5)].flatMap(() => [...Array(5).fill("ArrowUp"), "ArrowRight"])) {
            grid.dispatchEvent(new KeyboardEvent("keydown", { key }));
            for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
            labels.push(grid.querySelector("[role=gridcell]").ariaLabel);
          }
          return labels;
        }"""
        )
    )
    text_by_query = dict(re.match(r"x (\d, y \d): (.*)", label).groups() for label in labels)
    return [text_by_query[f"{x}, y {y}"] for x, y in grid(5)]


def expected_cells(model, context, task, off=()) -> list[str]:
    """What `cells` gives if the control answers as torch does."""
    p = model.config.p
    with torch.no_grad(), interventions.ablated(model, *off) as predict:
        answers = predict(questions(np.ravel(context).tolist(), p))[:, -1].argmax(-1)
    pairs = zip(answers.tolist(), (grid(p) @ task) % p, strict=True)
    return [f"{z}, {'right' if z == true else 'wrong'}" for z, true in pairs]


def status(page) -> str:
    return page.get_by_role("status").inner_text()


def shows(page, text: str) -> bool:
    """Whether the page shows a text once all of it is drawn."""
    page.evaluate(ALL_DRAWN)
    return page.get_by_text(text).is_visible()


TASK, EXAMPLES = (2, 3), [[1, 2, 3], [0, 1, 4], [2, 2, 2], [4, 0, 3]]  # mod 5; the second and third are lies


def test_the_grids_show_model_truth_and_predictor(ask_page, runs):
    page = ask_page(task=TASK, examples=EXAMPLES)
    assert cells(page, 0) == expected_cells(shipped(runs["shallow"]), EXAMPLES, TASK)
    assert cells(page, 1) == [str(z) for z in (grid(5) @ TASK) % 5]
    assert shows(page, "0 of 25 right, 25 open")  # no task agrees with the lies
    page.get_by_label("exact predictor").select_option("look-up")
    text_by_query = dict(zip(map(tuple, grid(5).tolist()), cells(page, 2), strict=True))
    assert [text_by_query[1, 2], text_by_query[0, 1], text_by_query[4, 4]] == [
        "3, right",
        "4, wrong",
        "cannot tell",
    ]


def test_shots_lies_switches_and_checkpoints_change_the_answers_as_in_torch(ask_page, runs):
    page = ask_page(models=["deep"], task=TASK, examples=EXAMPLES)
    page.get_by_label("examples", exact=False).and_(page.get_by_role("slider")).press("ArrowLeft")
    page.get_by_role("button", name="example 1: 1 2 gives 3").click()
    lied = page.get_by_role("button", name="example 1: 1 2 gives 4, a lie")
    assert lied.get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="example 2: 0 1 gives 4, a lie").click()
    context = [[1, 2, 4], [0, 1, 3], [2, 2, 2]]
    assert cells(page, 0) == expected_cells(shipped(runs["deep"]), context, TASK)

    page.get_by_role("button", name="of block 1's heads keep only head 2").click()
    page.get_by_role("switch", name="block 0, MLP").click()
    off = [f"blocks.1.head.{h}" for h in (0, 1, 3)] + ["blocks.0.mlp"]
    assert cells(page, 0) == expected_cells(shipped(runs["deep"]), context, TASK, off)
    assert shows(page, "4 parts off")
    page.get_by_role("switch", name="block 1", exact=True).click()
    off = ["blocks.1", "blocks.0.mlp"]
    assert cells(page, 0) == expected_cells(shipped(runs["deep"]), context, TASK, off)
    page.get_by_role("button", name="all parts on").click()

    page.get_by_label("training step").press("Home")
    first = runs["deep"].steps[0]
    page.get_by_text(f"step {first}").wait_for()
    expected = expected_cells(shipped(runs["deep"], first), context, TASK)
    assert cells(page, 0) == expected != expected_cells(shipped(runs["deep"]), context, TASK)


def test_every_checkpoint_is_asked_the_same_question(ask_page, runs):
    page = ask_page(task=TASK, examples=EXAMPLES, query=(1, 2))
    page.get_by_role("button", name="Ask at every step").click()
    label = page.locator(".ask-history canvas[aria-label]").get_attribute("aria-label")
    for step, part in zip(runs["shallow"].steps, label.split("; "), strict=True):
        expected = expected_cells(shipped(runs["shallow"], step), EXAMPLES, TASK)
        right = sum(cell.endswith("right") for cell in expected)
        assert part == f"step {step}: {4 * right} % right, (1, 2) {expected[7].split()[-1]}"
    page.get_by_role("button", name="example 1: 1 2 gives 3").click()
    assert not page.locator(".ask-history canvas").is_visible(), "these are answers to another question"


def test_two_models_stand_side_by_side(ask_page, runs):
    page = ask_page(task=TASK, examples=EXAMPLES)
    page.get_by_role("button", name="Compare").click()
    for i, name in enumerate(["shallow", "deep"]):
        assert cells(page, i) == expected_cells(shipped(runs[name]), EXAMPLES, TASK)
    page.get_by_role("switch", name="block 0, head 0").last.click()
    assert cells(page, 1) == expected_cells(shipped(runs["deep"]), EXAMPLES, TASK, ["blocks.0.head.0"])
    page.get_by_role("button", name="Remove").click()
    assert page.get_by_role("grid").count() == 3


def test_the_query_shows_its_probabilities_and_where_heads_look(ask_page, runs):
    page, model = ask_page(task=TASK, examples=EXAMPLES, query=(3, 1)), shipped(runs["shallow"])
    tokens = torch.tensor([[*np.ravel(EXAMPLES).tolist(), 3, 1]])
    odds = model.logits_everywhere(tokens)[0, -1].softmax(-1)
    label = ", ".join(f"{z}: {100 * odd:.0f} %" for z, odd in enumerate(odds.tolist()))
    assert page.locator(".ask-part canvas").last.get_attribute("aria-label").startswith(label)
    pattern = activations.activations(model, tokens, ["blocks.1.attn.pattern"], [-1])["blocks.1.attn.pattern"]
    best = int(pattern[0, 1, 0].argmax())
    place = f"{'xyz'[best % 3]} of example {best // 3 + 1}" if best < 12 else f"the query's {'xy'[best % 3]}"
    looks = page.locator("canvas[aria-label^='block 1, head 1 looks at']").get_attribute("aria-label")
    assert looks.startswith(f"block 1, head 1 looks at {place} {100 * pattern[0, 1, 0, best]:.0f} %")


def test_typed_examples_choose_the_task_or_say_what_is_wrong(ask_page):
    page = ask_page(task=TASK)
    page.get_by_text("Type your own examples").click()
    examples_field, problem = page.get_by_label("own examples"), page.locator("details").get_by_role("alert")
    examples_field.fill("1 0 4\n0 1, 2")
    assert page.get_by_label("a of the task").input_value() == "4"
    assert page.get_by_label("b of the task").input_value() == "2"
    assert shows(page, "z = 4x + 2y mod 5") and status(page).startswith("After 2 examples.")
    for text, message in [
        ("1 2", "An example is three numbers, x y z; the last is not whole yet."),
        ("1 2 5", "“5” is not a number in 0 … 4."),
        ("1 2 3 abc", "“abc” is not a number in 0 … 4."),
        ("1 2 -3", "“-3” is not a number in 0 … 4."),
        ("1 2 3 " * 6, "At most 5 examples fit in front of the query."),
    ]:
        examples_field.fill(text)
        assert problem.inner_text() == message
    examples_field.fill("")
    assert status(page).startswith("After 0 examples.") and problem.inner_text() == ""
    examples_field.fill("1 0 2 / 1 0 2 / 0 1 3 / 1 0 4")
    assert problem.inner_text() == (
        "No task fits all of these. z = 2x + 3y fits most; the others are marked as lies."
    )
    assert page.locator(".ask-lie").all_inner_texts() == ["1 0 → 4"]
    assert page.get_by_label("a of the task").input_value() == "2"


def test_surprise_me_draws_a_held_out_task(ask_page, runs):
    page = ask_page(models=["shallow", "deep"], task=TASK)
    trained_tasks = {
        tuple(task) for run in ("shallow", "deep") for task in pretraining_tasks(runs[run].config).tolist()
    }
    for _ in range(5):
        page.get_by_role("button", name="Surprise me").click()
        a, b = (int(page.get_by_label(f"{letter} of the task").input_value()) for letter in "ab")
        assert (a, b) not in trained_tasks and shows(page, "held out from training")
        assert not page.locator(".ask-lie").count()


# --- links ------------------------------------------------------------------------------------------------


def state(page) -> list:
    """What a reader sees of the state."""
    values = page.locator("select, input[type=range]").evaluate_all("all => all.map(e => e.value)")
    pressed = page.locator("[aria-checked=false], [aria-pressed=true]").evaluate_all(
        "all => all.map(e => e.ariaLabel)"
    )
    return [values, pressed, status(page)]


def test_a_link_restores_the_whole_state(ask_page, runs):
    page = ask_page(models=["deep"], task=TASK, examples=EXAMPLES, shots=3, query=(4, 2), predictor="look-up")
    page.get_by_role("switch", name="block 2, head 1").click()
    page.get_by_role("button", name="Compare").click()
    page.get_by_label("training step").last.press("Home")
    page.get_by_text(f"step {runs['shallow'].steps[0]}").wait_for()
    page.get_by_role("button", name="Link to this").click()
    address = page.evaluate("location.hash")
    assert state(ask_page(hash=address)) == state(page)
    page.get_by_role("slider").first.press("ArrowLeft")
    assert page.evaluate("location.hash") == "", "the address holds another state than the page"


def test_a_wrong_link_changes_nothing_and_says_so(ask_page):
    options = dict(task=TASK, examples=EXAMPLES, shots=2)
    whole = state(ask_page(**options))
    page = ask_page(hash="#ask?task=9.9&query=1&%", **options)
    notice = page.locator(".ask-notice")
    assert state(page) == whole
    assert notice.inner_text() == "Not valid here, so this part of the link is ignored: task, query."
    for fields, names in [
        ("examples=1.2&shots=77", "examples, shots"),
        ("model=<i>&step=x&off=blocks.9", "model"),
        ("model=shallow&step=77&off=blocks.9", "step, part that is off"),
        ("by=toString", "predictor"),
        ("", ""),
    ]:
        page.evaluate("fields => { location.hash = `#ask?${fields}` }", fields)
        page.evaluate(ALL_DRAWN)
        assert state(page) == whole, fields
        assert notice.inner_text().partition(": ")[2].rstrip(".") == names
    page.evaluate("location.hash = '#ask?task=9.9'")
    page.evaluate(ALL_DRAWN)
    page.get_by_role("slider").first.press("ArrowLeft")
    assert not notice.is_visible(), "the reader has gone on"


def test_a_links_text_and_the_page_understand_each_other(opened, runs):
    chosen = {"model": "deep", "off": ["blocks.0", "blocks.1.attn"]}
    link = live.link(
        "<go>", models=[chosen], task=(1, 1), examples=[(1, 1, 3)], query=(0, 4), predictor="look-up"
    )
    page = opened(live.ask({n: runs[n] for n in ("shallow", "deep")}).data + link)
    page.get_by_role("link", name="<go>").click()
    page.get_by_text("After 1 example.").wait_for()
    assert page.get_by_label("first model").input_value() == "deep"
    assert page.get_by_role("button", name="example 1: 1 1 gives 3, a lie").is_visible()
    assert page.locator("[aria-checked=false]").count() == 1 + 5 + 4  # block 0 and its parts, block 1's heads
    assert page.get_by_role("gridcell").first.get_attribute("aria-label").startswith("x 0, y 4")


# --- for every reader -------------------------------------------------------------------------------------


def test_every_control_is_reached_and_named_by_keyboard(ask_page):
    page = ask_page(models=["shallow", "deep"], task=TASK, examples=EXAMPLES)
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    focused_controls = []
    while True:
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
              const e = document.activeElement;
              if (e === document.body) return null;
              return [e.ariaLabel || e.labels?.[0]?.textContent || e.textContent, e.dataset.lmSuppressShortcuts];
            }"""
        )
        if focused is None or len(focused_controls) > 99:
            break
        focused_controls.append(focused)
    names = [name for name, _ in focused_controls]
    assert all(name.strip() for name in names)
    assert all(suppressed == "true" for _, suppressed in focused_controls), "JupyterLab would take the keys"
    assert (
        len(focused_controls)
        == page.locator(".modgrok-live :is(button, select, input, summary, [role=grid])")
        .locator("visible=true")
        .count()
    )
    switch = page.get_by_role("switch", name="block 0, head 1").first
    switch.focus()
    page.keyboard.press("Space")
    assert switch.get_attribute("aria-checked") == "false" and shows(page, "1 part off")
    grids = page.get_by_role("grid")
    grids.last.focus()
    for key, place in [
        ("ArrowLeft", "x 1, y 1"),
        ("ArrowDown", "x 1, y 0"),
        ("End", "x 4, y 0"),
        ("ArrowRight", "x 0, y 0"),
    ]:
        page.keyboard.press(key)
        page.evaluate(ALL_DRAWN)
        for area in grids.all():
            assert area.get_by_role("gridcell").get_attribute("aria-label").startswith(place)
    page.get_by_role("button", name="example 1: 1 2 gives 3").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.ariaLabel") == "example 1: 1 2 gives 4, a lie"


WATCH_FONTS = """() => {
  globalThis.smallest = 99;
  const { fillText } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.fillText = function (...all) {
    smallest = Math.min(smallest, Number(/([\\d.]+)px/.exec(this.font)[1]));
    return fillText.apply(this, all);
  };
}"""


@pytest.mark.parametrize("names", [("shallow", "deep"), ("large",)])
def test_it_fits_a_phone_with_letters_that_can_be_read(opened, runs, names):
    control = live.ask({name: runs[name] for name in names}, models=names)
    page = opened(f"<script>({WATCH_FONTS})()</script>{control.data}", viewport=PHONE)
    page.get_by_text(re.compile("^After")).wait_for()
    page.evaluate(ALL_DRAWN)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("smallest") >= 9
    sizes = page.locator(".modgrok-live *").evaluate_all(
        "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 9
    for box in page.locator("canvas, button, select, input").locator("visible=true").all():
        place = box.bounding_box()
        assert place["x"] >= 0 and place["x"] + place["width"] <= 390


def test_it_follows_the_theme(ask_page):
    page = ask_page(task=TASK, examples=EXAMPLES)
    pictures = "all => all.map(canvas => canvas.toDataURL()).join()"
    light = page.locator("canvas").evaluate_all(pictures)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.evaluate("new Promise(requestAnimationFrame)")
    assert page.locator("canvas").evaluate_all(pictures) != light


def test_a_page_does_not_carry_a_model_of_the_papers_size(runs):
    run = SimpleNamespace(config=preset("paper"), name="paper", steps=[1])
    assert live.offered(runs) and not live.offered(runs | {"paper": run})
    output = live.ask({"2 < 3 blocks": run})
    assert "up to 2 million weights" in output.data and "<script" not in output.data


# --- the front page's question ----------------------------------------------------------------------------


@pytest.fixture
def question(opened, runs, tmp_path, monkeypatch):
    """question() opens the front page's control as in the book, with weights beside the page."""
    monkeypatch.setenv("MODGROK_BOOK", "1")
    contrast = contrast_depths({2: [runs["shallow"]], 3: [runs["deep"]]}, 5)
    for run in contrast.runs.values():
        live.write_weights(run, run.steps[-1:], tmp_path)

    def open_question(**options):
        page = opened(live.hero(contrast, "ask.html").data, **options)
        page.get_by_text("the rule gives").wait_for()
        return page, contrast

    return open_question


def grid_told(answers, task) -> list[str]:
    truth = (grid(5) @ task) % 5
    return [
        f"{z}, {'right' if z == t else 'wrong'}" for z, t in zip(answers.ravel().tolist(), truth, strict=True)
    ]


def test_the_question_has_its_answers_for_every_number_of_shots_without_weights(question):
    page, contrast = question()
    for shots in (5, 4, 0):
        page.get_by_role("slider").fill(str(shots))
        page.get_by_text(f"{shots} of 5 are shown").wait_for()
        for i, label in enumerate(contrast.runs):
            assert cells(page, i) == grid_told(contrast.answers[label][shots], contrast.task)
    assert page.evaluate("globalThis.modgrokLoaded.size") == 0


def test_a_lie_asks_the_models_as_torch_does_and_can_be_mended(question):
    page, contrast = question()
    page.locator(".ask-examples button").first.click()
    page.locator(".ask-lie").wait_for()
    page.wait_for_function("globalThis.modgrokLoaded.size === 2")
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
    x, y, z = contrast.examples[0]
    lie = page.get_by_role("button", name=re.compile("^example 1: .*, a lie$")).text_content()
    context = [[x, y, int(lie[-1])], *contrast.examples[1:]]
    assert context[0][2] != z
    for i, run in enumerate(contrast.runs.values()):
        assert cells(page, i) == expected_cells(shipped(run), context, contrast.task)
    page.get_by_role("button", name="mend all lies").click()
    assert not page.locator(".ask-lie").count()
    for i, answers in enumerate(contrast.answers.values()):
        assert cells(page, i) == grid_told(answers[-1], contrast.task)


def test_the_question_can_be_taken_to_the_whole_control(question, opened):
    page, contrast = question()
    target = page.get_by_role("link", name="Ask the models yourself").get_attribute("href")
    assert target.startswith("ask.html#ask?")
    whole = opened(live.ask(contrast.runs).data, target.removeprefix("ask.html"))
    whole.get_by_text(re.compile("^After")).wait_for()
    whole.evaluate(ALL_DRAWN)
    task = [whole.get_by_label(f"{letter} of the task").input_value() for letter in "ab"]
    assert task == [str(n) for n in contrast.task] and not whole.locator(".ask-notice").is_visible()
    for i, label in enumerate(contrast.runs):
        assert cells(whole, i) == grid_told(contrast.answers[label][-1], contrast.task)


# --- the query swap ---------------------------------------------------------------------------------------


SWAPPED = {"first": [(1, 0)], "others": [(1, 1), (1, 3), (2, 2)]}


@pytest.fixture
def swapping(opened, runs, monkeypatch):
    """swapping() opens the control of the query swap, with groups of heads in two blocks."""
    groups = [{"name": name, "heads": heads} for name, heads in SWAPPED.items()]
    question = {"task": list(TASK), "examples": TRUE_EXAMPLES, "query": [2, 4], "groups": groups}
    monkeypatch.setattr(live, "draw_question", lambda run: question)

    def open_swap(**options):
        page = opened(live.swap({"deep": runs["deep"]}).data, **options)
        page.get_by_text(re.compile("^Asked")).wait_for()
        return page

    return open_swap


TRUE_EXAMPLES = [[1, 2, 3], [0, 1, 3], [3, 3, 0], [4, 0, 3]]


def expected_logits(run, query, heads) -> torch.Tensor:
    """The `swapped_logits` of a query for every donor, p² × p."""
    donors = questions(np.ravel(TRUE_EXAMPLES).tolist(), 5)
    tokens = torch.cat([donors[:, :-2], torch.tensor([query]).expand(25, -1)], 1)
    unused = torch.zeros(25, dtype=torch.long)
    swap = mechanisms.Swap(tokens, donors, unused, unused, unused)
    return mechanisms.swapped_logits(shipped(run), swap, heads)


def expected_swaps(run, query, heads) -> list[str]:
    """What `cells` gives for the right grid, judged by (y / y_j)·z_j."""
    answers, slope = expected_logits(run, query, heads).argmax(-1).tolist(), {}
    for x, y, z in (example for example in TRUE_EXAMPLES if example[1]):
        for c in range(1, 5):
            slope[c * x % 5, c * y % 5] = pow(y, -1, 5) * z
    predictions = [slope[x, y] * query[1] % 5 if (x, y) in slope and y else None for x, y in grid(5).tolist()]
    assert predictions.count(None) == 13
    return [
        str(z) if prediction is None else f"{z}, {'right' if z == prediction else 'wrong'}"
        for z, prediction in zip(answers, predictions, strict=True)
    ]


@pytest.mark.parametrize("heads", SWAPPED.values())
def test_swapped_logits_are_those_of_torch(opened, runs, heads):
    code = CODE + (ROOT / "modgrok/live/swap.js").read_text()
    run, query = runs["deep"], [2, 4]
    page = opened(f"<script>{code}</script>")
    logits = page.evaluate(
        """([text, config, context, query, heads]) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const model = new Transformer(readSafetensors(bytes.buffer), config);
          const reading = model.read(context);
          const donors = [...Array(config.p ** 2).keys()];
          return [...swappedLogits(model, reading, query, donors, heads, donatedQueries(model, reading))];
        }""",
        [
            live.weights(run, run.steps[-1]),
            run.config.to_dict(),
            np.ravel(TRUE_EXAMPLES).tolist(),
            query,
            heads,
        ],
    )
    expected = expected_logits(run, query, heads)
    torch.testing.assert_close(torch.tensor(logits).view(25, 5), expected, atol=1e-4, rtol=1e-4)
    assert expected.std(0).min() > 1e-3, "donors differ"


def test_the_grids_show_what_swapped_heads_answer(swapping, runs):
    page, run = swapping(), runs["deep"]
    grids = [cells(page, 1)]
    page.get_by_label("heads that look for").select_option("others")
    grids.append(cells(page, 1))
    assert grids == [expected_swaps(run, [2, 4], heads) for heads in SWAPPED.values()]
    assert cells(page, 0) == expected_cells(shipped(run), TRUE_EXAMPLES, TASK)


def test_one_click_makes_the_heads_look_for_another_ratio(swapping, runs):
    page = swapping()
    assert status(page).startswith("Asked 2 4, the heads look for 2 4. Example 1 2 → 3 has that ratio: ")
    grids = page.get_by_role("grid")
    grids.nth(1).press("ArrowLeft")
    grids.nth(1).press("ArrowLeft")  # 0 4
    page.evaluate(ALL_DRAWN)
    assert "look for 0 4. Example 0 1 → 3 has that ratio: predicted is (4 / 1) · 3 = 2." in status(page)
    assert page.locator(".ask-matching").all_inner_texts() == ["0 1 → 3"]
    answer = int(re.search(r"The model says (\d)", status(page))[1])
    assert str(answer) == expected_swaps(runs["deep"], [2, 4], SWAPPED["first"])[4][0]
    grids.nth(1).press("PageDown")
    page.evaluate(ALL_DRAWN)
    assert "Nothing is predicted" in status(page)
    grids.nth(0).press("ArrowRight")  # another question: nothing is exchanged
    page.evaluate(ALL_DRAWN)
    assert status(page).startswith("Asked 3 4, the heads look for 3 4. Nothing is predicted")


def test_the_swap_shows_where_its_heads_look(swapping, runs):
    page, model = swapping(), shipped(runs["deep"])
    tokens = torch.tensor([[*np.ravel(TRUE_EXAMPLES).tolist(), 2, 4]])
    pattern = activations.activations(model, tokens, ["blocks.1.attn.pattern"], [-1])["blocks.1.attn.pattern"]
    weights = pattern[0, 0, 0]  # nothing is exchanged yet
    label = page.locator(".ask-part canvas").get_attribute("aria-label")
    best = int(weights.argmax())
    assert label == f"Head 1.0 looks at {tokens[0, best]}: {100 * weights[best]:.0f} %."


def test_a_model_without_a_matching_head_is_named_in_a_sentence(runs):
    control = live.swap({"<deep>": runs["deep"]})
    assert control.data == "<p>&lt;deep&gt;: no head matches ratios, so there is nothing to exchange.</p>\n"


def test_the_swap_asks_for_a_multiple_of_an_example(runs, monkeypatch):
    heads = {"matching heads": [(1, 1)], "the other heads": [(1, 0)]}
    monkeypatch.setattr("modgrok.live.contrast.reading_heads", lambda _: heads)
    (a, b), examples, (x, y), groups = draw_question(runs["deep"]).values()
    assert all(z == (a * u + b * v) % 5 for u, v, z in examples) and len(examples) == 4
    assert any((2 * u % 5, 2 * v % 5) == (x, y) for u, v, _ in examples if v)
    assert [group["name"] for group in groups] == ["matching heads (1.1)", "the other heads (1.0)"]


# --- around it --------------------------------------------------------------------------------------------


def test_a_control_far_below_waits_for_its_reader(opened, runs):
    space = '<div style="height: 4000px"></div>'
    body = f"{space}{live.ask({'deep': runs['deep']}, task=TASK, examples=EXAMPLES).data}"
    page = opened(body)
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 200))")
    assert page.evaluate("globalThis.modgrokLoaded.size") == 0
    page.evaluate("scrollTo(0, 3900)")
    page.get_by_text(re.compile("^After 4")).wait_for()
    linked = opened(body, "#ask?task=1.1&examples=1.1.2")
    linked.get_by_text(re.compile("^After 1")).wait_for()
    assert linked.evaluate("scrollY") > 3000


def test_controls_of_one_page_share_weights(opened, runs):
    controls = [live.ask({"deep": runs["deep"]}, name=name).data for name in ("one", "two")]
    page = opened("".join(controls))
    page.wait_for_function(
        "document.querySelectorAll('.modgrok-live [role=status]:not(:empty)').length === 2"
    )
    assert page.evaluate("globalThis.modgrokLoaded.size") == 1


def test_in_the_book_all_weights_stand_beside_the_page(runs, monkeypatch):
    run = runs["deep"]
    outside = live.ask({"deep": run})
    monkeypatch.setenv("MODGROK_BOOK", "1")
    inside = live.ask({"deep": run})
    assert live.weights(run, run.steps[-1]) in outside.data and len(inside.data) < len(outside.data) / 1.2
    assert inside.metadata["modgrok_live"][str(run.path)] == run.steps
    assert outside.metadata["modgrok_live"][str(run.path)] == run.steps[:-1]


def test_examples_alone_choose_the_task_that_most_agree_with(runs):
    examples = [(1, 0, 2), (0, 1, 3), (1, 1, 0), (2, 2, 1)]  # of (2, 3), the last a lie
    assert '"task": [2, 3]' in live.ask({"deep": runs["deep"]}, examples=examples).data


def test_outside_the_book_only_the_step_in_the_output_is_offered(opened, runs):
    page = opened(live.ask({"</script><i>": runs["shallow"]}).data, in_book=False)
    page.get_by_text(re.compile("^After")).wait_for()
    assert not page.get_by_label("training step").is_visible()
    assert page.get_by_label("first model").input_value() == "</script><i>"


def test_wrong_arguments_are_refused_in_a_sentence(runs):
    with pytest.raises(ValueError) as error:
        live.ask({name: runs[name] for name in ("shallow", "large")})
    assert sentence(error) == "ask needs runs of one p, got 5, 29."
    with pytest.raises(ValueError) as error:
        live.ask({"a": runs["shallow"]}, predictor="guess")
    assert "'guess'" in sentence(error) and "ratio matching" in sentence(error)
    with pytest.raises(ValueError) as error:
        live.ask({"a": runs["shallow"]}, examples=[(1, 2, 5)])
    assert "0 … 4" in sentence(error)
    for refuses in (lambda: live.ask({"a": runs["shallow"]}, shot=3), lambda: live.link("text", shot=3)):
        with pytest.raises(TypeError, match="unexpected keyword argument 'shot'"):
            refuses()


def test_the_book_puts_the_other_checkpoints_beside_its_pages(runs, tmp_path):
    run = runs["deep"]
    (tmp_path / "book").mkdir()
    control = live.ask({"deep": run})
    output = new_output("display_data", {"text/html": control.data}, metadata={"text/html": control.metadata})
    nbformat.write(new_notebook(cells=[new_code_cell(outputs=[output])]), tmp_path / "book/page.ipynb")
    book.write_weights(SimpleNamespace(srcdir=tmp_path / "book", outdir=tmp_path / "out"))
    written = sorted((tmp_path / "out/_static/live").iterdir())
    assert [file.name for file in written] == [f"{run.name}-{step}.js" for step in run.steps[:-1]]
    before = [file.stat().st_mtime_ns for file in written]
    book.write_weights(SimpleNamespace(srcdir=tmp_path / "book", outdir=tmp_path / "out"))
    assert [file.stat().st_mtime_ns for file in written] == before


def test_the_product_is_assembled_from_its_text():
    pytest.importorskip("wasmtime")
    spec = importlib.util.spec_from_file_location("assemble", ROOT / "scripts/assemble.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "modgrok/live/product.js").read_text("utf8") == script.assemble()
