"""What a notebook holds: its parameters, its runs, and `show`, which says below a figure how it was made.

page = chapter("05_depth", globals())
runs = page.runs = page.by_depth()
page.show(plots.some_figure(runs), "fig-depth", "What is seen, in a sentence.")
"""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import accelerate
import numpy as np
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import is_cuda_available
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from tabulate import tabulate

from modgrok.book.parameters import checked, declared
from modgrok.claims.cost import core_minutes
from modgrok.config import PRESETS, Config, preset
from modgrok.model import n_weights
from modgrok.plots.style import blocks
from modgrok.scale.sweep import NoSweep, obtain_factors, obtain_grid
from modgrok.storage.find import find_run
from modgrok.storage.runs import Run, escaped
from modgrok.train import train
from modgrok.training.engine import check_divides
from modgrok.training.process import die_with_parent
from modgrok.widgets import still

Runs = Run | Iterable | Mapping
"""Runs, nested at will."""

Found = TypeVar("Found")


@dataclass
class Chapter:
    """A notebook at work; `chapter` makes it.

    Attributes:
        name: of the notebook, without ending.
        parameters: name → value, checked, lists as lists.
        command: the command that makes this page, and every figure on it.
        runs: the runs, nested at will, whose scale and cost a figure tells unless it names others.
    """

    name: str
    parameters: dict[str, Any]
    command: str
    runs: Runs = ()

    def run(self, name: str = "", **fields) -> Run:
        """The run of that name under the root, or, without one, that of the preset with some fields replaced."""
        of = self.parameters
        if name:
            return find_run(name, of["root"])
        return obtain(
            of["source"], of["preset"], of["root"], of["num_processes"], **{"seed": of["seed"]} | fields
        )

    def every_seed(self, least: int = 1, **fields) -> list[Run]:
        """The preset's runs with some fields replaced, one a seed from `seed` on.

        As many as `n_seeds` says; where that is None all that are finished under the root.

        Raises:
            FileNotFoundError: there are fewer than `least`, and `n_seeds` is None.
        """
        of = self.parameters
        if of.get("n_seeds") is not None:
            return [self.run(seed=seed, **fields) for seed in self.seeds()]
        runs = [self.run(**fields)]
        with suppress(FileNotFoundError):
            while True:
                following = preset(of["preset"], **{"seed": runs[-1].config.seed + 1} | fields)
                runs.append(find_run(following, of["root"]))
        if len(runs) < least:
            raise FileNotFoundError(f"There are {len(runs)} runs like {runs[0].name}, not {least}.")
        return runs

    def by_depth(self, *depths: int) -> dict[int, list[Run]]:
        """Depth → its runs, `every_seed`, at the `largest` scale that has them all; by default those of `depths`."""
        wanted = depths or self.parameters["depths"]
        return self.largest(lambda at: {depth: at.every_seed(depth=depth) for depth in wanted})

    def groups(self, *names: str) -> dict[str, list[Run]]:
        """Label → runs: of each name that is not empty its run, or where all are empty the runs `by_depth`."""
        named = [self.run(name) for name in names if name]
        if not named:
            return {blocks(depth): of for depth, of in self.by_depth().items()}
        labels = [blocks(run.config.depth) for run in named]
        if len(set(labels)) < len(named):
            labels = [f"{blocks(run.config.depth)}, run {i}" for i, run in enumerate(named, 1)]
        return {label: [run] for label, run in zip(labels, named, strict=True)}

    def largest(self, find: Callable[["Chapter"], Found]) -> Found:
        """What is found at the largest scale that has it: the preset's, or else that of the next smaller preset.

        Args:
            find: from the chapter with that preset. Where runs are trained it finds all but a sweep that the preset
                does not have.

        Raises:
            FileNotFoundError: no scale has it; the message is that of the preset.
            NoSweep: no scale has such a sweep.
        """
        names, missing = list(PRESETS), []
        for name in reversed(names[: names.index(self.parameters["preset"]) + 1]):
            try:
                return find(replace(self, parameters=self.parameters | {"preset": name}))
            except (FileNotFoundError, NoSweep) as error:
                missing.append(error)
        raise missing[0]

    def sweep(
        self, kind: str, n_seeds: str = "n_seeds", partial: bool = False, **fields
    ) -> NDArray[np.object_]:
        """The runs of the sweep PRESET-kind, laid out as by `sweep.obtain_grid`; that parameter says how many seeds.

        Where it is None: all from `seed` on that have finished at every point.
        """
        of, first = self.parameters, self.parameters["seed"]

        def found(source: str, seeds: Sequence[int]) -> NDArray[np.object_]:
            return obtain_grid(
                source, of["preset"], kind, of["root"], seeds, of["num_processes"], partial, **fields
            )

        if of[n_seeds] is not None or partial:
            return found(of["source"], self.seeds(n_seeds))
        runs = [found(of["source"], [first])]
        with suppress(FileNotFoundError):
            while True:
                runs.append(found("shipped", [first + len(runs)]))
        return np.concatenate(runs, axis=-1)

    def factors(self) -> dict[str, dict[Any, list[Run | None]]]:
        """The runs of the sweep PRESET-factors, as by `sweep.obtain_factors`."""
        of = self.parameters
        return obtain_factors(of["source"], of["preset"], of["root"], self.seeds(), of["num_processes"])

    def seeds(self, n_seeds: str = "n_seeds") -> range:
        """`seed`, `seed` + 1, … as many as that parameter says."""
        first, n = self.parameters["seed"], self.parameters[n_seeds]
        if n is None or n < 1:
            raise ValueError(f"{n_seeds}={n} must be a whole number, 1 or more.")
        return range(first, first + n)

    def sequences(self, config: Config, usual: int = 0, large: int = 0) -> int:
        """How many sequences of each set to score: the parameter, where it is None what `by_size` says; 0 stands for
        as many as during training."""
        given = self.parameters["sequences"]
        return (by_size(config, usual, large) if given is None else given) or config.eval_sequences

    def within(self, name: str, least: int, most: int, default: int | None = None) -> int | None:
        """A whole-number parameter whose bounds depend on the model; `default` where it is None.

        Raises:
            ValueError: it is out of bounds.
        """
        value = self.parameters[name]
        if value is None:
            return default
        if not least <= value <= most:
            raise ValueError(f"{name}={value} must lie between {least} and {most} for this model.")
        return value

    def task(self, p: int, least: int = 0) -> list[int] | None:
        """The parameter `task`, None where it is empty.

        Raises:
            ValueError: it is no task modulo p, or holds a number that is too small.
        """
        task = self.parameters["task"]
        if not all(least <= number < p for number in task):
            raise ValueError(f"task={task} must be two numbers from {least} to p - 1 = {p - 1}.")
        return task or None

    def about(self) -> Markdown:
        """A sentence about the models of the page."""
        runs = flat(self.runs)
        what = "model" if len(runs) == 1 else f"{len(runs)} models"
        moduli = {run.config.p for run in runs}
        guess = f"{(p := moduli.pop())} cases, {100 / p:.0f} %" if len(moduli) == 1 else "p cases"
        notes = [f" Note: {escaped(run.provenance['note'])}." for run in runs if "note" in run.provenance]
        return Markdown(
            f"*The {what} of this page: {scale(runs)}; {_cost(runs)}. A blind guess is right in one of {guess}."
            f"{''.join(notes)}*"
        )

    def show(self, thing: Figure | HTML, name: str, caption: str = "", runs: Runs | None = None) -> None:
        """Display a figure (SVG, with a download link) or a control, and how it was made.

        In the book this is a numbered figure, so at most one `show` belongs in a cell. Its caption is the Markdown
        cell below, tagged `caption`; the build joins the two. The caption also describes the picture to readers who
        do not see it.

        Args:
            thing: a matplotlib Figure, or what `modgrok.widgets` or `modgrok.live.ask` made.
            name: label for references from the text, {numref}`name`.
            caption: Markdown, for a page that is not built from a notebook with such a cell.
            runs: those that the figure shows, by default the page's; () for none.
        """
        shown_runs = flat(self.runs if runs is None else runs)
        if isinstance(thing, Figure):
            thing = still(thing, caption, name)
        display(thing)
        if runs is not None and shown_runs:
            caption = f"{caption} Scale: {scale(shown_runs)}.".strip()
        text = f"{caption}\n\n{self._made(shown_runs)}".strip()
        display(Markdown(text), metadata={"modgrok_figure": name})

    def _made(self, runs: list[Run]) -> str:
        """Markdown, folded: the runs of a figure, what they cost, and the command."""
        names = ", ".join(f"`{run.name}`" for run in runs)
        made = (
            f"From {names}: {scale(runs)}; {_cost(runs)}."
            if runs
            else "No model was trained for this figure."
        )
        if runs and self.parameters["source"] == "shipped":
            made += " To train anew, add `-p source train -p root my-runs` to the command."
        return (
            f'<details class="modgrok-made"><summary>How this figure was made</summary>\n\n{made}\n\n'
            f"```bash\n{self.command}\n```\n\n</details>"
        )


def chapter(name: str, namespace: Mapping[str, Any]) -> Chapter:
    """The object of a notebook, made in its set-up cell.

    Args:
        name: of the notebook, such as "05_depth".
        namespace: the notebook's `globals()`, with the values that its parameters have by now.

    Raises:
        ValueError: a parameter that is not allowed, in one sentence.
        FileNotFoundError: the notebook's source is not at hand.
    """
    defaults = declared(name)
    values = {key: checked(key, namespace[key], default) for key, default in defaults.items()}
    words = ["papermill", f"notebooks/{name}.ipynb", "out.ipynb"]
    for key, value in values.items():
        if value != defaults[key]:
            # -r keeps text that would read as a number, or as None
            literal = isinstance(value, str) and re.fullmatch(
                r"[-+.\d][-+.\deE_]*|True|False|None|inf|nan", value
            )
            words += ["-r" if literal else "-p", key, shlex.quote(str(value))]
    return Chapter(name, values, " ".join(words))


def obtain(
    source: str, preset_name: str, root: str | Path = "runs", num_processes: int = 1, **overrides
) -> Run:
    """The run a notebook asks for by its parameters.

    Args:
        source: "shipped" finds a finished run under root, at any depth; "train" trains it there if it finds none.
        preset_name: of the config.
        overrides: fields of the config that differ from the preset.
        root: where runs are.
        num_processes: training processes, one a GPU, or CPU processes where there is no GPU.

    Raises:
        ValueError: a parameter that is not allowed.
        FileNotFoundError: source="shipped" and no such run; the message says how to train it.
    """
    if source not in ("shipped", "train"):
        raise ValueError(f'source={source!r} is not allowed; choose "shipped" or "train".')
    if isinstance(num_processes, bool) or not isinstance(num_processes, int) or num_processes < 1:
        raise ValueError(f"num_processes={num_processes!r} is not allowed; choose 1 or more.")
    config = preset(preset_name, **overrides)
    try:
        return find_run(config, root)  # also in a subfolder, where `train` does not look
    except FileNotFoundError:
        if source == "shipped":
            raise
    if num_processes == 1:
        return train(config, root)
    check_divides(config, num_processes, 1)
    AcceleratorState._reset_state(True)  # the launchers insist on starting afresh
    # asked this way, CUDA is not started, which a process could not be forked after
    launch = accelerate.notebook_launcher if is_cuda_available() else accelerate.debug_launcher
    launch(_train_forked, (config, root), num_processes=num_processes)
    return find_run(config, root)


def _train_forked(config: Config, root: str | Path) -> None:
    """`train` in a fork: the parent's OpenMP threads do not exist here, and to wait for them is to hang."""
    die_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"  # or Accelerate raises it again
    torch.set_num_threads(1)
    train(config, root)


def flat(runs: Runs) -> list[Run]:
    """Nested runs in a row, without those that are missing (None)."""
    if runs is None or isinstance(runs, Run):
        return [runs] if runs else []
    return [run for part in (runs.values() if isinstance(runs, Mapping) else runs) for run in flat(part)]


LARGE = 2_000_000
"""Weights from which a model counts as large: those of the paper's size do, the largest preset for a CPU does not."""


def by_size(config: Config, usual: int, large: int) -> int:
    """How many contexts or sequences to measure with: fewer of a large model, so that a chapter takes minutes."""
    return large if n_weights(config) > LARGE else usual


def evenly(values: Sequence, n: int) -> list:
    """At most n of some values, evenly spread, the first and the last among them."""
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, n).round().astype(int))]


def halfway(curve: ArrayLike) -> int:
    """Where a curve first is half way from its start to its highest: where to look at a model that is learning it."""
    curve = np.nan_to_num(curve)
    return int(np.argmax(curve >= (curve[0] + curve.max()) / 2))


def scale(runs: Iterable[Run]) -> str:
    """What models some runs trained, in words: the fields that describe them, with every value that they take."""
    configs = [run.config for run in runs]

    def values(field: str, form: str = "") -> str:
        found = [format(value, form) for value in sorted({getattr(config, field) for config in configs})]
        return " and ".join([", ".join(found[:-1]), found[-1]]) if found[1:] else found[0]

    seeds = {config.seed for config in configs}
    deep = "block" if values("depth") == "1" else "blocks"
    tasks = "p²" if " and " in values("p") else configs[0].p ** 2
    return (
        f"p = {values('p')}, {values('n_tasks')} of {tasks} tasks, α = {values('alpha', 'g')}, "
        f"{values('depth')} {deep} of width {values('n_embd')}, {values('n_examples')} examples, "
        f"{values('steps', ',')} steps, seed{'s' * (len(seeds) > 1)} {values('seed')}"
    )


def percent(values: ArrayLike) -> str:
    """A share with its interval, (share, low, high), in percent."""
    share, low, high = 100 * np.asarray(values)
    return f"{share:.0f} ({low:.0f} to {high:.0f})"


def table(head: Sequence, rows: Iterable[Sequence]) -> str:
    """A Markdown table of any cells, each printed as it is; a bar within a cell is escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, head, tablefmt="pipe", disable_numparse=True)


def _cost(runs: list[Run]) -> str:
    timed = [run for run in runs if "source" not in run.provenance]  # not those that others trained
    if not timed:
        return "training time unknown"
    minutes = core_minutes(timed)
    return (
        f"{minutes:.0f} core-minutes of training" if minutes >= 1 else "less than a core-minute of training"
    )
