"""The model live in the page: its answers are computed in the reader's browser, without a server or a kernel.

`ask` gives HTML with the model's last checkpoint and the code that runs it, `hero` the front page's question to two
models, `swap` a control in which some heads look for another query. The modules of the code:

- `kernel.js`: the matrix product, assembled from `product.wat` by `scripts/assemble.py`;
- `transformer.js`: the forward pass, equal to `Transformer.query_logits`, with parts switched off as by
  `interventions.ablated`; `predictors.js`: the exact predictors of `modgrok.predictors`;
- `engine.js`: weights and answers; `state.js`: what is asked, as plain data, from and to the page's address;
- `views.js`, `flow.js`, `panel.js`, `question.js` and `live.css`: what is seen; `control.js`, `hero.js` and `swap.js`
  join all of it.

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
from modgrok.live.contrast import Contrast, draw_question
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

    @property
    def panels(self) -> list[dict]:
        """The models, each as a dict."""
        return [{"model": model} if isinstance(model, str) else model for model in self.models]


def ask(runs: dict[str, Run], name: str = "ask", **state) -> HTML:
    """A control that asks trained models in the page and shows their answers to all p² queries.

    In the book all checkpoints can be chosen: its build puts them next to the pages (`write_weights`). Elsewhere,
    as in a notebook by itself, only the last can. In place of models with more than LARGEST weights stands a sentence.

    Args:
        runs: label → run; all of one p.
        name: tells the controls of one page apart, in its links too.
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
        return TOO_LARGE
    names = predictors(config.p, pretraining_tasks(config))
    if wish.predictor not in names:
        raise ValueError(f"predictor={wish.predictor!r} is not known; choose one of {', '.join(names)}.")
    numbers = [*wish.task, *wish.query, *(number for example in wish.examples for number in example)]
    if any(not 0 <= number < config.p for number in numbers):
        raise ValueError(f"task, examples and query must be numbers in 0 … {config.p - 1}, got {numbers}.")

    task = wish.task or (_best_task(wish.examples, config.p) if len(wish.examples) else None)
    contexts, tasks = draw_contexts(Data(config), 1, task)
    context = contexts[0][: min(run.config.n_examples for run in runs.values()) - 1]
    true_examples = np.column_stack([context, context @ tasks[0] % config.p]).tolist()
    examples = [tuple(example) for example in wish.examples or true_examples]
    arguments = {
        "panels": wish.panels or [{"model": next(iter(runs))}],
        "task": tasks[0].tolist(),
        "examples": examples,
        "shots": len(examples) if wish.shots is None else wish.shots,
        "query": list(wish.query or (2 % config.p, 1)),
        "by": wish.predictor,
    }
    return _output(runs, name, (*CONTROL, "control"), "startControl", [name, arguments])


def _best_task(examples: Sequence[Sequence[int]], p: int) -> list[int]:
    """The first of the tasks that most of the examples agree with."""
    x, y, z = np.transpose(examples)
    a, b = grid(p).T[:, :, None]
    n_agreeing = ((a * x + b * y - z) % p == 0).sum(1)
    return grid(p)[n_agreeing.argmax()].tolist()


def offered(runs: dict[str, Run]) -> bool:
    """Whether a page can carry these models: none has more than LARGEST weights."""
    return all(n_weights(run.config) <= LARGEST for run in runs.values())


TOO_LARGE = HTML(
    f"<p>There is no live control here: a page carries models of up to {LARGEST / 1e6:.0f} million weights. In Python, "
    "<code>evaluate.query_grid(run.model(), [task], pairs, shots)</code> answers the same questions.</p>"
)
"""Stands in place of a control."""


def hero(contrast: Contrast, page: str = "12_ask.html") -> HTML:
    """The front page's control: one question, the answers of two models side by side.

    Its answers to the true examples are in it, for every number of shots; the weights are loaded for the first lie.

    Args:
        contrast: the question and its answers.
        page: where a whole control can be asked the same.
    """
    answers = {label: grids.reshape(len(grids), -1).tolist() for label, grids in contrast.answers.items()}
    question = {"shots": len(contrast.examples), "answers": answers}
    question |= {name: getattr(contrast, name) for name in ("task", "examples", "query")}
    return _output(contrast.runs, "hero", ("hero",), "startHero", [question, page])


def swap(runs: dict[str, Run]) -> HTML:
    """A control that shows `mechanisms.swapped_logits`: the reader picks the query, and what the heads look for.

    Each model, label → run, has its own `contrast.draw_question`. One without a matching head is named in a sentence.
    """
    if not offered(runs):
        return TOO_LARGE
    questions = {label: draw_question(run) for label, run in runs.items()}
    sentence = "<p>{}: no head matches ratios, so there is nothing to exchange.</p>\n"
    lacking = "".join(sentence.format(escape(label)) for label in runs if questions[label] is None)
    questions = {label: question for label, question in questions.items() if question is not None}
    if not questions:
        return HTML(lacking)
    control = _output(
        {label: runs[label] for label in questions}, "swap", ("swap",), "startSwap", [questions]
    )
    return HTML(lacking + control.data, metadata=control.metadata)


def _output(runs: dict[str, Run], name: str, modules: tuple[str, ...], start: str, arguments: list) -> HTML:
    """The code, and a call of its function `start` with the models and further arguments."""
    folder = Path(__file__).parent
    code = "\n".join((folder / f"{module}.js").read_text("utf8") for module in (*SHARED, *modules))
    models = [_describe(label, run) for label, run in runs.items()]
    call = json.dumps([models, *arguments]).replace("<", "\\u003c")  # a label cannot end the script
    text = (
        f"<style>{(folder / 'live.css').read_text('utf8')}</style>\n"
        f'<div class="modgrok-live" data-name="{escape(name)}"></div>\n'
        f'<script type="module">\n{code}\n{start}(...{call});\n</script>'
    )
    steps_elsewhere = {str(run.path): run.steps[: None if in_book() else -1] for run in runs.values()}
    return HTML(text, metadata={"modgrok_live": steps_elsewhere})


def link(text: str, **state) -> str:
    """An HTML link that brings the control of `ask` on the same page into a state; what is not given stays as it is.

    Args:
        text: what is clicked.
        state: fields of `State`.

    Raises:
        TypeError: no field of `State`.
    """
    wish, fields = State(**state), []
    for panel in wish.panels:
        off = " ".join(panel.get("off", ()))
        fields += [("model", panel["model"]), ("step", panel.get("step", "last")), ("off", off)]
    texts = {
        "task": _joined(wish.task),
        "examples": " ".join(map(_joined, wish.examples)),
        "shots": "" if wish.shots is None else wish.shots,
        "query": _joined(wish.query),
        "by": wish.predictor,
    }
    fields += [(key, text) for key, text in texts.items() if text != ""]
    return f'<a href="{escape(f"#ask?{urlencode(fields)}")}">{escape(text)}</a>'


def in_book() -> bool:
    """Whether the book is being built, whose pages lie beside each other and share their weights."""
    return "MODGROK_BOOK" in os.environ  # set by the build


def _joined(numbers: Iterable[int]) -> str:
    return ".".join(str(int(number)) for number in numbers)


def _describe(label: str, run: Run) -> dict:
    """What the page knows of a run; outside the book, also the weights of its last checkpoint."""
    if not run.steps:
        run.model()  # raises an error that says why
    inline_step = None if in_book() else run.steps[-1]
    steps = [
        {"step": step, "weights": weights(run, step) if step == inline_step else None} for step in run.steps
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
