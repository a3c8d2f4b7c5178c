"""The built book in Chromium, with the network blocked."""

import functools
import http.server
import os
import shutil
import threading

import pytest
import yaml
from conftest import ROOT

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def toc(node) -> list[str]:
    """The pages of a table of contents, in order."""
    if isinstance(node, list):
        return [page for entry in node for page in toc(entry)]
    own = [node[k] for k in ("root", "file") if k in node]
    return own + [page for v in node.values() if isinstance(v, list) for page in toc(v)]


PAGES = [*toc(yaml.safe_load((ROOT / "_toc.yml").read_text())), "index", "search", "genindex"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def site(book):
    """The book's address on this machine."""
    handler = functools.partial(Quiet, directory=book.html)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium", path=f"/usr/bin{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("The browser tests need chromium, and CI is set.")
        pytest.skip("The browser tests need chromium (Debian: apt-get install chromium).")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, site):
    """visit(page, **context options) opens a page; at the end nothing may have gone wrong on any of them."""
    wrong, contexts = [], []

    def guard(route):
        if route.request.url.startswith(site):
            return route.continue_()
        wrong.append(f"asked the network for {route.request.url}")
        route.abort()

    def open_page(name, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        context.route("**/*", guard)
        page = context.new_page()
        page.on("console", lambda m: m.type == "error" and wrong.append(f"console: {m.text}"))
        page.on("pageerror", lambda e: wrong.append(f"script: {e}"))
        page.on("requestfailed", lambda r: wrong.append(f"failed: {r.url}"))
        page.on("response", lambda r: r.status >= 400 and wrong.append(f"{r.status}: {r.url}"))
        page.goto(f"{site}{name}.html", wait_until="load")
        views = page.locator('script[type="application/vnd.jupyter.widget-view+json"]').count()
        page.wait_for_function(
            "n => document.querySelectorAll('.widget-subarea .jupyter-widgets').length >= n", arg=views
        )
        page.wait_for_function("[...document.images].every(i => i.complete)")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


# What a widget shows: its visible pictures' bytes and its text, without the slider's own label.
SHOWN = """async (area) => {
  const parts = [];
  for (const picture of area.querySelectorAll("img, .widget-html-content, .jp-OutputArea")) {
    if (!picture.offsetParent) continue;
    if (picture.tagName !== "IMG") { parts.push(picture.textContent); continue; }
    const bytes = await (await fetch(picture.src)).arrayBuffer();
    const digest = await crypto.subtle.digest("SHA-1", bytes);
    parts.push([...new Uint8Array(digest)].join());
  }
  return parts.join(" ");
}"""


@pytest.mark.parametrize("name", PAGES)
def test_page_opens_without_network_and_every_slider_moves_its_picture(visit, name):
    page = visit(name, viewport={"width": 1280, "height": 900})
    areas = page.locator(".widget-subarea")
    for i in range(areas.count()):
        area = areas.nth(i)
        tabs = area.locator(".lm-TabBar-tab")
        for tab in range(max(tabs.count(), 1)):
            if tabs.count():
                tabs.nth(tab).click()
            for handle in area.locator(".noUi-handle:visible").all():
                check_slider(page, area, handle)


def check_slider(page, area, handle):
    assert handle.get_attribute("aria-label"), "a slider without a name"
    before = area.evaluate(SHOWN)
    value = float(handle.get_attribute("aria-valuenow"))
    last = value >= float(handle.get_attribute("aria-valuemax"))
    handle.focus()
    page.keyboard.press("ArrowLeft" if last else "ArrowRight")
    label = handle.get_attribute("aria-label")
    for _ in range(50):
        if area.evaluate(SHOWN) not in (before, ""):
            break
        page.wait_for_timeout(100)
    else:
        pytest.fail(f"The slider {label!r} did not change its picture.")
    assert all(area.locator("img.widget-image:visible").evaluate_all("all => all.map(i => i.alt !== '')"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(visit, name, theme):
    page = visit(name, viewport={"width": 390, "height": 844}, color_scheme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for box in page.locator(".bd-article img:visible").evaluate_all(
        "all => all.map(i => [i.getBoundingClientRect().left, i.getBoundingClientRect().right])"
    ):
        assert box[0] >= 0 and box[1] <= 390
