"""The built book in Chromium, with the network blocked."""

import functools
import http.server
import threading
from xml.etree import ElementTree

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT


def toc(node) -> list[str]:
    """The pages of a table of contents, in order."""
    if isinstance(node, list):
        return [page for entry in node for page in toc(entry)]
    pages = [node[k] for k in ("root", "file") if k in node]
    return pages + [page for v in node.values() if isinstance(v, list) for page in toc(v)]


PAGES = [*toc(yaml.safe_load((ROOT / "_toc.yml").read_text())), "search", "genindex"]


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


@pytest.fixture
def visit(chromium, site):
    """visit(page, **context options) opens a page; at the end nothing may have gone wrong on any of them."""
    wrong, contexts = [], []

    def guard(request):
        if not request.url.startswith((site, "blob:", "data:")):
            wrong.append(f"asked the network for {request.url}")

    def open_page(name, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        context.on("request", guard)
        page = context.new_page()
        page.on("console", lambda m: m.type == "error" and wrong.append(f"console: {m.text}"))
        page.on("pageerror", lambda e: wrong.append(f"script: {e}"))
        page.on("requestfailed", lambda r: wrong.append(f"failed: {r.url}"))
        page.on("response", lambda r: r.status >= 400 and wrong.append(f"{r.status}: {r.url}"))
        page.goto(f"{site}{name}.html", wait_until="load")
        page.wait_for_function("[...document.images].every(i => i.complete)")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


CONTROLS = ".modgrok-tabs, .modgrok-deck:has(.modgrok-slider)"
SHOWN = "(deck) => deck.querySelector('.modgrok-picture').innerHTML"


def settled(page, deck, before) -> str:
    """What a deck shows once it is another picture than before."""
    for _ in range(50):
        if (picture := deck.evaluate(SHOWN)) != before:
            return picture
        page.wait_for_timeout(100)
    pytest.fail("The control did not change its picture.")


def decks(page):
    """Every control with sliders of a page, each tab opened in turn."""
    for area in page.locator(CONTROLS).all():
        for tab in area.locator("[role=tab]").all() or [None]:
            if tab:
                tab.click()
                page.wait_for_function("tab => tab.ariaSelected === 'true'", arg=tab.element_handle())
                page.wait_for_timeout(100)
            is_deck = "modgrok-deck" in (area.get_attribute("class") or "")
            yield from [area] if is_deck else area.locator(".modgrok-deck:has(.modgrok-slider)").all()


def first_deck(page):
    return page.locator(".modgrok-deck:has(.modgrok-play)").first


def test_play_moves_and_stops_and_the_steps_step(visit):
    page = visit("02_learning", viewport={"width": 1280, "height": 900})
    deck = first_deck(page)
    play, handle = deck.locator(".modgrok-play"), deck.locator("input")
    handle.focus()
    page.keyboard.press("Home")
    place = int(handle.input_value())
    play.click()
    assert play.get_attribute("aria-pressed") == "true"
    page.wait_for_function("([input, at]) => input.value >= at", arg=[handle.element_handle(), place + 2])
    play.click()
    place = int(handle.input_value())
    page.wait_for_timeout(1000)
    assert play.get_attribute("aria-pressed") == "false" and int(handle.input_value()) == place
    before = deck.evaluate(SHOWN)
    deck.locator(".modgrok-back").click()
    assert int(handle.input_value()) == place - 1
    stepped = settled(page, deck, before)
    deck.locator(".modgrok-next").focus()
    page.keyboard.press("Enter")
    assert settled(page, deck, stepped) == before


def test_nothing_plays_for_who_wants_no_motion(visit):
    page = visit("02_learning", reduced_motion="reduce")
    deck = first_deck(page)
    assert not deck.locator(".modgrok-play").is_visible() and deck.locator(".modgrok-next").is_visible()


def test_the_shown_picture_can_be_saved(visit):
    page = visit("02_learning", color_scheme="dark", accept_downloads=True)
    deck = first_deck(page)
    deck.locator(".modgrok-next").click()
    step = deck.locator("output").inner_text()
    files = {}
    for file_format in ("SVG", "CSV"):
        with page.expect_download() as download:
            deck.get_by_role("link", name=file_format).click()
        files[file_format] = download.value.path().read_text()
        name = f"fig-shots-{step.replace(',', '')}.{file_format.lower()}"
        assert download.value.suggested_filename == name
    saved = files["SVG"]
    assert files["CSV"].startswith("panel,series,kind,x,y,value\n") and files["CSV"].count("\n") > 10
    assert ElementTree.fromstring(saved).tag.endswith("svg") and "var(" not in saved  # of itself, for paper


@pytest.mark.parametrize("theme, ink", [("light", "rgb(34, 38, 43)"), ("dark", "rgb(228, 231, 235)")])
def test_figures_are_drawn_in_the_theme_of_the_page(visit, theme, ink):
    page = visit("05_depth", color_scheme=theme)
    inks = page.locator(".modgrok-picture svg g[style*='fill']").evaluate_all(
        "all => [...new Set(all.map(g => getComputedStyle(g).fill))]"
    )
    assert ink in inks and len({"rgb(34, 38, 43)", "rgb(228, 231, 235)"} & set(inks)) == 1
    page.evaluate("document.documentElement.dataset.theme = 'dark'")  # as the page's own switch does
    fill = page.locator(".modgrok-picture svg g[style*='22262b']").first
    assert fill.evaluate("g => getComputedStyle(g).fill") == "rgb(228, 231, 235)"
    box = "e => getComputedStyle(e).backgroundColor"
    for around in page.locator(".cell_output:has(.modgrok-picture), .text_html:has(.modgrok-picture)").all():
        assert around.evaluate(box) == "rgba(0, 0, 0, 0)"


RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
    "rules": {"color-contrast": {"enabled": False}},
    "preload": False,  # it would ask for style sheets
    "resultTypes": ["violations"],  # the rest is counted, not listed
}
CONTRAST = RULES | {"runOnly": {"type": "rule", "values": ["color-contrast"]}, "rules": {}}
PARTS = {"exclude": [[".modgrok-picture svg:not(:has(a))"]]}  # hidden from all that reads aloud, and large

THIN_OUT = """() => {
  const attributes = ["class", "style", "role", "aria-selected", "aria-pressed", "aria-checked", "disabled"];
  const visible = new Set([...document.body.querySelectorAll("*")].filter((element) => element.checkVisibility()));
  const places = new Set();
  const thinOut = (parent, path) => [...parent.children].forEach((child, i) => {
    if (child.matches(".modgrok-live, .modgrok-deck")) return;  // scripts look for their parts
    const row = child.localName === "tr" ? i % 2 : "";  // rows of tables are shaded in turn
    const style = attributes.map((name) => child.getAttribute(name)).join(" ");
    const isRead = visible.has(child) && child.textContent.trim().length > 1;
    const place = `${path} > ${child.localName} ${row} ${style} ${isRead}`;
    thinOut(child, place);
    if (places.has(place) && !child.children.length) child.remove();
    places.add(place);
  });
  document.querySelectorAll(".modgrok-picture svg:not(:has(a))").forEach((svg) => svg.replaceChildren());
  thinOut(document.body, "");
  scrollTo(0, 0);
}"""
"""Leaves one element of each style in each place of a page: contrast is measured once for all that look alike."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page(visit, name):
    """One visit, since opening a page takes seconds: without network, its sliders, on a phone, axe-core's findings."""
    page = visit(name, viewport={"width": 1280, "height": 900})
    every_slider_moves_its_picture(page)
    no_text_leaves_its_figure(page)
    page.set_viewport_size({"width": 390, "height": 844})
    it_fits_a_phone(page)
    no_text_leaves_its_figure(page)
    page.evaluate(Axe().axe_script)
    axe_finds_nothing_serious(page, RULES)
    page.evaluate(THIN_OUT)
    for theme in ("dark", "light"):  # a theme changes nothing but colours
        page.emulate_media(color_scheme=theme)
        page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
        page.wait_for_timeout(300)  # colours change by and by
        axe_finds_nothing_serious(page, CONTRAST)


def every_slider_moves_its_picture(page):
    for deck in decks(page):
        for handle in deck.locator("input[type=range]").all():
            before, label = deck.evaluate(SHOWN), handle.get_attribute("aria-valuetext")
            handle.focus()
            last = handle.input_value() == handle.get_attribute("max")
            page.keyboard.press("ArrowLeft" if last else "ArrowRight")
            settled(page, deck, before)
            assert handle.get_attribute("aria-label") and handle.get_attribute("aria-valuetext") != label
            description = deck.locator(".modgrok-picture").get_attribute("aria-label")
            assert handle.get_attribute("aria-valuetext") in description


def it_fits_a_phone(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for box in page.locator(".bd-article :is(img, .modgrok-picture):visible").evaluate_all(
        "all => all.map(i => [i.getBoundingClientRect().left, i.getBoundingClientRect().right])"
    ):
        assert box[0] >= 0 and box[1] <= 390
    small = page.locator(".modgrok-picture svg:visible").evaluate_all(
        "all => all.filter(s => s.getBoundingClientRect().width < parseFloat(s.style.minWidth) - 1).length"
    )
    assert small == 0, "a figure whose labels are below 9 px"


CUT = """all => all.flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  const texts = new Set([...svg.querySelectorAll("use[href*=DejaVu]")].map(glyph => glyph.parentNode));
  return [...texts].map(text => text.getBoundingClientRect()).filter(box =>
    box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1
  ).map(box => `${svg.closest(".modgrok-picture").ariaLabel}: at ${box.left - frame.left}, ${box.top - frame.top}`);
})"""


def no_text_leaves_its_figure(page):
    assert page.locator(".modgrok-picture svg:visible").evaluate_all(CUT) == []


def axe_finds_nothing_serious(page, rules):
    """By the rules of WCAG 2.1 A and AA, of its heaviest findings; axe's script is in the page."""
    violations = page.evaluate("([parts, rules]) => axe.run(parts, rules)", [PARTS, rules])["violations"]
    serious = [violation for violation in violations if violation["impact"] in ("serious", "critical")]
    assert not serious, "\n".join(
        f"{violation['id']}: {node['html'][:200]}" for violation in serious for node in violation["nodes"][:3]
    )
