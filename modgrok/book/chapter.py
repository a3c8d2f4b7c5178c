"""What a notebook holds: its parameters, its runs, and `show`, which says below a figure how it was made.

page = chapter("05_depth", globals())
runs = page.runs = page.by_depth()
page.show(plots.some_figure(runs), "fig-depth")
"""

import dis
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import accelerate
import numpy as np
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import is_cuda_available
from IPython import InteractiveShell, get_ipython
from IPython.display import Markdown, clear_output, display
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tabulate import tabulate

from modgrok.book.parameters import check_names, checked, declared
from modgrok.claims.cost import SETTINGS, core_minutes
from modgrok.claims.verdicts import Runs, describe, flat
from modgrok.config import PRESETS, Config, preset
from modgrok.model import n_weights
from modgrok.plots.style import blocks
from modgrok.scale.grids import NoSweep, grid, sweep_of_kind
from modgrok.scale.sweep import sweep
from modgrok.storage.find import find_run, run_folders
from modgrok.storage.runs import Run, escaped
from modgrok.train import train
from modgrok.training.engine import check_divides
from modgrok.training.process import die_with_parent
from modgrok.widgets import Page, still

Result = TypeVar("Result")

LIBRARY = Path(__file__).parents[1]
"""The folder of this library's modules."""

SHIPPED = LIBRARY.parent / "runs"
"""The runs that come with the repository."""


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
        """Return the run of that name under the root or, without a name, the preset's run with some fields replaced.

        Where there is none and the parameter `source` says so, it is trained by `num_processes` processes: one a GPU,
        or on the CPU where there is no GPU.

        Raises:
            ValueError: no such preset, a field that is not allowed, or a batch that does not divide.
            FileNotFoundError: no such run, and none is to be trained; the message says how to train it.
        """
        source, preset_name, root, num_processes = (
            self.parameters[name] for name in ("source", "preset", "root", "num_processes")
        )
        if name:
            return find_run(name, root)
        config = preset(preset_name, **{"seed": self.parameters["seed"]} | fields)
        try:
            return find_run(config, root)
        except FileNotFoundError:
            if source != "train":
                raise
        with passing_output():
            if num_processes == 1:
                return train(config, root)
            check_divides(config, num_processes, 1)
            AcceleratorState._reset_state(True)  # the launchers insist on starting afresh
            # asked this way, CUDA is not started, which a process could not be forked after
            launch = accelerate.notebook_launcher if is_cuda_available() else accelerate.debug_launcher
            launch(_train_forked, (config, root), num_processes=num_processes)
        return find_run(config, root)

    def every_seed(self, **fields) -> list[Run]:
        """Return the preset's runs with some fields replaced, one a seed, counted up from the parameter `seed`.

        There are `n_seeds` of them; where that parameter is None, as many as are finished under the root.
        """
        return self._by_seed(lambda page, seed: page.run(seed=seed, **fields))

    def _by_seed(self, find: Callable[["Chapter", int], Result], n_seeds: str = "n_seeds") -> list[Result]:
        """What `find` returns for each seed from the parameter `seed` on; `n_seeds` names the one that counts them.

        Where that is None or missing, every seed counts until one has no finished run.
        """
        first_seed, n = self.parameters["seed"], self.parameters.get(n_seeds)
        if n is not None:
            return [find(self, seed) for seed in range(first_seed, first_seed + n)]
        shipped = replace(self, parameters=self.parameters | {"source": "shipped"})
        results = [find(self, first_seed)]
        with suppress(FileNotFoundError):
            while True:
                results.append(find(shipped, first_seed + len(results)))
        return results

    def by_depth(self, *depths: int, at_least: int = 1) -> dict[int, list[Run]]:
        """Return depth → the runs of every seed, at the `largest` scale that has all depths, by default `depths`.

        The shallowest come first. A ValueError says that there are fewer than `at_least` different depths.
        """
        depths = sorted(set(depths or self.parameters["depths"]))
        if len(depths) < at_least:
            raise ValueError(
                f"depths={depths} must hold {at_least} different numbers of blocks or more, for this notebook "
                "compares them; it is a list such as [2, 4]."
            )
        return self.largest(lambda page: {depth: page.every_seed(depth=depth) for depth in depths})

    def groups(self, *names: str) -> dict[str, list[Run]]:
        """Return label → runs: the run of each name that is not empty or, if all are empty, the runs `by_depth`."""
        runs = [self.run(name) for name in names if name]
        if not runs:
            return {blocks(depth): group for depth, group in self.by_depth().items()}
        labels = [blocks(run.config.depth) for run in runs]
        if len(set(labels)) < len(runs):
            labels = [f"{blocks(run.config.depth)}, run {i}" for i, run in enumerate(runs, 1)]
        return {label: [run] for label, run in zip(labels, runs, strict=True)}

    def largest(self, find: Callable[["Chapter"], Result]) -> Result:
        """Return what `find` returns for this chapter or, if it finds nothing, with the next smaller preset, and so on.

        Raises the FileNotFoundError or NoSweep of the chapter's own preset if there is none at any scale.
        """
        names, errors = list(PRESETS), []
        for name in reversed(names[: names.index(self.parameters["preset"]) + 1]):
            try:
                return find(replace(self, parameters=self.parameters | {"preset": name}))
            except (FileNotFoundError, NoSweep) as error:
                errors.append(error)
        raise errors[0]

    def sweep(
        self, kind: str, n_seeds: str = "n_seeds", partial: bool = False, **fields
    ) -> NDArray[np.object_]:
        """Return the runs of the sweep PRESET-kind, such as "map", in an array with the axes of its grid.

        They are (…, seeds); the axes before the seeds are those of the fields with several values, in the sweep's
        order.

        Args:
            n_seeds: the parameter that says how many seeds; None there: all that are finished at every point.
            partial: None stands for a run that is missing, unless all runs of a seed are.
            fields: of the config that differ from the sweep's.

        Raises:
            NoSweep: the preset has no sweep of that kind.
            ValueError: a field that is not allowed, or a run that failed.
            FileNotFoundError: a run is missing.
        """
        named = sweep_of_kind(self.parameters["preset"], kind)
        vary = {**named.vary, **{name: (value,) for name, value in fields.items()}}
        runs = self._by_seed(
            lambda page, seed: page._obtain(grid(named.preset, vary, [seed]), partial), n_seeds
        )  # (seeds, points)
        lengths = [len(values) for values in vary.values() if len(values) > 1]
        return np.array(runs, dtype=object).T.reshape([*lengths, len(runs)])

    def factors(self) -> dict[str, dict[str, list[Run]]]:
        """Return the runs of the sweep PRESET-factors, one setting changed at a time (A8); errors as of `sweep`.

        Setting, in words → value, as text, that of the base point first → its runs, without those that are missing.
        Fields that change together have the name and the value of the first.
        """
        named = sweep_of_kind(self.parameters["preset"], "factors")
        runs = self._by_seed(
            lambda page, seed: page._obtain(grid(named.preset, named.vary, [seed], one_at_a_time=True), True)
        )  # (seeds, points)
        base, *departures = ([run for run in point if run] for point in zip(*runs, strict=True))
        points, settings = iter(departures), {}  # field by field, value by value, as in the grid
        for name, values in named.vary.items():
            firsts = [value[0] if "," in name else value for value in values]
            texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in firsts]
            if len(values) > 1:
                groups = [base, *islice(points, len(values) - 1)]
                settings[SETTINGS[name.split(",")[0]]] = dict(zip(texts, groups, strict=True))
        return settings

    def _obtain(self, configs: list[Config], partial: bool) -> list[Run | None]:
        """Return a run for each config, which is trained first if the parameter `source` says so."""
        root = self.parameters["root"]
        if self.parameters["source"] == "train":
            with passing_output():
                results = sweep(configs, root, self.parameters["num_processes"])
                errors = [result.error for result in results if result.error]
            if errors:
                raise ValueError(f"{len(errors)} of {len(configs)} runs failed; the first says: {errors[0]}")
        finished = [folder for folder in run_folders(root) if (folder / "provenance.json").is_file()]
        parents = {folder.name: folder.parent for folder in reversed(finished)}
        runs: list[Run | None] = []
        for config in configs:
            try:  # where the folder is known, it is not searched for
                runs.append(find_run(config, parents.get(config.name, root)))
            except FileNotFoundError:
                if not partial or (config is configs[-1] and not any(runs)):
                    raise
                runs.append(None)
        return runs

    def within(self, name: str, low: int, high: int, default: int | None = None) -> int | None:
        """Return a whole-number parameter, `default` where it is None; a ValueError says that it is out of bounds."""
        value = self.parameters[name]
        if value is None:
            return default
        if not low <= value <= high:
            raise ValueError(f"{name}={value} must lie between {low} and {high} for this model.")
        return value

    def about(self) -> Markdown:
        """Return a sentence about the models of the page."""
        runs = flat(self.runs)
        chances = ", ".join(f"{1 / p:.2f}" for p in sorted({run.config.p for run in runs}))
        notes = [f" Note: {escaped(run.provenance['note'])}." for run in runs if "note" in run.provenance]
        if "n_seeds" in self.parameters and len(runs) > 1 and len({run.config.seed for run in runs}) == 1:
            notes.append(" With one seed, a mean over seeds is a single run, and no spread is seen.")
        return Markdown(
            f"*Models of this page: {len(runs)}; {scale(runs)}; {_cost(runs)}. Accuracy of a blind guess: {chances}."
            f"{''.join(notes)}*"
        )

    def show(self, picture: Figure | Page, name: str, runs: Runs | None = None) -> None:
        """Display a figure (SVG, with a download link) or a control and, folded, how it was made.

        In the book this is a numbered figure, so at most one `show` belongs in a cell; {numref}`name` in the text
        refers to it. Its caption, which also describes it to readers who do not see it, is the Markdown cell below,
        tagged `caption`, and says in what the figure's runs, by default the page's, differ from the page's.
        """
        shown_runs = flat(self.runs if runs is None else runs)
        display(still(picture, "", name) if isinstance(picture, Figure) else picture)
        origin, difference = "No model was trained for this figure.", ""
        if shown_runs:
            names, cost = ", ".join(f"`{run.name}`" for run in shown_runs), _cost(shown_runs)
            origin = f"From {names}: {scale(shown_runs)}; {cost}. To train anew, add `-p source train -p root my-runs`."
            difference = scale(shown_runs, flat(self.runs))
        text = (
            f'<details class="modgrok-made"><summary>How this figure was made</summary>\n\n{origin}\n\n'
            f"```bash\n{self.command}\n```\n\n</details>"
        )
        if difference:
            text = f"Models: {difference}.\n\n{text}"
        display(Markdown(text), metadata={"modgrok_figure": name})


def chapter(name: str, namespace: Mapping[str, Any]) -> Chapter:
    """The object of a notebook, made in its set-up cell. Errors as of `parameters.declared` and `checked`.

    Args:
        name: of the notebook, such as "05_depth".
        namespace: the notebook's `globals()`, with the values that its parameters have by now.
    """
    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((Exception,), show_error)
    defaults = declared(name)
    check_names(namespace.get("In", ()), list(defaults))
    values = {key: checked(key, namespace[key], default) for key, default in defaults.items()}
    words = ["papermill", f"notebooks/{name}.ipynb", "out.ipynb"]
    for key, value in values.items():
        if value != defaults[key]:
            # -r keeps text that would read as a number, or as None
            literal = isinstance(value, str) and re.fullmatch(
                r"[-+.\d][-+.\deE_]*|True|False|None|inf|nan", value
            )
            words += ["-r" if literal else "-p", key, shlex.quote(str(value))]
    if (
        values.get("source") == "shipped"
        and values["root"] == "runs"
        and SHIPPED.is_dir()
        and not run_folders("runs")
    ):
        values["root"] = str(SHIPPED)  # the notebook was started in another folder
    return Chapter(name, values, " ".join(words))


def show_error(
    shell: InteractiveShell,
    kind: type[Exception],
    error: Exception,
    traceback: TracebackType,
    tb_offset: int = 0,
) -> None:
    """Show an error in a notebook: as one sentence if a `raise` of this library made it, else with its frames.

    The arguments are those of a handler for `InteractiveShell.set_custom_exc`.
    """
    last = traceback
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    is_ours = Path(code.co_filename).is_relative_to(LIBRARY)
    if is_ours and code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]:
        error._render_traceback_ = lambda: [f"{kind.__name__}: {error}"]
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)


@contextmanager
def passing_output() -> Iterator[None]:
    """Empty the notebook's cell once a training in it is done: saved, its progress bars would stay at 0 %."""
    yield
    if get_ipython() is not None:
        clear_output()


def _train_forked(config: Config, root: str | Path) -> None:
    """`train` in a fork: the parent's OpenMP threads do not exist here, and to wait for them is to hang."""
    die_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"  # or Accelerate raises it again
    torch.set_num_threads(1)
    train(config, root)


LARGE = 2_000_000
"""Weights from which a model counts as large: those of the paper's size do, the largest preset for a CPU does not."""


def by_size(config: Config, usual: int, large: int) -> int:
    """How many contexts or sequences to measure with: fewer of a large model, so that a chapter takes minutes."""
    return large if n_weights(config) > LARGE else usual


def evenly(values: Sequence, n: int) -> list:
    """At most n of some values, evenly spread, the first and the last among them."""
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, n).round().astype(int))]


def scale(runs: Sequence[Run], elsewhere: Sequence[Run] = ()) -> str:
    """Return what `verdicts.describe` says of some runs, without what it says of those elsewhere, too."""
    common = describe(elsewhere)
    return ", ".join(
        f"{label} = {values}" for label, values in describe(runs).items() if common[label] != values
    )


def model_titles(runs: Sequence[Run]) -> dict[str, str]:
    """Name of a run → what tells it from the others, as text: "2 blocks, seed 0".

    Before it stands p if it is not that of the first run, and what a curriculum begins with if some begin with pairs
    and some with lines: "p = 19, lines first: 2 blocks, seed 0".
    """
    firsts = {run.name: run.config.phases[0].unit if run.config.curriculum else "" for run in runs}
    is_mixed = {"lines", "pairs"} <= set(firsts.values())
    titles = {}
    for run in runs:
        c = run.config
        marks = [f"p = {c.p}"] * (c.p != runs[0].config.p)
        marks += [f"{firsts[run.name]} first"] * (is_mixed and bool(firsts[run.name]))
        prefix = f"{', '.join(marks)}: " if marks else ""
        titles[run.name] = f"{prefix}{blocks(c.depth)}, seed {c.seed}"
    return titles


NO_CASES = r"nan( %)?( \(.*\))?|0 of 0( \(.*\))?"
"""Cells of a table that summarise nothing, as a regular expression."""


def typeset(text: str) -> str:
    """Return a text whose negative numbers have a minus sign in place of the hyphen."""
    return re.sub(r"(?<![\w.)`-])-(?=\.?\d)", "−", text)


def table(
    head: Sequence, rows: Iterable[Sequence], missing: str = "These runs have nothing for this table."
) -> str:
    """A Markdown table of any cells, each printed as it is but for minus signs; a bar within a cell is escaped.

    A cell that says "nan" or "0 of 0" becomes a dash, which a line below the table explains. A sentence stands in place
    of a table without rows.
    """
    cells = [[typeset(str(cell)).replace("|", "\\|") for cell in row] for row in rows]
    if not cells:
        return missing
    dashed = [["–" if re.fullmatch(NO_CASES, cell) else cell for cell in row] for row in cells]
    note = "" if dashed == cells else "\n\n*–: none of these runs has a case to count.*"
    return tabulate(dashed, head, tablefmt="pipe", disable_numparse=True) + note


def _cost(runs: list[Run]) -> str:
    timed = [run for run in runs if "source" not in run.provenance]  # not those that others trained
    if not timed:
        return "training time unknown"
    minutes = core_minutes(timed)
    amount = f"{minutes:.0f}" if minutes >= 1 else "less than 1"
    return f"{amount} core-min of training"
