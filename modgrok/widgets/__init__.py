"""Controls that work on the published page, without a kernel and without a network.

Every picture is drawn beforehand and stands in the page as text. The pictures of a slider differ little: stored as
lines that occur once, all of them together take less room than one photograph. `controls.js` unpacks them when a reader
moves a control.

May import plots.style.
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from modgrok.widgets.data import figure_csv
from modgrok.widgets.svg import CSS, picture

__all__ = ["Page", "grid", "picture", "scrubber", "still", "tabs"]


@dataclass
class Page:
    """HTML together with the style and the code that its pictures and controls need.

    Attributes:
        start: the HTML up to, and without, the end of its outermost div.
        texts: what a control turns to.
        tables: the CSV of each picture.
    """

    start: str
    texts: Sequence[str] = ()
    tables: Sequence[str] = ()

    @cached_property
    def body(self) -> str:
        """The HTML alone, its texts packed."""
        return self._html(_packed)

    @property
    def plain(self) -> str:
        """The HTML alone, its texts as they are, to be packed together with other pages."""
        return self._html(_plain)

    @property
    def data(self) -> str:
        """All of it, as a notebook shows it."""
        folder = Path(__file__).parent
        style, code = CSS + (folder / "controls.css").read_text(), (folder / "controls.js").read_text()
        return f"<style>{style}</style>\n{self.body}\n<script>\n{code}</script>"

    def _repr_html_(self) -> str:
        return self.data

    def _html(self, pack: Callable[[Sequence[str]], str]) -> str:
        tables = f'<span class="modgrok-data" hidden>{pack(self.tables)}</span>' if self.tables else ""
        return f"{self.start}{pack(self.texts) if self.texts else ''}{tables}</div>"


def still(figure: Figure, alt: str, name: str = "figure", layouts: dict | None = None) -> Page:
    """A figure, with links to its files NAME.svg and NAME.csv, the data drawn in it; ValueError if it is none.

    layouts: as for `picture`.
    """
    if not isinstance(figure, Figure):
        raise ValueError(f"figure={figure!r:.80} must be a matplotlib Figure, such as modgrok.plots draws.")
    table = figure_csv(figure)
    return _deck(f' data-name="{escape(name)}"', "", [picture(figure, alt, layouts)], [table], 0)


def scrubber(
    pictures: Iterable[Figure], labels: Sequence, description: str = "", start: int = 0, alt: str = ""
) -> Page:
    """A slider over pictures, with steps and play.

    Figures are drawn and closed one by one, so that a generator needs little memory. The slider shows a label for each,
    and what it changes, such as "training step"; `start` is the index of the first shown, `alt` says what they show.
    """
    return grid([pictures], ([""], labels), ("", description), (0, start), alt)


def grid(
    pictures: Iterable[Iterable[Figure]],
    labels: tuple[Sequence, Sequence],
    descriptions: tuple[str, str] = ("", ""),
    start: tuple[int, int] = (0, 0),
    alt: str = "",
) -> Page:
    """Two sliders over a table of pictures: `pictures[i][j]` is shown at `labels[0][i]`, `labels[1][j]`."""
    names = [[str(label) for label in axis_labels] for axis_labels in labels]
    places = [f"{descriptions[0]} {a}, {descriptions[1]} {b}".strip(" ,") for a in names[0] for b in names[1]]
    svgs, tables, layouts = [], [], {}
    for row in pictures:
        for figure in row:
            place = places[len(svgs)] if len(svgs) < len(places) else ""
            tables.append(figure_csv(figure))
            svgs.append(picture(figure, f"{alt} ({place})" if alt else place, layouts))
    if len(svgs) != len(places):
        raise ValueError(f"{len(svgs)} pictures do not match {len(places)} labels.")
    if not all(index in range(len(axis_names)) for index, axis_names in zip(start, names, strict=True)):
        raise ValueError(f"start={tuple(start)} must be an index of each slider's labels.")
    sliders = "".join(
        _slider(description, axis_names, index, play=axis_names is names[1])
        for description, axis_names, index in zip(descriptions, names, start, strict=True)
        if len(axis_names) > 1
    )
    return _deck("", sliders, svgs, tables, start[0] * len(names[1]) + start[1])


def tabs(pages: dict[str, Figure | Page]) -> Figure | Page:
    """Figures, and pages such as `scrubber` makes, behind titled tabs. One alone needs no tab."""
    if len(pages) == 1:
        return next(iter(pages.values()))
    layouts: dict = {}
    decks = [
        still(page, title, layouts=layouts) if isinstance(page, Figure) else page
        for title, page in pages.items()
    ]
    titles = "".join(
        f'<button type="button" role="tab" aria-selected="{"false" if i else "true"}" tabindex="{-1 if i else 0}">'
        f"{escape(title)}</button>"
        for i, title in enumerate(pages)
    )
    label = escape(next(iter(pages)))
    return Page(
        f'<div class="modgrok-tabs"><div role="tablist">{titles}</div>'
        f'<div class="modgrok-page" role="tabpanel" aria-label="{label}">{decks[0].body}</div>',
        ["", *(deck.plain for deck in decks[1:])],
    )


def _deck(attributes: str, sliders: str, pictures: list[str], tables: list[str], index: int) -> Page:
    """The picture at an index below sliders, links to save it and its data, and, if there are others, all of them."""
    links = "".join(
        f'<a class="modgrok-download" data-format="{name.lower()}" href="#">{name}</a>'
        for name in ("SVG", "CSV")
    )
    return Page(
        f'<div class="modgrok-deck"{attributes}>{sliders}{pictures[index]}<p class="modgrok-files">{links}</p>',
        pictures if len(pictures) > 1 else (),
        tables,
    )


def _slider(description: str, labels: list[str], start: int, play: bool) -> str:
    """A slider with its buttons; where nothing is going on by itself, there is nothing to play."""
    name = escape(description or "picture")
    button = '<button type="button" class="modgrok-{0}" aria-label="{1}">'
    play_button = button.format("play", f"Play {name}") + "</button>" if play and len(labels) > 2 else ""
    return (
        f'<div class="modgrok-slider" data-labels="{escape(json.dumps(labels, ensure_ascii=False))}">'
        f'<span class="modgrok-what">{escape(description)}</span>{play_button}'
        f"{button.format('back', f'Previous {name}')}</button>"
        f'<span class="modgrok-range"><input type="range" min="0" max="{len(labels) - 1}" value="{start}" '
        f'aria-label="{name}" aria-valuetext="{escape(labels[start])}">'
        f'<span class="modgrok-ends" aria-hidden="true"><span>{escape(labels[0])}</span>'
        f"<span>{escape(labels[-1])}</span></span></span>"
        f"{button.format('next', f'Next {name}')}</button><output>{escape(labels[start])}</output></div>"
    )


def _packed(texts: Sequence[str]) -> str:
    """Texts that share most of their lines: each line once, and a text as the steps from line to line, deflated."""
    line_numbers: dict[str, int] = {}
    steps = []
    for text in texts:
        numbers = [line_numbers.setdefault(line, len(line_numbers)) for line in text.split("\n")]
        steps.append([after - before for before, after in zip([0, *numbers], numbers, strict=False)])
    data = json.dumps([list(line_numbers), steps], ensure_ascii=False, separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(data.encode(), 9)).decode()
    return f'<script type="text/plain" class="modgrok-packed">{packed}</script>'


def _plain(texts: Sequence[str]) -> str:
    """Texts as they are; to be packed with the page that they belong to."""
    return f'<script type="text/plain" class="modgrok-plain">{NEXT.join(texts)}</script>'


NEXT = "\n¶\n"
"""Between texts that are not packed."""
