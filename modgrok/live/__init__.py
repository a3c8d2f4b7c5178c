"""The model live in the page: its answers are computed in the reader's browser, without a server or a kernel.

`ask` gives a piece of HTML that holds the model's last checkpoint and the code that runs it:

- `transformer.js`: the forward pass, `Transformer.query_logits` with the parts of `interventions.ablated` switched off;
- `kernel.js`: its matrix product;
- `predictors.js`: the exact predictors of `algorithms`;
- `state.js`, `views.js`, `flow.js`, `control.js` and `live.css`: what the reader sees and moves.

`hero` gives the front page's piece, one question to two models (`hero.js`).

The code is one inline module, and further checkpoints are scripts that assign a text, because a page opened from a
folder (`file://`) may neither import nor fetch. In the book the last checkpoint is such a script, too: pages stay
light, and share it.

May import everything but the book's build, scale and the command line.
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
from modgrok.live.duel import Duel
from modgrok.model import n_weights
from modgrok.predictors import predictors
from modgrok.storage.files import write_atomically
from modgrok.storage.runs import Run

SHARED = ("kernel", "transformer", "predictors", "state", "views")
"""The modules of every control's code, which are written one after the other, before its own."""

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
    models, task, examples, shots, query, predictor = State(**{"predictor": "regression"} | state)
    if len({run.config.p for run in runs.values()}) != 1:
        given = ", ".join(str(run.config.p) for run in runs.values()) or "no run"
        raise ValueError(f"ask needs runs of one p, got {given}.")
    config = next(iter(runs.values())).config
    if not offered(runs):
        return HTML(f"<p>{_left_out(runs)}</p>")
    known = predictors(config.p, pretraining_tasks(config))
    if predictor not in known:
        raise ValueError(f"predictor={predictor!r} is not known; choose one of {', '.join(known)}.")
    numbers = [*task, *query, *(number for example in examples for number in example)]
    if any(not 0 <= number < config.p for number in numbers):
        raise ValueError(f"task, examples and query must be numbers in 0 … {config.p - 1}, got {numbers}.")

    if len(examples) and not len(task):
        x, y, z = np.transpose(examples)
        fits = (
            (np.outer(grid(config.p)[:, 0], x) + np.outer(grid(config.p)[:, 1], y) - z) % config.p == 0
        ).sum(1)
        task = grid(config.p)[fits.argmax()].tolist()
    pairs, tasks = draw_contexts(Data(config), 1, task or None)
    a, b = (int(number) for number in tasks[0])
    most = min(run.config.n_examples for run in runs.values()) - 1
    drawn = [(int(x), int(y), int(a * x + b * y) % config.p) for x, y in pairs[0][:most]]
    examples = [tuple(example) for example in examples or drawn]
    state = {
        "panels": [{"model": m} if isinstance(m, str) else m for m in models or list(runs)[:1]],
        "task": [a, b],
        "examples": examples,
        "shots": len(examples) if shots is None else shots,
        "query": list(query or (2 % config.p, 1)),
        "by": predictor,
    }
    return _output(runs, name, ("flow", "control"), "start", [name, state], inline)


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


def hero(asked: Duel, page: str = "12_ask.html") -> HTML:
    """The front page's control: one question, the answers of several models side by side.

    Its answers to the true examples are in it, for every number of shots; weights are asked for by the first lie.

    Args:
        asked: the question and its answers.
        page: where a whole control can be asked the same.
    """
    state = {
        "task": asked.task,
        "examples": asked.examples,
        "shots": len(asked.examples),
        "query": asked.query,
        "answers": {
            label: answers.reshape(len(answers), -1).tolist() for label, answers in asked.answers.items()
        },
    }
    return _output(asked.runs, "hero", ("hero",), "startHero", [state, page])


def _output(
    runs: dict[str, Run],
    name: str,
    modules: tuple[str, ...],
    start: str,
    given: list,
    inline: Iterable[int] = (),
) -> HTML:
    """The code, and a call of the function `start` with the models and what is given."""
    here = Path(__file__).parent
    code = "\n".join((here / f"{module}.js").read_text() for module in (*SHARED, *modules))
    held = {run.name: set() if in_book() else {*inline, run.steps[-1]} for run in runs.values() if run.steps}
    described = [_described(label, run, held) for label, run in runs.items()]
    arguments = json.dumps([described, *given]).replace("<", "\\u003c")  # a label cannot end the script
    text = (
        f"<style>{(here / 'live.css').read_text()}</style>\n"
        f'<div class="modgrok-live" data-name="{name}"></div>\n'
        f'<script type="module">\n{code}\n{start}(...{arguments});\n</script>'
    )
    asked = {str(run.path): [s for s in run.steps if s not in held[run.name]] for run in runs.values()}
    return HTML(text, metadata={"modgrok_live": asked})


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
    of, fields = State(**state), []
    for model in of.models:
        model = {"model": model} if isinstance(model, str) else model
        off = " ".join(model.get("off", ()))
        fields += [("model", model["model"]), ("step", model.get("step", "last")), ("off", off)]
    given = {
        "task": _joined(of.task),
        "examples": " ".join(map(_joined, of.examples)),
        "shots": "" if of.shots is None else of.shots,
        "query": _joined(of.query),
        "by": of.predictor,
    }
    fields += [(key, value) for key, value in given.items() if value != ""]
    return f"{page}#{name}?{urlencode(fields)}"


def in_book() -> bool:
    """Whether the book is being built, whose pages lie beside each other and share their weights."""
    return "MODGROK_BOOK" in os.environ  # set by the build


def _joined(numbers: Iterable[int]) -> str:
    return ".".join(str(int(number)) for number in numbers)


def _described(label: str, run: Run, held: dict[str, set[int]]) -> dict:
    """What the page knows of a run."""
    if not run.steps:
        run.model()  # says why
    steps = [{"step": s, "weights": weights(run, s) if s in held[run.name] else None} for s in run.steps]
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
