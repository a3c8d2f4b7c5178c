"""The control in Chromium, on a page by itself opened from a folder, the network blocked; its numbers against torch's."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_browser import chromium  # noqa: F401
from tiny import one_thread, sentence, tiny  # noqa: F401

from modgrok import interpret, live
from modgrok.algorithms import predictors
from modgrok.data import grid, pretraining_tasks
from modgrok.runs import Run
from modgrok.train import train

FIELDS = dict(steps=4, eval_every=4, n_checkpoints=2, eval_sequences=8, init_std=0.3, n_examples=6, n_embd=16)
CODE = "".join((ROOT / f"modgrok/live/{part}.js").read_text() for part in ("transformer", "predictors"))
PAGE = """<!doctype html><html lang="en" data-content_root="./"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>live</title>
<style>body {{ margin: 16px; font-family: sans-serif }} html[data-theme=dark] {{ background: #14181e; color: #eee }}</style>
</head><body>{}</body></html>"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "shallow": train(tiny(**FIELDS, p=5, depth=2), root),
        "deep": train(tiny(**FIELDS, p=5, depth=3, n_head=4), root),
        "large": train(tiny(**FIELDS | {"n_examples": 4}, p=29, depth=1), root),
    }


@pytest.fixture
def opened(chromium, tmp_path):  # noqa: F811
    """opened(body, **context options) opens a page of that body; at the end nothing may have gone wrong on it."""
    wrong, contexts = [], []

    def open_page(body, hash="", **options):
        (tmp_path / "page.html").write_text(PAGE.format(body))
        contexts.append(chromium.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda m: m.type == "error" and wrong.append(f"console: {m.text}"))
        page.on("pageerror", lambda e: wrong.append(f"script: {e}"))
        page.goto(f"file://{tmp_path}/page.html{hash}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def asked(opened, runs, tmp_path):
    """asked(**arguments of ask, hash=…, **context options) opens the control on the two models of p = 5."""

    def open_control(hash="", viewport=None, **arguments):
        both = {name: runs[name] for name in ("shallow", "deep")}
        for run in both.values():
            live.write_weights(run, run.steps[:-1], tmp_path)
        options = {"viewport": viewport} if viewport else {}
        page = opened(live.ask(both, **arguments).data, hash, **options)
        page.get_by_text(re.compile("^After")).wait_for()
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


def drawn(p, k, seed=0) -> list[list[int]]:
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
          const read = model.read(context, new Set(off));
          const seen = [];
          model.answers(read, shots, [x], [y], (b, ...kept) => seen.push(kept.map((each) => [...each])));
          return { logits: [...model.answers(read, shots, numbers, numbers)], seen };
        }""",
        [live.weights(run, run.steps[-1]), run.config.to_dict(), context, shots, list(off), list(query)],
    )


@pytest.fixture
def bare(opened):
    return opened(f"<script>{CODE}</script>")


@pytest.mark.parametrize(("name", "shots"), [("shallow", 0), ("shallow", 3), ("deep", 5), ("large", 2)])
def test_answers_are_those_of_query_logits(bare, runs, name, shots):
    run = runs[name]
    p, K = run.config.p, run.config.n_examples
    context = np.ravel(drawn(p, K - 1, shots)).tolist()
    found = torch.tensor(forward(bare, run, context, shots)["logits"]).view(p, p, p)
    expected = shipped(run).query_logits(torch.tensor(context)[None], [shots])[0, 0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1  # else anything would agree


@pytest.mark.parametrize(
    "off", [("blocks.0.head.1",), ("blocks.1.head.0", "blocks.1.head.3", "blocks.2.mlp"), ("blocks.0.mlp",)]
)
def test_switched_off_parts_are_those_of_ablated(bare, runs, off):
    run, shots = runs["deep"], 4
    p = run.config.p
    context = np.ravel(drawn(p, shots, 1)).tolist()
    found = torch.tensor(forward(bare, run, context, shots, off)["logits"]).view(p * p, p)
    model = shipped(run)
    with torch.no_grad(), interpret.ablated(model, *off) as predict:
        expected = predict(questions(context, p))[:, -1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    whole = torch.tensor(forward(bare, run, context, shots)["logits"]).view(p * p, p)
    assert (whole - found).abs().max() > 0.01


def test_attention_and_early_answers_are_those_of_interpret(bare, runs):
    run, shots, query = runs["deep"], 3, (4, 1)
    p, depth = run.config.p, run.config.depth
    context = np.ravel(drawn(p, shots, 2)).tolist()
    tokens, model = torch.tensor([context + list(query)]), shipped(run)
    names = [f"blocks.{b}.attn.pattern" for b in range(depth)]
    patterns = interpret.activations(model, tokens, names, [-1])
    early = interpret.layer_readout(model, tokens)[1:, 0, -1]
    for b, (weights, readout) in enumerate(forward(bare, run, context, shots, query=query)["seen"]):
        torch.testing.assert_close(torch.tensor(weights), patterns[names[b]].flatten(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.tensor(readout), early[b], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("p", [5, 11])
def test_predictors_are_those_of_algorithms(bare, p):
    tasks = pretraining_tasks(tiny(p=p, n_tasks=12, batch_size=12))
    exact = predictors(p, tasks)
    for seed, k in enumerate([0, 1, 2, 3, 8]):
        examples = drawn(p, k, seed)
        found = bare.evaluate(
            """([p, examples, tasks]) => Object.fromEntries(Object.entries(PREDICTORS).map(([name, of]) => {
              const predict = of(p, examples, tasks);
              return [name, allTasks(p).map(([x, y]) => predict(x, y))];
            }))""",
            [p, examples, tasks.tolist()],
        )
        assert list(found) == list(exact)
        for name, predict in exact.items():
            expected = predict(questions(np.ravel(examples).astype(int).tolist(), p))[:, -1].exp()
            torch.testing.assert_close(torch.tensor(found[name], dtype=torch.float32), expected, msg=lambda m: f"{name}, {examples}: {m}")


# --- the control ------------------------------------------------------------------------------------------


def cells(page, which: int) -> list[str]:
    """What a screen reader is told of every cell of a grid, x·p + y, by walking through it with the arrow keys."""
    told, area = {}, page.get_by_role("grid").nth(which)
    area.focus()
    for _ in range(5):
        for _ in range(5):
            label = area.get_by_role("gridcell").get_attribute("aria-label")
            x, y, says = re.match(r"x (\d+), y (\d+): (.*)", label).groups()
            told[int(x), int(y)] = says
            press(page, "ArrowUp")
        press(page, "ArrowRight")
    return [told[tuple(pair)] for pair in grid(5)]


def press(page, key):
    page.keyboard.press(key)
    page.evaluate("new Promise(requestAnimationFrame)")


def expected_cells(model, context, task) -> list[str]:
    p = model.config.p
    answers = model.query_logits(torch.tensor(context).view(1, -1), [len(context)])[0, 0].argmax(-1)
    truth = (grid(p) @ task) % p
    pairs = zip(answers.flatten().tolist(), truth, strict=True)
    return [f"{z}, {'right' if z == true else 'wrong'}" for z, true in pairs]


def status(page) -> str:
    return page.get_by_role("status").inner_text()


EXAMPLES = [[1, 2, 3], [0, 1, 4], [2, 2, 2], [4, 0, 3]]  # of z = 2x + 3y mod 5; the two in the middle are lies


def test_the_grids_show_model_truth_and_predictor(asked, runs):
    page = asked(task=(2, 3), examples=EXAMPLES)
    assert cells(page, 0) == expected_cells(shipped(runs["shallow"]), EXAMPLES, (2, 3))
    assert cells(page, 1) == [str(z) for z in (grid(5) @ (2, 3)) % 5]
    assert set(cells(page, 2)) == {"cannot tell"}  # no task agrees with the lies
    page.get_by_label("exact predictor").select_option("look-up")
    told = dict(zip(map(tuple, grid(5).tolist()), cells(page, 2), strict=True))
    assert [told[1, 2], told[0, 1], told[4, 4]] == ["3, right", "4, wrong", "cannot tell"]
