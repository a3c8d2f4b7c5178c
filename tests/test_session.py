"""A process at a run's folder: it lets go when it is told to end, in a thread, and in a kernel whose parent is gone."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from tiny import ENV, tiny, wait_for

from modgrok.config import preset
from modgrok.storage.runs import Run
from modgrok.train import train
from modgrok.training.engine import make_accelerator
from modgrok.training.session import held

CONFIG = tiny()


def test_sigterm_before_the_first_step_lets_the_folder_go(tmp_path):
    accelerator, path = make_accelerator(CONFIG, tmp_path), tmp_path / CONFIG.name
    handler = signal.getsignal(signal.SIGTERM)
    message = "stopped by SIGTERM before the first step"
    with pytest.raises(KeyboardInterrupt, match=message), held(path, accelerator):
        assert (path / "holder").exists()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert not path.exists() and signal.getsignal(signal.SIGTERM) == handler
    assert train(CONFIG, tmp_path).finished


def test_training_works_in_a_thread(tmp_path):
    """Where Python allows no handlers of signals."""
    thread = threading.Thread(target=train, args=(CONFIG, tmp_path))
    thread.start()
    thread.join()
    assert Run(tmp_path / CONFIG.name).finished


ENDLESS = {"steps": 100_000, "eval_every": 100, "checkpoint_every": 100_000, "warmup_steps": 0}
CELL = f"""
import time
from pathlib import Path
from modgrok.config import preset
from modgrok.train import train
unlink = Path.unlink
def unlink_slowly(file, *args, **options):
    time.sleep(2 * (file.name == "holder"))  # an orphaned kernel is looked for every second
    unlink(file, *args, **options)
Path.unlink = unlink_slowly
train(preset("smoke", **{ENDLESS}), "runs")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for a signal")
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kernel_whose_parent_is_gone_saves(signal_number, tmp_path):
    """As papermill's is, when it is killed or told to end while a chapter trains."""
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=[new_code_cell(CELL)], metadata={"kernelspec": python})
    nbformat.write(notebook, tmp_path / "chapter.ipynb")
    argv = [sys.executable, "-m", "papermill", "chapter.ipynb", "out.ipynb", "--no-progress-bar"]
    process = subprocess.Popen(
        argv, cwd=tmp_path, env=ENV, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    path = tmp_path / "runs" / preset("smoke", **ENDLESS).name
    table = path / "metrics.csv"
    wait_for(lambda: table.exists() and len(table.read_text().splitlines()) > 2, process)
    process.send_signal(signal_number)
    process.wait(timeout=60)
    deadline = time.monotonic() + 60
    while (kernels(tmp_path) or (path / "holder").exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not kernels(tmp_path)
    assert (path / "resume.safetensors").exists() and not (path / "holder").exists()


def kernels(folder: Path) -> list[str]:
    """The processes that work in a folder."""
    processes = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve():
                processes.append(process.name)
        except OSError:  # the process ended, or belongs to another user
            continue
    return processes
