"""The model live in the page: its answers are computed in the reader's browser, without a server or a kernel.

`ask` gives a piece of HTML that holds the model's last checkpoint and the code that runs it. The code's modules:

- `kernel.js`: the matrix product, assembled from `product.wat` by `scripts/assemble.py`;
- `transformer.js`: the forward pass, equal to `Transformer.query_logits`, with parts switched off as by
  `interventions.ablated`;
- `predictors.js`: the exact predictors of `modgrok.predictors`;
- `engine.js`: weights and answers; `state.js`: what is asked, as plain data, from and to the page's address;
- `views.js`, `flow.js`, `panel.js`, `question.js` and `live.css`: what is seen; `control.js` joins all of it.

`hero` gives the front page's piece, one question to two models (`hero.js`); `swap` a piece in which some heads look for
another query (`swap.js`).

The code is one inline module, and further checkpoints are scripts that assign a text, because a page opened from a
folder (`file://`) may neither import nor fetch. In the book the last checkpoint is such a script, too: pages stay
light, and share it.

May import analysis, data, model, predictors and storage.
"""

import base64
import json
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np
import safetensors.torch
from IPython.display import HTML

from modgrok.analysis.activations import draw_contexts
from modgrok.data import Data, grid, pretraining_tasks, split_inputs
from modgrok.live.contrast import Contrast
from modgrok.live.exchange import draw_question
from modgrok.model import n_weights
from modgrok.predictors import predictors
from modgrok.storage.files import write_atomically
from modgrok.storage.runs import Run

SHARED = ("product", "kernel", "transformer", "predictors", "engine", "state", "views")
"""The modules of every control's code, one after the other, before its own."""

CONTROL = ("flow", "panel", "question")
"""The modules that `ask` needs besides."""

LARGEST = 2_000_000
"""Weights of a model that a page can carry (6 MB of text) and a browser can ask while its reader waits."""

FOLDER = "_static/live"
"""Where, below its root, the book keeps the checkpoints that are not in the page."""


class State(NamedTuple):
    """What a control shows. A field that is not given is filled in by `ask`, and left as it is by `link`.

    Attributes:
        models: one or two: a label, or {"model": label, "step": a checkpoint, "off": parts as `interventions.ablated`
            names heads and MLPs}. Filled in: the first run's last checkpoint, with all parts.
        task: (a, b). Filled in: the one that agrees with most of the examples, or a held-out one.
        examples: (x, y, z) each, lies included. Filled in: training inputs answered by the task.
        shots: how many of them stand in front of the query. Filled in: all.
        query: (x, y) that is looked at closely.
        predictor: the exact predictor beside the models, a name of `algorithms.predictors`, whose pre-training tasks
            are the first model's. Filled in: regression.
    """

    models: Sequence[str | dict] = ()
    task: Sequence[int] = ()
    examples: Sequence[Sequence[int]] = ()
    shots: int | None = None
    query: Sequence[int] = ()
    predictor: str = ""


def ask(runs: dict[str, Run], name: str = "ask", inline: Iterable[int] = (), **state) -> HTML:
    """A control that asks trained models in the page and shows their answers to all p² queries.

    In the book all checkpoints can be chosen: its build puts them next to the pages (`write_weights`). Elsewhere,
    as in a notebook by itself, only those in the output can. In place of models with more than LARGEST weights stands
    a sentence that says so.

    Args:
        runs: label → run; all of one p.
        name: tells the controls of one page apart, in its links too.
        inline: further checkpoints' steps that the output holds.
        state: fields of `State`, in which it opens.

    Raises:
        ValueError: no runs, several p, an unknown predictor, or a number beyond p.
        TypeError: no field of `State`.
    """
    wish = State(**{"predictor": "regression"} | state)
    if len({run.config.p for run in runs.values()}) != 1:
        moduli = ", ".join(str(run.config.p) for run in runs.values()) or "no run"
        raise ValueError(f"ask needs runs of one p, got {moduli}.")
    config = next(iter(runs.values())).config
    if not offered(runs):
        return HTML(f"<p>{_left_out(runs)}</p>")
    names = predictors(config.p, pretraining_tasks(config))
    if wish.predictor not in names:
        raise ValueError(f"predictor={wish.predictor!r} is not known; choose one of {', '.join(names)}.")
    numbers = [*wish.task, *wish.query, *(number for example in wish.examples for number in example)]
    if any(not 0 <= number < config.p for number in numbers):
        raise ValueError(f"task, examples and query must be numbers in 0 … {config.p - 1}, got {numbers}.")

    task = wish.task or (_best_task(wish.examples, config.p) if len(wish.examples) else None)
    contexts, tasks = draw_contexts(Data(config), 1, task)
    a, b = (int(number) for number in tasks[0])
    limit = min(run.config.n_examples for run in runs.values()) - 1
    true_examples = [(int(x), int(y), int(a * x + b * y) % config.p) for x, y in contexts[0][:limit]]
    examples = [tuple(example) for example in wish.examples or true_examples]
    models = wish.models or list(runs)[:1]
    arguments = {
        "panels": [{"model": model} if isinstance(model, str) else model for model in models],
        "task": [a, b],
        "examples": examples,
        "shots": len(examples) if wish.shots is None else wish.shots,
        "query": list(wish.query or (2 % config.p, 1)),
        "by": wish.predictor,
    }
    return _output(runs, name, (*CONTROL, "control"), "startControl", [name, arguments], inline)


def _best_task(examples: Sequence[Sequence[int]], p: int) -> list[int]:
    """The first of the tasks that most of the examples agree with."""
    x, y, z = np.transpose(examples)
    a, b = grid(p).T[:, :, None]
    n_agreeing = ((a * x + b * y - z) % p == 0).sum(1)
    return grid(p)[n_agreeing.argmax()].tolist()


def offered(runs: dict[str, Run]) -> bool:
    """Whether a page can carry these models: none has more than LARGEST weights."""
    return all(n_weights(run.config) <= LARGEST for run in runs.values())


def _left_out(runs: dict[str, Run]) -> str:
    """Why there is no control."""
    weights = {label: n_weights(run.config) for label, run in runs.items()}
    listed = " and ".join(f"{n / 1e6:.1f} million ({escape(label)})" for label, n in weights.items())
    queries = sum(2 * n * run.config.p**2 for n, run in zip(weights.values(), runs.values(), strict=True))
    return (
        f"There is no live control here, for a page cannot carry so many weights: {listed}. That is "
        f"{sum(weights.values()) * 2 * 4 / 3e6:.0f} MB of text and, at every click, {queries / 1e9:.0f} billion "
        f"operations in the browser; the control takes up to {LARGEST / 1e6:.0f} million weights. In Python, "
        "<code>evaluate.query_grid(run.model(), [task], pairs, shots)</code> answers the same questions."
    )


def hero(contrast: Contrast, page: str = "12_ask.html") -> HTML:
    """The front page's control: one question, the answers of two models side by side.

    Its answers to the true examples are in it, for every number of shots; the weights are loaded for the first lie.

    Args:
        contrast: the question and its answers.
        page: where a whole control can be asked the same.
    """
    question = {
        "task": contrast.task,
        "examples": contrast.examples,
        "shots": len(contrast.examples),
        "query": contrast.query,
        "answers": {
            label: answers.reshape(len(answers), -1).tolist() for label, answers in contrast.answers.items()
        },
    }
    return _output(contrast.runs, "hero", ("hero",), "startHero", [question, page])


def swap(runs: dict[str, Run]) -> HTML:
    """A control that shows `mechanisms.swapped_logits`: the reader picks the query, and what the heads look for.

    Each model has its own `exchange.draw_question`. A model without a matching head is named in a sentence instead.

    Args:
        runs: label → run; all of one p.
    """
    if not offered(runs):
        return HTML(f"<p>{_left_out(runs)}</p>")
    questions = {label: draw_question(run) for label, run in runs.items()}
    sentence = "<p>{}: no head matches ratios, so there is nothing to exchange.</p>\n"
    lacking = "".join(sentence.format(escape(label)) for label in runs if questions[label] is None)
    swappable = {label: run for label, run in runs.items() if questions[label] is not None}
    if not swappable:
        return HTML(lacking)
    described = {
        label: question._asdict() | {"groups": [group._asdict() for group in question.groups]}
        for label, question in questions.items()
        if question is not None
    }
    control = _output(swappable, "swap", ("swap",), "startSwap", [described])
    return HTML(lacking + control.data, metadata=control.metadata)


def _output(
    runs: dict[str, Run],
    name: str,
    modules: tuple[str, ...],
    start: str,
    arguments: list,
    inline: Iterable[int] = (),
) -> HTML:
    """The code, and a call of its function `start` with the models and further arguments."""
    folder = Path(__file__).parent
    code = "\n".join((folder / f"{module}.js").read_text("utf8") for module in (*SHARED, *modules))
    inline_steps = {
        run.name: set() if in_book() else {*inline, run.steps[-1]} for run in runs.values() if run.steps
    }
    models = [_describe(label, run, inline_steps) for label, run in runs.items()]
    call = json.dumps([models, *arguments]).replace("<", "\\u003c")  # a label cannot end the script
    text = (
        f"<style>{(folder / 'live.css').read_text('utf8')}</style>\n"
        f'<div class="modgrok-live" data-name="{escape(name)}"></div>\n'
        f'<script type="module">\n{code}\n{start}(...{call});\n</script>'
    )
    steps_elsewhere = {
        str(run.path): [step for step in run.steps if step not in inline_steps[run.name]]
        for run in runs.values()
    }
    return HTML(text, metadata={"modgrok_live": steps_elsewhere})


def link(text: str, **state) -> str:
    """An HTML link that brings a control into a state; what is not given stays as it is.

    Args:
        text: what is clicked.
        state: as for `address`.
    """
    return f'<a href="{escape(address(**state))}">{escape(text)}</a>'


def address(page: str = "", name: str = "ask", **state) -> str:
    """The address that brings a control into a state; what is not given stays as it is.

    Args:
        page: that the control is on, such as "12_ask.html"; "" for this one.
        name: of the control.
        state: fields of `State`.

    Raises:
        TypeError: no field of `State`.
    """
    wish, fields = State(**state), []
    for model in wish.models:
        model = {"model": model} if isinstance(model, str) else model
        off = " ".join(model.get("off", ()))
        fields += [("model", model["model"]), ("step", model.get("step", "last")), ("off", off)]
    texts = {
        "task": _joined(wish.task),
        "examples": " ".join(map(_joined, wish.examples)),
        "shots": "" if wish.shots is None else wish.shots,
        "query": _joined(wish.query),
        "by": wish.predictor,
    }
    fields += [(key, text) for key, text in texts.items() if text != ""]
    return f"{page}#{name}?{urlencode(fields)}"


def in_book() -> bool:
    """Whether the book is being built, whose pages lie beside each other and share their weights."""
    return "MODGROK_BOOK" in os.environ  # set by the build


def _joined(numbers: Iterable[int]) -> str:
    return ".".join(str(int(number)) for number in numbers)


def _describe(label: str, run: Run, inline_steps: dict[str, set[int]]) -> dict:
    """What the page knows of a run."""
    if not run.steps:
        run.model()  # raises an error that says why
    steps = [
        {"step": step, "weights": weights(run, step) if step in inline_steps[run.name] else None}
        for step in run.steps
    ]
    return {
        "label": label,
        "name": run.name,
        "config": run.config.to_dict(),
        "tasks": pretraining_tasks(run.config).tolist(),
        "pairs": split_inputs(run.config)[0].tolist(),
        "steps": steps,
    }


def weights(run: Run, step: int) -> str:
    """A checkpoint in half precision, as safetensors in base64. Errors as in `Run.model`."""
    halves = {name: tensor.half() for name, tensor in run.model(step).state_dict().items()}
    return base64.b64encode(safetensors.torch.save(halves)).decode()


def write_weights(run: Run, steps: Iterable[int], site: Path) -> None:
    """Put checkpoints where the pages of a site look for them; those that are there stay as they are."""
    for step in steps:
        key = f"{run.name}-{step}"
        file = Path(site) / FOLDER / f"{key}.js"
        if not file.exists():
            line = f'(globalThis.modgrokWeights ??= {{}})["{key}"] = "{weights(run, step)}";\n'
            write_atomically(file, line)
