"""The book's build: papermill runs the notebooks that need it, then Sphinx makes pages of them.

Listed as a Sphinx extension in `_config.yml`, so that `jupyter-book build book` is the whole build. A chapter
`notebooks/NAME.ipynb` is executed into `book/NAME.ipynb` when that copy is missing or when anything it was made
from has changed: its source, its parameters, the library, or a folder that one of its parameters names.

Cells tagged `live` are for a running kernel: they stay out of the copy, and out of the build.
"""

import ast
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import nbformat
import papermill
import yaml
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

log = logging.getLogger(__name__)


class ChapterError(Exception):
    """A notebook that cannot be executed; the message names notebook, cell and error."""


class ThisPython(AsyncKernelManager):
    """Starts kernels with the Python that runs the build, whichever kernels are installed elsewhere."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=50"]
        quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # else the debugger warns on every page
        return KernelSpec(argv=command, display_name="Python 3", language="python", env=quiet)


def build(
    root: Path, book: Path, parameters: dict | None = None, say: Callable[[str], None] = print
) -> list[str]:
    """Bring the executed copies in `book` up to date with `root/notebooks`, several at once.

    Args:
        root: repository root, the kernels' working directory.
        book: folder of the executed copies.
        parameters: values for every chapter that declares a parameter of that name.
        say: receives the progress lines.

    Returns:
        the names of the chapters that were executed.

    Raises:
        ChapterError: one sentence naming notebook, cell and error; nothing is left of that chapter's copy.
    """
    root, parameters = Path(root).resolve(), parameters or {}
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    declared = {n: declared_parameters(n) for n in notebooks}
    unknown = set(parameters) - set().union(*declared.values())
    if unknown:
        raise ChapterError(f"No notebook declares the parameter {sorted(unknown)[0]!r}.")

    for copy in Path(book).glob("*.ipynb"):
        if _record(copy) is not None and copy.name not in {n.name for n in notebooks}:
            copy.unlink()

    todo = {}
    for notebook in notebooks:
        chosen = {k: v for k, v in parameters.items() if k in declared[notebook]}
        now = dependencies(notebook, root, declared[notebook], chosen)
        before = _record(Path(book) / notebook.name)
        if now != before:
            todo[notebook] = chosen, now
            say(f"{notebook.stem}: {_reason(before, now)}")
    if todo:
        _execute_all(todo, root, Path(book), say)
    return [n.stem for n in todo]


def _execute_all(todo: dict, root: Path, book: Path, say: Callable[[str], None]) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, len(todo))
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(cores // workers))
    say(f"executing {len(todo)} of the chapters, {workers} at a time (threads each: {threads})")
    start, done = time.perf_counter(), 0
    # Processes, not threads: papermill changes the working directory of the process it runs in.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {
            pool.submit(execute, n, book / n.name, chosen, root, record): n
            for n, (chosen, record) in todo.items()
        }
        try:
            for job in as_completed(jobs):
                job.result()
                done += 1
                say(f"[{done}/{len(todo)}] {jobs[job].stem} ({time.perf_counter() - start:.0f} s)")
        except BaseException:
            say("stopping: chapters that are running are finished first")
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def execute(notebook: Path, copy: Path, parameters: dict, root: Path, record: dict) -> None:
    """Run one notebook by papermill in `root`, without its `live` cells, and write the copy, whole or not at all.

    Args:
        record: what the copy is made from (`dependencies`), kept in its metadata.

    Raises:
        ChapterError: the notebook, the number of the failing cell (counted from 1) and the error.
    """
    source = nbformat.read(notebook, as_version=4)
    numbers = [i for i, cell in enumerate(source.cells, 1) if "live" not in _tags(cell)]
    source.cells = [source.cells[i - 1] for i in numbers]
    try:
        made = papermill.execute_notebook(
            source, None, parameters, kernel_name="python3", language="python", cwd=str(root),
            progress_bar=False, kernel_manager_class=ThisPython,
        )  # fmt: skip
    except PapermillExecutionError as error:
        # papermill counts its own cell of parameters, which stands right after the declared ones
        declared = next((i for i, c in enumerate(source.cells) if "parameters" in _tags(c)), len(numbers))
        number = numbers[error.cell_index - bool(parameters and error.cell_index > declared)]
        cause = f"{error.ename}: {error.evalue}".strip(": ")
        raise ChapterError(f"{notebook.name}, cell {number}: {cause}") from None
    for cell in made.cells:
        if "injected-parameters" in _tags(cell):
            cell.metadata["tags"] = [*_tags(cell), "remove-cell"]
        _lift_caption(cell)
    made.metadata.pop("papermill", None)  # paths and times of this machine
    made.metadata["modgrok"] = record
    unfinished = copy.with_name(f".{copy.name}.{os.getpid()}")
    try:
        nbformat.write(made, unfinished)
        os.replace(unfinished, copy)
    finally:
        unfinished.unlink(missing_ok=True)


def _lift_caption(cell: nbformat.NotebookNode) -> None:
    """Turn the caption that `modgrok.widgets.show` printed below a figure into a numbered figure's caption."""
    for output in cell.get("outputs", []):
        name = output.get("metadata", {}).get("modgrok_figure")
        if name is not None:
            options = {"caption": output["data"]["text/markdown"], "classes": "modgrok-figure"}
            cell.metadata["mystnb"] = {"figure": options | ({"name": name} if name else {})}
            cell.outputs.remove(output)
            return


def declared_parameters(notebook: Path) -> dict:
    """A notebook's parameters: name → default value, or its source text where that is not a literal."""
    found = papermill.inspect_notebook(str(notebook))
    return {name: _literal(p["default"]) for name, p in found.items()}


def dependencies(notebook: Path, root: Path, declared: dict, chosen: dict) -> dict[str, str]:
    """What a chapter's page is made from: the name of each part → a hash of its content.

    A string parameter whose value is a folder stands for that folder's content, so that a chapter depends only on
    the runs that it names.
    """
    found = {notebook.name: _hash_file(notebook), "its parameters": _hash(json.dumps(chosen, sort_keys=True))}
    for module in sorted((root / "modgrok").rglob("*")):
        if module.suffix in (".py", ".js", ".css"):
            found[module.relative_to(root).as_posix()] = _hash_file(module)
    for value in (declared | chosen).values():
        folder = (root / value).resolve() if isinstance(value, str) and value else root
        if folder.is_dir() and folder != root and folder not in root.parents:
            found[value] = _hash_folder(folder)
    return found


def _reason(before: dict | None, now: dict) -> str:
    if before is None:
        return "not executed yet"
    changed = [k for k in before | now if before.get(k) != now.get(k)]
    return f"{changed[0]} changed" + (f", and {len(changed) - 1} more" if changed[1:] else "")


def _record(copy: Path) -> dict | None:
    """What an executed copy was made from, None if there is none or it is not ours."""
    try:
        return json.loads(copy.read_text(encoding="utf8"))["metadata"].get("modgrok")
    except (OSError, ValueError, KeyError):
        return None


def _hash(content: str | bytes) -> str:
    return hashlib.blake2b(
        content.encode() if isinstance(content, str) else content, digest_size=10
    ).hexdigest()


def _hash_file(path: Path) -> str:
    return _hash(path.read_bytes())


def _hash_folder(folder: Path) -> str:
    files = sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith("."))
    return _hash("\n".join(f"{f.relative_to(folder)} {_hash_file(f)}" for f in files))


def _literal(source: str):
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return source


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


# Sphinx ------------------------------------------------------------------------------------------------------


def setup(app) -> dict:
    """Run papermill before Sphinx looks for its sources, and write formulas as MathML."""
    app.add_config_value("modgrok_parameters", {}, "")
    app.connect("config-inited", _before_sphinx, priority=1)
    app.connect("build-finished", _write_weights)
    app.add_post_transform(KeepPunctuation)
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_display_formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _before_sphinx(app, config) -> None:
    # Jupyter Book loads every script under _static on every page; the widgets' one (2 MB) is asked for by the
    # pages that have widgets.
    config.html_js_files = [f for f in config.html_js_files if not str(f).startswith("widgets/")]
    parameters = dict(config.modgrok_parameters or {})
    try:
        parameters |= yaml.safe_load(os.environ.get("MODGROK_PARAMETERS") or "{}")
    except (yaml.YAMLError, TypeError, ValueError):
        sys.exit("MODGROK_PARAMETERS must be a YAML mapping, such as '{preset: smoke, source: train}'.")
    try:
        build(Path(app.srcdir).parent, Path(app.srcdir), parameters, say=log.info)
    except ChapterError as error:
        sys.exit(f"The book was not built. {error}")


def _write_weights(app, exception) -> None:
    """Put the checkpoints that the live control can ask for beside the pages; see `modgrok.live`.

    Not among the sources: Jupyter Book would load every script under its _static on every page.
    """
    wanted: dict[str, set[int]] = {}
    for copy in Path(app.srcdir).glob("*.ipynb") if exception is None else ():
        for cell in nbformat.read(copy, as_version=4).cells:
            for output in cell.get("outputs", []):
                asked = output.get("metadata", {}).get("text/html", {}).get("modgrok_live", {})
                for run, steps in asked.items():
                    wanted.setdefault(run, set()).update(steps)
    if wanted:
        from modgrok.live import write_weights  # loads torch, which other builds can do without
        from modgrok.runs import Run

        for run, steps in wanted.items():
            write_weights(Run(Path(app.srcdir).parent / run), steps, Path(app.outdir))


class KeepPunctuation(SphinxPostTransform):
    """Browsers break lines between a formula and the full stop after it, unless one element holds both."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for formula in list(self.document.findall(nodes.math)):
            rest = formula.parent[formula.parent.index(formula) + 1 :]
            if rest and isinstance(rest[0], nodes.Text) and rest[0].startswith(tuple(",.;:!?)")):
                formula["punctuation"] = rest[0][0]
                formula.parent.replace(rest[0], nodes.Text(rest[0][1:]))


def _mathml(self, node, as_block: bool) -> str:
    # Browsers draw MathML themselves: no script, no fonts to fetch, no reflow, and readable by screen readers.
    try:
        return tex2mathml(node.astext().replace(r"\dots", r"\ldots"), as_block=as_block)
    except MathError as error:
        log.warning("formula: %s", error, location=node)
        return f"<code>{self.encode(node.astext())}</code>"


def _inline_formula(self, node) -> None:
    self.body.append(f'<span class="math notranslate nohighlight">{_mathml(self, node, False)}')
    self.body.append(f"{node.get('punctuation', '')}</span>")
    raise nodes.SkipNode


def _display_formula(self, node) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(f"{_mathml(self, node, True)}</div>\n")
    raise nodes.SkipNode
