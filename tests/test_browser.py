"""The built book in Chromium, with the network blocked."""

import functools
import http.server
import threading
from xml.etree import ElementTree

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from conftest import PHONE, ROOT, Tabs


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


@pytest.fixture(scope="session")
def tabs(chromium, site) -> Tabs:
    return Tabs(chromium, (site, "blob:", "data:", "about:"))


@pytest.fixture
def visit(tabs, site):
    """visit(page, **options of Tabs.open) opens a page; at the end nothing may have gone wrong on any of them."""

    def open_page(name, **options):
        page = tabs.open(f"{site}{name}.html", **options)
        page.evaluate("[...document.images].forEach(i => { i.loading = 'eager' })")
        page.wait_for_function("[...document.images].every(i => i.complete)")
        return page

    yield open_page
    assert tabs.leave() == []


SHOWN = "(deck) => deck.querySelector('.modgrok-picture').innerHTML"


def settled(page, deck, before) -> str:
    """What a deck shows once it is another picture than before."""
    for _ in range(50):
        if (picture := deck.evaluate(SHOWN)) != before:
            return picture
        page.wait_for_timeout(100)
    pytest.fail("The control did not change its picture.")


MOVE_SLIDERS = """async () => {
  const faults = [];
  let nMoved = 0;
  const until = async (isSo, fault) => {
    for (let i = 0; i < 500; i++) if (isSo()) return; else await new Promise((next) => setTimeout(next, 20));
    faults.push(fault);
  };
  const move = async (deck) => {
    const picture = () => deck.querySelector(".modgrok-picture");
    for (const range of deck.querySelectorAll("input[type=range]")) {
      const [before, text] = [picture(), range.ariaValueText];
      range.focus();
      range.stepUp(range.value === range.max ? -1 : 1);
      range.dispatchEvent(new Event("input"));
      await until(() => picture() !== before, `${range.ariaLabel}: no picture takes the place of the first`);
      if (picture().innerHTML === before.innerHTML) faults.push(`${range.ariaLabel}: the same picture`);
      if (!range.ariaLabel || range.ariaValueText === text) faults.push(`${range.ariaLabel}: ${text} twice`);
      if (!picture().ariaLabel.includes(range.ariaValueText)) faults.push(`not described: ${range.ariaValueText}`);
      nMoved++;
    }
  };
  for (const area of document.querySelectorAll(".modgrok-tabs, .modgrok-deck")) {
    if (area.matches(".modgrok-tabs .modgrok-deck")) continue;
    const page = () => area.querySelector(":scope > .modgrok-page");
    for (const [i, tab] of [...area.querySelectorAll("[role=tab]")].entries()) {
      tab.click();
      await until(() => tab.ariaSelected === "true" && page().ariaLabel === tab.textContent, `tab ${i} stays closed`);
      for (const deck of page().querySelectorAll(".modgrok-deck")) await move(deck);
    }
    if (area.matches(".modgrok-deck")) await move(area);
  }
  return [nMoved, faults];
}"""
"""Opens each tab, and moves each slider one step: its picture, its label and its description must follow."""


def first_deck(page):
    return page.locator(".modgrok-deck:has(.modgrok-play)").first


def test_play_moves_and_stops_and_the_steps_step(visit):
    page = visit("02_learning")
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
    page = visit("02_learning", color_scheme="dark")
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
EMPTY = """() => {
  document.querySelectorAll(".modgrok-picture svg:not(:has(a))").forEach((svg) => svg.replaceChildren());
}"""
"""Takes away what is hidden from all that reads aloud, and large: axe would go through all of it."""

CHOOSE = """(known) => {
  const attributes = ["class", "style", "role", "aria-selected", "aria-pressed", "aria-checked", "disabled"];
  const places = new Set(known);
  const hash = (text) => [...text].reduce((sum, letter) => (Math.imul(sum, 31) + letter.codePointAt()) | 0, 7);
  const isRead = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  globalThis.chosen = [];
  const choose = (parent, path) => [...parent.children].forEach((child, i) => {
    const row = child.localName === "tr" ? i % 2 : "";  // rows of tables are shaded in turn
    const style = attributes.map((name) => child.getAttribute(name)).join(" ");
    const place = hash(`${path} > ${child.localName} ${row} ${style}`);
    if ((isRead(child) || child.matches("input, select, textarea")) && !places.has(place) && child.checkVisibility()) {
      places.add(place);
      chosen.push(child);
    }
    choose(child, place);
  });
  choose(document.body, "");
  return [...places];
}"""
"""Chooses one element of each style in each place of a page, and none of a place that is known from other pages:
contrast is measured once for all that look alike. Returns the places, hashed."""

STILL = "*, ::before, ::after { transition: none !important; animation: none !important }"
"""A style in which colours change at once."""


@pytest.fixture(scope="session")
def places() -> list[int]:
    """Where this process has measured contrast, as CHOOSE returns it."""
    return []


@pytest.mark.parametrize("name", PAGES)
def test_a_page(visit, name, places):
    """One visit, since opening a page takes seconds: without network, its sliders, on a phone, axe-core's findings."""
    page = visit(name)
    n_moved, faults = page.evaluate(MOVE_SLIDERS)
    assert not faults and n_moved >= page.locator(".modgrok-slider").count()
    no_text_leaves_its_figure(page)
    page.set_viewport_size(PHONE)
    it_fits_a_phone(page)
    no_text_leaves_its_figure(page)
    page.evaluate(EMPTY)
    page.evaluate(Axe().axe_script)
    axe_finds_nothing_serious(page, RULES)
    places[:] = page.evaluate(CHOOSE, places)
    page.add_style_tag(content=STILL)
    for theme in (
        ("dark", "light") if page.evaluate("chosen.length") else ()
    ):  # a theme changes nothing but colours
        page.emulate_media(color_scheme=theme)
        page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
        axe_finds_nothing_serious(page, CONTRAST, "{ include: chosen }")


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


def axe_finds_nothing_serious(page, rules, context="document"):
    """By the rules of WCAG 2.1 A and AA, of its heaviest findings; axe's script is in the page."""
    violations = page.evaluate(f"rules => axe.run({context}, rules)", rules)["violations"]
    serious = [violation for violation in violations if violation["impact"] in ("serious", "critical")]
    assert not serious, "\n".join(
        f"{violation['id']}: {node['html'][:200]}" for violation in serious for node in violation["nodes"][:3]
    )
