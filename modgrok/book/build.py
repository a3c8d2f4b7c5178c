"""The book's build: papermill runs the notebooks that need it, then Sphinx makes pages of them.

Listed as a Sphinx extension in `_config.yml`, so that `jupyter-book build book` is the whole build. A chapter
`notebooks/NAME.ipynb` is executed into `book/NAME.ipynb` when that copy is missing or when anything it was made
from has changed: its source, its parameters, the library, a run that it read, or which runs there are of those that
it asked for. The first chapter that fails, or Ctrl-C, stops the build with all its kernels; so does the end of the
build's own process, whatever ends it.

Cells tagged `live` are for a running kernel: they stay out of the copy, and out of the build.
"""

import functools
import hashlib
import html
import json
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from filelock import FileLock, Timeout
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from sphinx.util import logging
from tqdm import tqdm

from modgrok.book import formulas
from modgrok.book.kernels import ForkedPython, ThisPython
from modgrok.book.parameters import checked, read_defaults
from modgrok.storage.files import remove_leftovers, write_atomically
from modgrok.storage.find import run_folders
from modgrok.training.process import die_with_parent

log = logging.getLogger(__name__)

COLUMN = 720
"""CSS pixels, the width of the text on a page of 1,400 pixels; wider figures may use the margin (class full-width)."""

LARGE = 100_000
"""Bytes of packed pictures that a page does not hold itself."""

COSTS = {
    "01_tasks": 11, "02_learning": 5, "03_phases": 20, "04_in_context": 11, "05_depth": 6, "06_answers": 23,
    "07_heads": 26, "08_representations": 30, "09_claims": 11, "10_parts": 17, "11_lies": 23, "12_ask": 1,
    "13_order": 14, "14_cost": 2, "15_factors": 2, "16_reaching_in": 31, "17_hypothesis": 1, "18_larger_prime": 30,
    "intro": 2,
}  # fmt: skip
"""Chapter → seconds of processor time from shipped runs, on a busy server with AVX2; only their ratios count."""

UNFINISHED = ".unfinished"
"""A file among the pages while they are written; it stays there if the build is killed."""

LIST_READS = """
import sys
runs = sys.modules.get("modgrok.storage.runs")
print(*(runs.read_folders if runs else ()), sep="\\n")
"""
"""A last cell of every chapter: prints the run folders that were read, if the library was used at all."""


class ChapterError(Exception):
    """A notebook that cannot be executed; the message names notebook, cell and error."""


def build(
    root: Path, book: Path, parameters: dict | None = None, say: Callable[[str], None] = print
) -> list[str]:
    """Bring the executed copies in `book` up to date with `root/notebooks`, several at once; return those executed.

    Args:
        root: repository root, the kernels' working directory.
        book: folder of the executed copies.
        parameters: values for every chapter that declares a parameter of that name.
        say: receives the progress lines.

    Raises:
        ChapterError: one sentence naming notebook, cell and error, or the parameter; the chapters that were running
            are stopped, and nothing is left of their copies.
    """
    root, book, parameters = Path(root).resolve(), Path(book), parameters or {}
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    declared = {notebook: read_defaults(notebook) for notebook in notebooks}
    unknown = set(parameters) - set().union(*declared.values())
    if unknown:
        raise ChapterError(f"No notebook declares the parameter {min(map(str, unknown))!r}.")
    values = {n: {k: v for k, v in parameters.items() if k in declared[n]} for n in notebooks}
    for notebook in notebooks:
        for name, value in values[notebook].items():
            try:
                checked(name, value, declared[notebook][name])
            except ValueError as error:
                raise ChapterError(f"{notebook.name}: {error}") from None

    for copy in book.glob("*.ipynb"):
        if _record(copy) is not None and copy.name not in {n.name for n in notebooks}:
            copy.unlink()

    modules = sorted(f for f in (root / "modgrok").rglob("*.*") if f.suffix in (".py", ".js", ".css"))
    library = {f.relative_to(root).as_posix(): _hash(f.read_bytes()) for f in modules}
    hash_run = functools.cache(lambda name: _hash_folder(root / name))
    todo = {}
    for notebook in notebooks:
        sources = library | {
            notebook.name: _hash(notebook.read_bytes()),
            "its parameters": _hash(json.dumps(values[notebook], sort_keys=True).encode()),
        }
        record = _record(book / notebook.name)
        read_runs = (record or {}).keys() - sources.keys()  # those that the copy was made from
        current = sources | {name: hash_run(name) for name in read_runs}
        if current != record:
            todo[notebook] = values[notebook], sources
            say(f"{notebook.stem}: {_reason(record, current)}")
    if todo:
        _execute_all(todo, root, book, say)
    return [notebook.stem for notebook in todo]


def _execute_all(todo: dict, root: Path, book: Path, say: Callable[[str], None]) -> None:
    """Execute notebooks, notebook → (parameters, record), the longest first, so that none is left alone at the end."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n_workers = min(cores, len(todo))
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(cores // n_workers))
    say(f"executing {len(todo)} of the chapters, {n_workers} at a time (threads each: {threads})")
    waiting = deque(sorted(todo, key=lambda notebook: -_cost(notebook)))
    workers, running, finished = {}, {}, []  # pipe → process; → notebook
    spawn = get_context("spawn")  # processes, not threads: papermill changes the process's working directory
    start = time.perf_counter()
    try:
        while waiting or running:
            while waiting and len(running) < n_workers:
                pipe = next((pipe for pipe in workers if pipe not in running), None)
                if pipe is None:
                    pipe, end = spawn.Pipe()
                    workers[pipe] = spawn.Process(target=_work, args=(end, os.getpid(), book, root))
                    workers[pipe].start()
                    end.close()  # so that the pipe ends with the process
                running[pipe] = waiting.popleft()
                pipe.send((running[pipe], *todo[running[pipe]]))
            for pipe in connection.wait(list(running)):
                notebook = running[pipe]
                try:
                    error = pipe.recv()
                except (EOFError, OSError):
                    workers[pipe].join(10)
                    status = workers[pipe].exitcode
                    error = f"{notebook.name}: its process was killed, or out of memory (status {status})."
                if error:
                    raise ChapterError(error)
                finished.append(running.pop(pipe))
                elapsed = time.perf_counter() - start
                remaining = tqdm.format_interval(seconds_left(elapsed, finished, running.values(), waiting))
                say(
                    f"[{len(finished)}/{len(todo)}] {notebook.stem} ({elapsed:.0f} s, about {remaining} left)"
                )
    finally:
        for process in workers.values():
            process.kill()  # its kernel ends with it
        for process in workers.values():
            process.join(10)
        remove_leftovers(book)


def seconds_left(
    elapsed: float, finished: Iterable[Path], running: Iterable[Path], waiting: Iterable[Path]
) -> float:
    """Estimate the rest of a build from its seconds so far, by the chapters' `COSTS`; those that run are half done."""
    finished_cost, running_cost, waiting_cost = (
        sum(map(_cost, notebooks)) for notebooks in (finished, running, waiting)
    )
    return elapsed * (running_cost / 2 + waiting_cost) / (finished_cost + running_cost / 2)


def _cost(notebook: Path) -> float:
    return COSTS.get(notebook.stem, 15)


def _work(pipe: Any, parent: int, book: Path, root: Path) -> None:
    """Execute the chapters that come through a pipe; answer each by None, or the sentence that says what went wrong."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the build, which then ends us
    while True:
        notebook, values, record = pipe.recv()
        try:
            pipe.send(execute(notebook, book / notebook.name, values, root, record))
        except ChapterError as error:
            pipe.send(str(error))
        except Exception as error:
            pipe.send(f"{notebook.name}: {type(error).__name__}: {error}")


def execute(notebook: Path, copy: Path, parameters: dict, root: Path, record: dict) -> None:
    """Run one notebook by papermill in `root`, without its `live` cells, and write the copy, whole or not at all.

    Args:
        record: what the copy is made from, part → hash, kept in its metadata together with the runs that it reads.

    Raises:
        ChapterError: the notebook, the number of the failing cell (counted from 1) and the error.
    """
    source = nbformat.read(notebook, as_version=4)
    numbers = [i for i, cell in enumerate(source.cells, 1) if "live" not in _tags(cell)]
    source.cells = [source.cells[i - 1] for i in numbers]
    source.cells.append(nbformat.v4.new_code_cell(LIST_READS))
    numbers.append(len(numbers) + 1)
    (root / "_build/ipython").mkdir(parents=True, exist_ok=True)
    needs_library = any("modgrok.book.chapter" in cell.source for cell in source.cells)
    manager = ForkedPython if needs_library and sys.platform == "linux" else ThisPython
    try:
        executed = papermill.execute_notebook(
            source, None, parameters, kernel_name="python3", language="python", cwd=str(root),
            progress_bar=False, kernel_manager_class=manager,
        )  # fmt: skip
    except PapermillExecutionError as error:
        # papermill counts its own cell of parameters, which stands right after the declared ones
        declared = next((i for i, c in enumerate(source.cells) if "parameters" in _tags(c)), len(numbers))
        number = numbers[error.cell_index - bool(parameters and error.cell_index > declared)]
        cause = f"{error.ename}: {error.evalue}".strip(": ")
        raise ChapterError(f"{notebook.name}, cell {number}: {cause}") from None
    except DeadKernelError:
        raise ChapterError(f"{notebook.name}: its kernel was killed, or out of memory.") from None
    printed = "".join(output.get("text", "") for output in executed.cells.pop().outputs)
    folders = {Path(line).resolve() for line in printed.splitlines() if line}
    _fold_set_up(executed.cells)
    for cell in executed.cells:
        if "injected-parameters" in _tags(cell):
            cell.metadata["tags"] = [*_tags(cell), "remove-cell"]
    executed.cells = _number_figures(executed.cells)
    executed.metadata.pop("papermill", None)  # paths and times of this machine
    names = sorted(str(f.relative_to(root) if f.is_relative_to(root) else f) for f in folders)
    executed.metadata["modgrok"] = record | {name: _hash_folder(root / name) for name in names}
    write_atomically(copy, nbformat.writes(executed) + "\n")


def _fold_set_up(cells: list[nbformat.NotebookNode]) -> None:
    """Put a chapter's set-up cell below its parameters, so that both fold into one line."""
    tagged = {tag: cell for cell in cells for tag in _tags(cell) if tag in ("parameters", "set-up")}
    if len(tagged) == 2:
        parameters, set_up = tagged["parameters"], tagged["set-up"]
        set_up.source = f"{parameters.source}\n\n{set_up.source}"
        set_up.metadata["mystnb"] = {"code_prompt_show": "Parameters and set-up"}
        cells.remove(parameters)


def _is_wide(output: nbformat.NotebookNode) -> bool:
    """Whether an output is a live control, or has a picture that would shrink in a laptop's column of text."""
    page = output.get("data", {}).get("text/html", "")
    widths = re.findall(r'<svg class="modgrok-wide"[^>]* style="width: (\d+)px', page)
    return 'class="modgrok-live"' in page or any(int(width) > COLUMN for width in widths)


def _number_figures(cells: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Give every cell that shows a figure a numbered figure's caption, and drop the cells that hold these captions.

    The caption is the Markdown cell below, tagged `caption`, followed by what `Chapter.show` printed about the runs.
    Folded code moves into the caption's own fold, so that one line stands below a figure.
    """
    for cell, below in zip(cells, [*cells[1:], nbformat.v4.new_markdown_cell()], strict=True):
        figures = [o for o in cell.get("outputs", []) if "modgrok_figure" in o.get("metadata", {})]
        for output in figures[:1]:
            caption = output["data"]["text/markdown"]
            if "caption" in _tags(below):
                text = below.source.strip()
                caption = text + (" " if caption.startswith("Models: ") else "\n\n") + caption
                _describe(cell, text)
            if "hide-input" in _tags(cell):
                fence = "`" * (3 + ("```" in cell.source))
                code = f"\n\n{fence}python\n{cell.source}\n{fence}\n\n</details>"
                caption = caption.removesuffix("\n\n</details>") + code
                tags = [tag for tag in _tags(cell) if tag != "hide-input"]
                cell.metadata["tags"] = [*tags, "remove-input"]
            classes = "modgrok-figure" + " full-width" * any(map(_is_wide, cell.outputs))
            figure = {"caption": caption, "classes": classes, "name": output.metadata["modgrok_figure"]}
            cell.metadata["mystnb"] = {"figure": figure}
            cell.outputs.remove(output)
    return [cell for cell in cells if "caption" not in _tags(cell)]


def _describe(cell: nbformat.NotebookNode, caption: str) -> None:
    """Make the caption the description of a cell's pictures that have none, for readers who do not see them."""
    text = re.sub(r"\{[a-z]+\}`([^`<]*)(<[^`]*)?`", r"\1", caption).replace("*", "").replace("`", "")
    for output in cell.outputs:
        page = output.get("data", {})
        if "text/html" in page:
            label = f'aria-label="{html.escape(" ".join(text.split()))}"'
            page["text/html"] = page["text/html"].replace('aria-label=""', label)


def _reason(record: dict | None, sources: dict) -> str:
    """Return which part changed since a copy was made, and how many more did."""
    if record is None:
        return "not executed yet"
    changed = [part for part in record | sources if record.get(part) != sources.get(part)]
    return f"{changed[0]} changed" + (f", and {len(changed) - 1} more" if changed[1:] else "")


def _record(copy: Path) -> dict | None:
    """What an executed copy was made from, None if there is none or it is not ours."""
    try:
        return json.loads(copy.read_text(encoding="utf8"))["metadata"].get("modgrok")
    except (OSError, ValueError, KeyError):
        return None


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=10).hexdigest()


def _hash_folder(folder: Path) -> str:
    """The content of a run's folder, without the traces of trainers; of a pattern, which finished runs match it."""
    if "**" in folder.parts:
        root = Path(*folder.parts[: folder.parts.index("**")])
        runs = run_folders(root, folder.name)
        lines = sorted(str(run.relative_to(root)) for run in runs if (run / "provenance.json").is_file())
    else:
        files = sorted(f for pattern in ("*", "*/*") for f in folder.glob(pattern))  # links are followed
        files = [f for f in files if f.is_file() and f.name not in ("lock", "holder")]
        lines = [f"{f.relative_to(folder)} {_hash(f.read_bytes())}" for f in files]
    return _hash("\n".join(lines).encode())


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


# Sphinx ------------------------------------------------------------------------------------------------------


def setup(app) -> dict:
    """Run papermill before Sphinx looks for its sources, put beside the pages what they load, and mend them."""
    app.connect("config-inited", _before_sphinx, priority=1)
    app.connect("env-get-outdated", _glued)
    app.connect("build-finished", _finish)
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-skip-member", _skip_foreign)
    formulas.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _before_sphinx(app, config) -> None:
    try:
        parameters = dict(yaml.safe_load(os.environ.get("MODGROK_PARAMETERS") or "{}") or {})
    except (yaml.YAMLError, TypeError, ValueError):
        sys.exit("MODGROK_PARAMETERS must be a YAML mapping, such as '{preset: smoke, source: train}'.")
    book = Path(app.srcdir)
    try:
        app.build_lock = _hold(book.parent / "_build/lock")  # until the process ends
        remove_leftovers(book)
        build(book.parent, book, parameters, say=log.info)
    except ChapterError as error:
        sys.exit(f"The book was not built. {error}")
    except OSError as error:  # of a folder that cannot be written, or a full disk
        sys.exit(f"The book was not built: {': '.join(filter(None, (error.filename, error.strerror)))}.")
    except KeyboardInterrupt:
        sys.exit(
            "The book was not built: it was interrupted, and the chapters that were running are stopped."
        )
    marker = Path(app.outdir) / UNFINISHED
    if marker.exists():  # a page that is cut off is newer than its source, so that Sphinx would keep it
        for page in marker.parent.rglob("*.html"):
            page.unlink()
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _hold(path: Path) -> FileLock:
    """A lock that one build holds at a time; another one says that it waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another build of this book is at work; this one waits until it ends")
        lock.acquire()
    return lock


def _glued(app, env, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Pages that show an output of a chapter that has changed: Sphinx does not see that they depend on it."""
    references = [f":doc: {name}.ipynb" for name in added | changed]
    texts = {name: Path(env.doc2path(name)) for name in env.found_docs}
    texts = {name: path.read_text("utf8") for name, path in texts.items() if path.suffix == ".md"}
    return [name for name, text in texts.items() if any(reference in text for reference in references)]


def _skip_foreign(app, kind, name, member, skip, options) -> bool | None:
    """Leave out of the reference the fields of a NamedTuple, which its docstring explains, and what matplotlib adds."""
    module = str(getattr(member, "__module__", ""))
    return True if type(member).__name__ == "_tuplegetter" or module.startswith("matplotlib") else None


def _finish(app, exception: Exception | None) -> None:
    """Complete the pages of a build that succeeded."""
    if exception is None:
        write_weights(app)
        write_thumbnails(app)
        mend_pages(Path(app.outdir))
        (Path(app.outdir) / UNFINISHED).unlink(missing_ok=True)


def _outputs(app) -> Iterator[tuple[nbformat.NotebookNode, nbformat.NotebookNode]]:
    """Every output of the executed chapters, after its cell."""
    for notebook in Path(app.srcdir).glob("*.ipynb"):
        for cell in nbformat.read(notebook, as_version=4).cells:
            for output in cell.get("outputs", []):
                yield cell, output


def write_weights(app) -> None:
    """Put the checkpoints that the live control can ask for beside the pages; see `modgrok.live`.

    Not among the sources: Jupyter Book would load every script under its _static on every page.
    """
    steps_by_run: dict[str, set[int]] = {}
    for _, output in _outputs(app):
        models = output.get("metadata", {}).get("text/html", {}).get("modgrok_live", {})
        for run, steps in models.items():
            steps_by_run.setdefault(run, set()).update(steps)
    if steps_by_run:
        from modgrok import live  # loads torch, which other builds can do without
        from modgrok.storage.runs import Run

        for run, steps in steps_by_run.items():
            live.write_weights(Run(Path(app.srcdir).parent / run), steps, Path(app.outdir))


def write_thumbnails(app) -> None:
    """Write the first picture of every figure that a page shows as _static/thumbnails/NAME.svg beside the pages."""
    folder = Path(app.outdir) / "_static/thumbnails"
    pages = "".join(page.read_text(encoding="utf8") for page in Path(app.srcdir).glob("*.md"))
    names = set(re.findall(r"_static/thumbnails/([\w-]+)\.svg", pages))
    for cell, output in _outputs(app) if names else ():
        name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
        content = output.get("data", {}).get("text/html", "")
        svg = re.search(r'<svg class="modgrok-wide".*?</svg>', content, re.DOTALL)
        if name in names and svg:
            names.remove(name)
            folder.mkdir(parents=True, exist_ok=True)
            scalable = re.sub(r' style="width:[^"]*"', "", svg[0], count=1)  # as large as the page wants it
            widened = re.sub(r'viewBox="0 0 ([\d.]+) ', _widen, scalable, count=1)
            (folder / f"{name}.svg").write_text(widened, encoding="utf8")


def _widen(view_box: re.Match) -> str:
    """Give a picture a margin of 4 % at the left and the right: text that leaves an image is cut off."""
    width = float(view_box[1])
    return f'viewBox="{-0.04 * width:g} 0 {1.08 * width:g} '


def mend_pages(folder: Path) -> None:
    """Make the pages below a folder lighter, and give references the role that is asked of the items of a list.

    The theme draws its icons by a script of 1.5 MB, and has the same icons as fonts. The pictures of large controls go
    into scripts beside the pages, which `controls.js` loads when a reader moves a control.
    """
    pictures = folder / "_static/pictures"

    def put_beside(packed: re.Match) -> str:
        name = _hash(packed[1].encode())
        pictures.mkdir(parents=True, exist_ok=True)
        script = f'(globalThis.modgrokPictures ??= {{}})["{name}"] = "{packed[1]}";\n'
        (pictures / f"{name}.js").write_text(script, encoding="utf8")
        return f'<script type="text/plain" class="modgrok-packed" data-beside="{name}"></script>'

    large = rf'<script type="text/plain" class="modgrok-packed">([\w+/=]{{{LARGE},}})</script>'
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf8")
        mended = re.sub(r"<script defer src=\"[^\"]*/fontawesome\.js[^>]*></script>", "", text)
        mended = re.sub(large, put_beside, mended)
        mended = mended.replace(' role="doc-biblioentry"', ' role="listitem"')
        if mended != text:
            page.write_text(mended, encoding="utf8")
