import contextlib
import datetime
import gzip
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from conftest import ROOT, jupyter_book
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from tiny import tiny

from modgrok.book.build import (
    COSTS,
    ChapterError,
    _before_sphinx,
    _finish,
    _glued,
    build,
    mend_pages,
    seconds_left,
)
from modgrok.storage import runs as runs_module
from modgrok.storage.find import find_run, finished_runs
from modgrok.train import train

PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}


NOTE = """
import os, sys, types
sys.modules["modgrok.storage.runs"] = types.SimpleNamespace(read_folders={os.path.abspath(root)})
"""
"""What `Run` does when it reads a folder; importing it takes seconds."""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A repository with two chapters: `reads` reads one of two runs, `fails` raises for one parameter value.

    Chapters are executed in forks of this process, since a new one imports Sphinx and papermill, which takes seconds. A
    build in a process of its own starts new ones: that of the book, and those that are ended here by a signal.
    """
    monkeypatch.setattr("modgrok.book.build.get_context", lambda method: multiprocessing.get_context("fork"))
    for folder in ("notebooks", "book", "modgrok", "runs/shown", "runs/other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs/shown/metrics.csv").write_text("step\n1\n")
    (tmp_path / "runs/other/metrics.csv").write_text("step\n1\n")
    (tmp_path / "modgrok/__init__.py").write_text("")
    write(tmp_path, "reads", 'root = "runs/shown"', NOTE, "print(open(f'{root}/metrics.csv').read())")
    write(
        tmp_path,
        "fails",
        "mood = 1",
        "'second'",
        "if mood == 2:\n    raise ValueError('mood=2 is not allowed.')",
    )
    return tmp_path


@pytest.fixture
def alone(house):
    """The repository with the chapter `reads` alone: executing one takes seconds."""
    (house / "notebooks/fails.ipynb").unlink()
    return house


def write(house, name, parameters, *cells):
    notebook = new_notebook(metadata={"kernelspec": PYTHON})
    notebook.cells = [
        new_markdown_cell(f"# {name}"),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
    ]
    notebook.cells += [new_code_cell(c) for c in cells]
    nbformat.write(notebook, house / "notebooks" / f"{name}.ipynb")


def run(house, **parameters) -> tuple[list[str], list[str]]:
    lines = []
    return build(house, house / "book", parameters, lines.append), lines


def executed(house, name):
    return nbformat.read(house / "book" / f"{name}.ipynb", as_version=4)


def test_only_what_changed_is_executed_and_the_reason_said(house):
    names, lines = run(house)
    assert names == ["fails", "reads"] and "reads: not executed yet" in lines
    assert "step\n1" in executed(house, "reads").cells[-1].outputs[0].text
    before = {f.name: f.stat().st_mtime_ns for f in (house / "book").iterdir()}
    assert run(house) == ([], [])
    assert before == {f.name: f.stat().st_mtime_ns for f in (house / "book").iterdir()}

    (house / "runs/other/metrics.csv").write_text("step\n2\n")
    assert run(house) == ([], [])
    (house / "runs/shown/metrics.csv").write_text("step\n2\n")
    names, lines = run(house)
    assert names == ["reads"] and lines[0] == "reads: runs/shown changed"
    assert "step\n2" in executed(house, "reads").cells[-1].outputs[0].text

    write(house, "fails", "mood = 1", "'edited'")
    (house / "modgrok/plots.py").write_text("new = True\n")
    names, lines = run(house)
    assert names == ["fails", "reads"]
    assert lines[:2] == ["fails: fails.ipynb changed, and 1 more", "reads: modgrok/plots.py changed"]


def test_parameters_reach_the_chapters_that_declare_them_and_stay_off_the_page(house):
    assert run(house, root="runs/other")[0] == ["fails", "reads"]
    injected = executed(house, "reads").cells[2]
    assert "runs/other" in injected.source and "remove-cell" in injected.metadata.tags
    (house / "runs/shown/metrics.csv").write_text("step\n2\n")
    assert run(house, root="runs/other")[0] == []
    (house / "runs/other/metrics.csv").write_text("step\n2\n")
    assert run(house, root="runs/other")[0] == ["reads"]
    with pytest.raises(ChapterError, match=r"^No notebook declares the parameter 'rooot'\.$"):
        run(house, rooot="runs")


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"mood": "x"}, "fails.ipynb: mood='x' must be a whole number, 0 or more."),
        ({"mood": True}, "fails.ipynb: mood=True must be a whole number, 0 or more."),
        ({"mood": None}, "fails.ipynb: mood=None must be a whole number, 0 or more."),
        ({"root": datetime.date(2026, 1, 1)}, "reads.ipynb: root=datetime.date(2026, 1, 1) must be text."),
        ({3: 4}, "No notebook declares the parameter '3'."),
    ],
)
def test_a_parameter_of_the_wrong_kind_is_refused_before_anything_runs(parameters, message, house):
    with pytest.raises(ChapterError) as error:
        build(house, house / "book", parameters, print)
    assert str(error.value).endswith(message) and not list((house / "book").iterdir())


def test_a_chapter_that_trains_is_not_executed_twice(alone):
    """What it reads is what it made itself."""
    make = (
        "os.makedirs('runs/made', exist_ok=True)\nopen('runs/made/metrics.csv', 'w').write(str(os.getpid()))"
    )
    write(alone, "reads", 'root = "runs/made"', NOTE, make)
    assert run(alone)[0] == ["reads"] and run(alone)[0] == []
    (alone / "runs/made/lock").touch()  # a trainer's trace is no content
    assert run(alone)[0] == []
    (alone / "runs/made/metrics.csv").unlink()
    assert run(alone)[1][0] == "reads: runs/made changed"


def test_a_run_that_a_chapter_looked_for_may_come_later(alone):
    write(alone, "reads", 'root = "runs/**/p5-*"', NOTE)
    assert run(alone)[0] == ["reads"] and run(alone)[0] == []
    new = alone / "runs/more/p5-new"
    new.mkdir(parents=True)  # unfinished
    (alone / "runs/p7-new").mkdir()
    (alone / "runs/p7-new/provenance.json").touch()
    assert run(alone)[0] == []
    (new / "config.json").touch()
    (new / "provenance.json").touch()
    assert run(alone)[1][0] == "reads: runs/**/p5-* changed" and run(alone)[0] == []
    moved = alone.rename(alone.with_name("moved"))
    assert run(moved)[0] == []


def test_the_library_says_which_runs_it_reads_and_which_it_looks_for(tmp_path, monkeypatch):
    run, root = train(tiny(), tmp_path / "runs"), tmp_path / "runs"
    monkeypatch.setattr(runs_module, "read_folders", set())
    find_run(run.name, root).model()
    assert runs_module.read_folders == {run.path}
    missing = tiny(seed=99)
    with pytest.raises(FileNotFoundError):
        find_run(missing, root)
    finished_runs(5, root)
    assert runs_module.read_folders == {run.path, root / "**" / missing.name, root / "**" / "p5-*"}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def have_ended(pids: list[int], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.1)
    return not any(map(alive, pids))


SLOW = """
import os, time
from pathlib import Path
from modgrok.training.process import die_with_parent
parent = os.getpid()
if not os.fork():
    die_with_parent(parent)  # as a trainer does
    Path("trainer").write_text(str(os.getpid()))
    time.sleep(300)
Path("kernel").write_text(str(parent))
time.sleep(300)
"""
FORKED = "\n'modgrok.book.chapter'"
"""A line that has a chapter's kernel forked."""

WAIT = (
    "import os, time\nwhile not (os.path.exists('kernel') and os.path.exists('trainer')): time.sleep(0.1)\n"
)


@pytest.fixture
def slow_house(house):
    """One chapter sleeps for minutes, with a child of its own that sleeps too."""
    (house / "modgrok/training").mkdir()
    for name in ("training/__init__.py", "training/process.py"):
        (house / "modgrok" / name).write_text((ROOT / "modgrok" / name).read_text())
    write(house, "reads", "seed = 0", SLOW)
    return house


def pids(house) -> list[int]:
    return [int((house / name).read_text()) for name in ("kernel", "trainer")]


def test_a_failing_chapter_stops_the_others_with_their_children(slow_house, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    write(slow_house, "fails", "mood = 1", WAIT + "raise ValueError('no.')")
    write(slow_house, "waits", "mood = 1", "open('waited', 'w')")
    with pytest.raises(ChapterError, match=r"^fails\.ipynb, cell 3: ValueError: no\.$"):
        run(slow_house)
    assert have_ended(pids(slow_house))
    assert not (slow_house / "waited").exists() and not list((slow_house / "book").iterdir())


def test_the_time_left_follows_from_what_the_finished_chapters_took():
    """Two at a time, on a machine three times as slow as that of the costs."""
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert {notebook.stem for notebook in notebooks} == set(COSTS)
    waiting = sorted(notebooks, key=lambda notebook: -COSTS[notebook.stem])
    end, running, finished, estimates = 0.0, {}, [], []
    while waiting or running:
        while waiting and len(running) < 2:
            running[waiting.pop(0)] = end
        ends = {notebook: start + 3 * COSTS[notebook.stem] for notebook, start in running.items()}
        notebook = min(ends, key=ends.get)
        del running[notebook]
        end = ends[notebook]
        finished.append(notebook)
        estimates.append((end, seconds_left(end, finished, running, waiting)))
    assert estimates[-1][1] == 0
    for moment, estimate in estimates[:-1]:
        assert estimate == pytest.approx(end - moment, rel=0.45, abs=8)  # of some 500 s


@pytest.mark.parametrize(
    "victim, line, message",
    [
        ("os.getppid()", "", r"its process was killed, or out of memory \(status -9\)\."),
        ("os.getpid()", FORKED, r"its kernel was killed, or out of memory\."),
    ],
)
def test_a_killed_chapter_is_named(victim, line, message, alone):
    write(alone, "reads", "seed = 0", f"import os, signal\nos.kill({victim}, signal.SIGKILL){line}")
    with pytest.raises(ChapterError, match=rf"^reads\.ipynb: {message}$"):
        run(alone)


@pytest.mark.parametrize("kind, line", [(signal.SIGINT, ""), (signal.SIGKILL, FORKED)])
def test_the_end_of_the_build_is_the_end_of_its_kernels(kind, line, slow_house):
    (slow_house / "notebooks/fails.ipynb").unlink()
    write(slow_house, "reads", "seed = 0", SLOW + line)
    # a shell's background jobs, and what they start, ignore SIGINT
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from pathlib import Path; "
    )
    code += "from modgrok.book.build import build; build(Path('.'), Path('book'))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code], cwd=slow_house, env=environment, stdout=-3, stderr=-3
    )
    try:
        end = time.monotonic() + 300
        while not all((slow_house / name).exists() for name in ("kernel", "trainer")):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.1)
        time.sleep(0.2)
        process.send_signal(kind)
        process.wait(timeout=20)
        assert have_ended(pids(slow_house))
    finally:
        process.kill()
        for pid in pids(slow_house) if (slow_house / "kernel").exists() else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_failing_cell_is_named_and_nothing_of_its_chapter_is_kept(house):
    (house / "notebooks/reads.ipynb").unlink()
    with pytest.raises(ChapterError, match=r"^fails\.ipynb, cell 4: ValueError: mood=2 is not allowed\.$"):
        run(house, mood=2)
    assert not [f.name for f in (house / "book").iterdir() if "fails" in f.name]
    write(house, "fails", "mood = 1", "'second'", "1 / 0")
    with pytest.raises(ChapterError, match=r"^fails\.ipynb, cell 4: ZeroDivisionError: division by zero$"):
        run(house)
    assert not [f.name for f in (house / "book").iterdir() if "fails" in f.name]


def test_cells_for_a_running_kernel_stay_out_of_the_book(house):
    (house / "notebooks/reads.ipynb").unlink()

    def write_live(name, last):
        write(house, name, "mood = 1", "open('ran', 'w')", last)
        file = house / f"notebooks/{name}.ipynb"
        notebook = nbformat.read(file, as_version=4)
        notebook.cells[2].metadata["tags"] = ["live"]
        nbformat.write(notebook, file)

    write_live("fails", "raise ValueError('no.')")
    for parameters in ({}, {"mood": 2}):  # the cell's number is that of the notebook
        with pytest.raises(ChapterError, match=r"^fails\.ipynb, cell 4: ValueError: no\.$"):
            run(house, **parameters)
    (house / "notebooks/fails.ipynb").unlink()
    write_live("reads", "'shown'")
    run(house)
    assert [c.source for c in executed(house, "reads").cells] == ["# reads", "mood = 1", "'shown'"]
    assert not (house / "ran").exists()


def test_copies_of_removed_chapters_go_and_other_files_stay(house):
    run(house)
    (house / "notebooks/reads.ipynb").unlink()
    nbformat.write(new_notebook(), house / "book/mine.ipynb")
    run(house)
    assert sorted(f.name for f in (house / "book").iterdir()) == ["fails.ipynb", "mine.ipynb"]


def test_chapters_run_in_the_root_with_the_python_of_the_build(alone, monkeypatch):
    kernel_folder = alone / "kernels/kernels/python3"
    kernel_folder.mkdir(parents=True)
    (kernel_folder / "kernel.json").write_text(
        json.dumps({"argv": ["false"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(alone / "kernels"))
    write(alone, "reads", 'root = "runs/shown"', "import os, sys", "print(sys.executable, os.getcwd())")
    run(alone)
    assert executed(alone, "reads").cells[-1].outputs[0].text == f"{sys.executable} {alone.resolve()}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
def test_a_kernel_that_is_forked_differs_from_a_new_one_in_nothing_that_a_chapter_sees(alone):
    code = (
        "import os, sys\nprint(os.getcwd(), sys.argv[0], sys.path[0], os.getsid(0) == os.getpid(), "
        "os.environ.get('MPLBACKEND'), os.read(0, 1), sorted(globals()))"
    )
    for name, line in (("reads", ""), ("forked", FORKED)):
        write(alone, name, 'root = "runs/shown"', code + line)
    run(alone)
    texts = [executed(alone, name).cells[-1].outputs[0].text for name in ("reads", "forked")]
    assert texts[0] == texts[1]


def test_nothing_of_the_users_own_start_up_reaches_a_chapter(alone, monkeypatch):
    profile = alone / "ipython/profile_default/startup"
    profile.mkdir(parents=True)
    (profile / "00.py").write_text("start_up = 1")
    (alone / "mine.py").write_text("mine = 1")
    monkeypatch.setenv("IPYTHONDIR", str(alone / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(alone / "mine.py"))
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    code = "import matplotlib\nprint({'start_up', 'mine'} & set(globals()))"
    write(alone, "reads", 'root = "runs/shown"', code)
    run(alone)
    assert executed(alone, "reads").cells[-1].outputs[0].text == "set()\n"


def test_captions_become_numbered_figures_and_hold_the_folded_code(alone):
    first_cell = "page.show(plt.figure(), 'fig-a')"
    wide = "page.show(plt.figure(figsize=(9, 3)), 'fig-b')"
    set_up = (
        "import matplotlib.pyplot as plt\nfrom modgrok.book.chapter import Chapter\n"
        "page = Chapter('reads', {}, 'papermill X')\n"
    )
    (alone / "modgrok/__init__.py").unlink()  # the installed library, not this stand-in
    (alone / "modgrok").rmdir()
    write(alone, "reads", "seed = 0", set_up + first_cell, wide, "'no figure'")
    source = nbformat.read(alone / "notebooks/reads.ipynb", as_version=4)
    for cell in source.cells[3:]:
        cell.metadata["tags"] = ["hide-input"]
    source.cells.insert(
        4, new_markdown_cell('See *more* of {term}`a "head"`.', metadata={"tags": ["caption"]})
    )
    nbformat.write(source, alone / "notebooks/reads.ipynb")
    run(alone)
    plain, folded, without_figure = executed(alone, "reads").cells[-3:]
    described = plain.metadata.mystnb.figure
    assert (described.name, described.classes) == ("fig-a", "modgrok-figure")
    assert described.caption.startswith("<details") and "papermill X" in described.caption
    assert len(plain.outputs) == 1 and "modgrok-picture" in plain.outputs[0].data["text/html"]
    assert folded.metadata.tags == ["remove-input"] and without_figure.metadata.tags == ["hide-input"]
    described = folded.metadata.mystnb.figure
    assert described.classes == "modgrok-figure full-width"
    assert described.caption.startswith('See *more* of {term}`a "head"`.\n\n<details')
    assert 'aria-label="See more of a &quot;head&quot;."' in folded.outputs[0].data["text/html"]
    assert described.caption.endswith(f"\n```\n\n```python\n{wide}\n```\n\n</details>")
    assert described.caption.count("</details>") == 1


def test_parameters_and_set_up_are_one_fold(alone):
    write(alone, "reads", "seed = 0", "step = seed", "print(step)")
    source = nbformat.read(alone / "notebooks/reads.ipynb", as_version=4)
    source.cells[2].metadata["tags"] = ["set-up", "hide-input"]
    nbformat.write(source, alone / "notebooks/reads.ipynb")
    run(alone, seed=3)
    _, injected, set_up, last = executed(alone, "reads").cells
    assert "remove-cell" in injected.metadata.tags and last.outputs[0].text == "3\n"
    assert set_up.source == "seed = 0\n\nstep = seed"
    assert set_up.metadata.mystnb.code_prompt_show == "Parameters and set-up"


def test_a_failed_build_ends_with_one_message(house):
    write(house, "fails", "mood = 1", "raise ValueError('no such preset.')")
    (house / "notebooks/reads.ipynb").unlink()
    (house / "book/_toc.yml").write_text("format: jb-book\nroot: fails\n")
    (house / "_config.yml").write_text("sphinx: {extra_extensions: [modgrok.book.build]}\n")
    build_process = jupyter_book(house, house)
    message = "The book was not built. fails.ipynb, cell 3: ValueError: no such preset."
    assert build_process.returncode == 1 and build_process.stdout.rstrip().endswith(message)
    assert "Traceback" not in build_process.stdout


def application(house):
    """What the extension uses of Sphinx."""
    return SimpleNamespace(srcdir=house / "book", outdir=house / "_build/html")


def test_a_page_that_a_killed_build_left_cut_off_is_written_anew(tmp_path):
    """Sphinx writes a page again if it is missing or older than its source."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book/.part-123").touch()  # of a chapter that was being written
    app = application(tmp_path)
    page = app.outdir / "api/page.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html>cut o")
    _before_sphinx(app, None)
    assert page.exists() and not list((tmp_path / "book").iterdir())
    app.build_lock.release()
    _before_sphinx(app, None)
    assert not page.exists()
    app.build_lock.release()
    page.write_text("<html></html>")
    _finish(app, None)
    _before_sphinx(app, None)
    assert page.exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "_build").touch()  # in place of the folder
    with pytest.raises(SystemExit, match=rf"^The book was not built: {tmp_path}/_build.*: [A-Z][a-z ]+\.$"):
        _before_sphinx(application(tmp_path), None)


def test_a_second_build_of_the_same_book_waits_for_the_first(tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    first, second, lines = application(tmp_path), application(tmp_path), []
    _before_sphinx(first, None)
    monkeypatch.setattr("modgrok.book.build.log.info", lines.append)
    waiting = threading.Thread(target=_before_sphinx, args=(second, None))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and lines == [
        "another build of this book is at work; this one waits until it ends"
    ]
    first.build_lock.release()
    waiting.join(20)
    assert not waiting.is_alive()


def test_the_book_builds_without_a_warning(book):
    assert "warning" not in book.log.lower().replace("suppress_warnings", ""), book.log


def test_the_folder_opens_at_the_front_page(book):
    assert 'http-equiv="Refresh" content="0; url=intro.html"' in (book.html / "index.html").read_text()


def test_a_second_build_changes_nothing(book):
    def state(folder, pattern):
        return {f: f.stat().st_mtime_ns for f in folder.rglob(pattern)}

    before = state(book.html, "*.html"), state(ROOT / "book", "*.ipynb")
    build_process = jupyter_book(ROOT, book.html.parent.parent)
    assert "0 added, 0 changed, 0 removed" in build_process.stdout and "executing" not in build_process.stdout
    assert "warning" not in build_process.stdout.lower().replace("suppress_warnings", "")
    assert before == (state(book.html, "*.html"), state(ROOT / "book", "*.ipynb"))


def test_formulas_are_mathml_and_keep_their_punctuation(book):
    for page in book.html.glob("*.html"):
        text = page.read_text()
        assert not re.search(r"<script[^>]*mathjax", text, re.IGNORECASE)
        assert not re.search(r"</math></span>[.,;]", text), page.name
    assert (
        '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">'
        in (book.html / "intro.html").read_text()
    )


def test_pages_stay_small_and_name_no_machine(book):
    for page in book.html.glob("*.html"):
        assert page.stat().st_size < 5_000_000, f"{page.name} is {page.stat().st_size / 1e6:.1f} MB."
    home = os.path.expanduser("~")
    for copy in (book.html / "_sources").glob("*.ipynb"):
        metadata = json.dumps(json.loads(copy.read_text())["metadata"])
        assert str(ROOT) not in metadata and (home == "/" or home not in metadata)


def test_a_page_that_shows_an_output_of_a_chapter_changes_with_it(tmp_path):
    texts = {
        "findings": "```{glue} findings\n:doc: 09_claims.ipynb\n```",
        "other": "[](09_claims.ipynb)",
        "09_claims": "",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}{'.ipynb' if name[0] == '0' else '.md'}").write_text(text)
    env = SimpleNamespace(
        found_docs=set(texts), doc2path=lambda name: next(map(str, tmp_path.glob(f"{name}.*")))
    )
    assert _glued(None, env, set(), {"09_claims", "other"}, set()) == ["findings"]
    assert _glued(None, env, {"09_claims"}, set(), set()) == ["findings"]
    assert _glued(None, env, set(), {"05_depth"}, set()) == []


def test_pages_lose_the_icon_script_and_keep_the_rest(tmp_path):
    script = '<script defer src="../_static/scripts/fontawesome.js?digest=5"></script>'
    other_script = '<script defer src="../_static/scripts/bootstrap.js?digest=5"></script>'
    (tmp_path / "of").mkdir()
    page = tmp_path / "of" / "page.html"
    page.write_text(f'{other_script}\n{script}\n<div class="citation" role="doc-biblioentry">')
    mend_pages(tmp_path)
    assert page.read_text() == f'{other_script}\n\n<div class="citation" role="listitem">'


def test_large_controls_keep_their_pictures_beside_the_page(tmp_path):
    packed = '<script type="text/plain" class="modgrok-packed">{}</script>'
    page = tmp_path / "page.html"
    page.write_text(packed.format("A" * 99_999) + packed.format("B+/=" * 25_000))
    mend_pages(tmp_path)
    (file,) = (tmp_path / "_static/pictures").iterdir()
    assert page.read_text().startswith(packed.format("A" * 99_999)) and "B" not in page.read_text()[100_100:]
    assert f'data-beside="{file.stem}"></script>' in page.read_text()
    assert file.read_text().endswith(f'["{file.stem}"] = "{"B+/=" * 25_000}";\n')


def test_first_loads_are_light_and_their_first_figure_comes_early(book):
    """Bytes as a server that compresses sends them, from an empty cache; at 4 Mbit/s, 0.5 MB take a second."""
    sizes = {}

    def sent(path):
        if path not in sizes:
            data = path.read_bytes()
            sizes[path] = (
                len(gzip.compress(data)) if path.suffix in (".html", ".css", ".js", ".svg") else len(data)
            )
        return sizes[path]

    always = [
        *(book.html / "_static").rglob("fa-[bs]*.woff2"),
        *(book.html / "_static/fonts").glob("*.woff2"),
    ]
    for page in book.html.glob("*.html"):
        text = page.read_text()
        files = re.findall(r'<(?:link|script|img)[^>]* (?:href|src)="(_static/[^"?#]*|searchindex.js)', text)
        needed = {book.html / file for file in files} | set(always)
        everything = sent(page) + sum(map(sent, needed))
        assert everything < 1_500_000, f"{page.name}: {everything:,} bytes"
        before, figure, _ = text.partition("</figure>")
        styles = [book.html / file for file in re.findall(r'<link[^>]* href="(_static/[^"?#]*\.css)', text)]
        early = len(gzip.compress(before.encode())) + sum(map(sent, styles))
        assert early < 500_000 or not figure, f"{page.name}: {early:,} bytes until its first figure is there"
