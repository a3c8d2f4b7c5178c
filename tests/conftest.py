"""Shared by all tests: the repository's root, a small model, a finished run, and the real book, built once."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from modgrok.config import Config
from modgrok.model import Transformer
from modgrok.storage.runs import Run
from modgrok.train import train
from modgrok.training.engine import keep_memory

ROOT = Path(__file__).resolve().parent.parent


FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # no network
]

LONGEST = 20 * 60
"""Seconds after which a build is given up, as a test is (see pyproject.toml)."""


SLOW = {
    "test_book", "test_cli", "test_jobs", "test_kills", "test_library", "test_multinode", "test_notebooks",
    "test_resume", "test_shipped", "test_sweep", "test_train", "test_wheel",
}  # fmt: skip
"""Files whose tests train, build or start processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need Chromium or the built book `browser`, and those of the files above `slow`; sort them.

    The first test builds the book, while another process goes through those that need none; what is short comes last,
    so that no process waits for a long test at the end.
    """
    for item in items:
        if {"book", "chromium"} & set(item.fixturenames):
            item.add_marker(pytest.mark.browser)
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: ("book" not in item.fixturenames, item.get_closest_marker("slow") is None))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Arrays are small here: a second thread only waits. Memory is used again: new pages take a tenth of the time."""
    torch.set_num_threads(1)
    keep_memory()


@dataclass(frozen=True)
class Book:
    html: Path  # folder of the pages
    log: str  # what the build printed


def jupyter_book(root: Path, out: Path) -> subprocess.CompletedProcess:
    """`jupyter-book build book` in `root`, with the pages in `out`; stdout holds stderr too."""
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", "book", "--path-output", out]
    return subprocess.run(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"NO_COLOR": "1", "PYTHONPATH": str(ROOT)}, timeout=LONGEST,
    )  # fmt: skip


def shared_folder(tmp_path_factory) -> Path:
    """A temporary folder that all test processes of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Book:
    """The repository's book, every page made anew, by whichever test process comes first."""
    from filelock import FileLock

    shared = shared_folder(tmp_path_factory)
    out, log = shared / "book", shared / "book.log"
    with FileLock(shared / "book.lock"):
        if not log.exists():
            build = jupyter_book(ROOT, out)
            log.write_text(f"{build.stdout}\nexit status {build.returncode}")
    text = log.read_text()
    assert text.endswith("exit status 0"), text
    return Book(out / "_build" / "html", text)


@pytest.fixture(scope="module")
def config() -> Config:
    """Of a model small enough to look into at once."""
    return Config(
        p=5, n_tasks=8, alpha=0.8, n_examples=6, depth=2, n_embd=16, n_head=2, batch_size=16, init_std=0.3
    )


@pytest.fixture(scope="module")
def model(config) -> Transformer:
    """It, untrained."""
    return Transformer(config).init_weights(torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def original(request, tmp_path_factory) -> Run:
    """A finished run of the module's CONFIG, not to be changed."""
    return train(request.module.CONFIG, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(original, tmp_path) -> Run:
    """A copy of it, to be changed at will."""
    return Run(shutil.copytree(original.path, tmp_path / original.name))


@pytest.fixture
def sweeps_here(monkeypatch):
    """Sweeps train in this process, one run after another; those with processes of their own: test_sweep."""

    def work_off(configs, root, resources):
        for config in configs:
            train(config, root)
            yield config, None

    monkeypatch.setattr("modgrok.scale.sweep.work_off", work_off)


@pytest.fixture(scope="session")
def chromium():
    """The browser, one for all tests of a process: playwright does not start twice in one."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium", path=f"/usr/bin{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("The browser tests need chromium, and CI is set.")
        pytest.skip("The browser tests need chromium (Debian: apt-get install chromium).")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


SCREEN = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


class Tabs:
    """Pages of one browser context. Tests use them one after another, since a new context loads everything anew.

    Attributes:
        faults: what went wrong on the open pages, one line each.
    """

    def __init__(self, browser, allowed: tuple[str, ...], **options):
        """`allowed` are the beginnings of addresses that a page may ask for, `options` those of the context."""
        self.allowed, self.faults = allowed, []
        self.context = browser.new_context(**options)
        self.context.on("request", self.guard)
        self.idle, self.opened = [], []

    def guard(self, request) -> None:
        if not request.url.startswith(self.allowed):
            self.faults.append(f"asked the network for {request.url}")

    def new_page(self):
        page, faults = self.context.new_page(), self.faults
        page.on("console", lambda m: m.type == "error" and faults.append(f"console: {m.text}"))
        page.on("pageerror", lambda e: faults.append(f"script: {e}"))
        page.on("requestfailed", lambda r: faults.append(f"failed: {r.url}"))
        page.on("response", lambda r: r.status >= 400 and faults.append(f"{r.status}: {r.url}"))
        return page

    def open(
        self, address: str, viewport: dict = SCREEN, color_scheme="light", reduced_motion="no-preference"
    ):
        """Load an address in a page that no test uses, as it looks to a reader with these settings."""
        page = self.idle.pop() if self.idle else self.new_page()
        self.opened.append(page)
        page.bring_to_front()  # one behind another draws nothing
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=color_scheme, reduced_motion=reduced_motion)
        page.goto(address)
        return page

    def leave(self) -> list[str]:
        """Empty all open pages, forget what they stored, and return what went wrong on them."""
        faults = list(self.faults)
        while self.opened:
            page = self.opened.pop()
            page.evaluate("localStorage.clear()")
            page.goto("about:blank")
            self.idle.append(page)
        self.faults.clear()
        return faults
