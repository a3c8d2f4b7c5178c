"""Controls that work on the published page, without a kernel and without a network.

Every picture is drawn beforehand and stands in the page as text: the pictures of a slider differ little, so that all of
them, as lines that occur once, take less room than one photograph. `controls.js` unpacks them when a reader moves a
control. That is all a picture-turner needs; ipywidgets' own front end would be another 2 MB of script a page, which
takes seconds on a slow line. `live` does need ipywidgets: it asks the kernel to draw what its controls say.

May import plots.style.
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import ipywidgets
from IPython.display import HTML
from ipywidgets import Layout, Tab, VBox, interactive
from matplotlib.figure import Figure

from modgrok.widgets.svg import CSS, escape, picture, without_narrow

__all__ = ["Page", "grid", "live", "picture", "scrubber", "still", "tabs"]


class Page(HTML):
    """HTML together with the style and the code that its pictures and controls need.

    Attributes:
        body: the HTML alone, its texts packed.
        plain: the same, the texts as they are, to be packed together with other pages.
    """

    def __init__(self, start: str, texts: Sequence[str] = ()) -> None:
        self.body = f"{start}{_packed(texts) if texts else ''}</div>"
        self.plain = f"{start}{_plain(texts) if texts else ''}</div>"
        here = Path(__file__).parent
        style, code = CSS + (here / "controls.css").read_text(), (here / "controls.js").read_text()
        super().__init__(f"<style>{style}</style>\n{self.body}\n<script>\n{code}</script>")


def still(figure: Figure, alt: str, name: str = "figure") -> Page:
    """A figure, with a link to its file NAME.svg."""
    return _deck(f' data-name="{escape(name)}"', "", [picture(figure, alt)], 0)


def scrubber(
    pictures: Iterable[Figure],
    labels: Sequence,
    description: str = "",
    start: int = 0,
    alt: str = "",
) -> Page:
    """A slider over pictures, with steps and play.

    Args:
        pictures: figures, drawn and closed one by one, so that a generator needs little memory.
        labels: what the slider shows at each picture.
        description: what the slider changes, such as "training step".
        start: index of the picture shown first.
        alt: what the pictures show; the label is added.
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
    names = [[str(label) for label in of] for of in labels]
    places = [f"{descriptions[0]} {a}, {descriptions[1]} {b}".strip(" ,") for a in names[0] for b in names[1]]
    drawn = []
    for row in pictures:
        for figure in row:
            where = places[len(drawn)] if len(drawn) < len(places) else ""
            drawn.append(picture(figure, f"{alt} ({where})" if alt else where))
    if len(drawn) != len(places):
        raise ValueError(f"{len(drawn)} pictures do not match {len(places)} labels.")
    shown = start[0] * len(names[1]) + start[1]
    sliders = "".join(
        _slider(*of, play=of[1] is names[1])
        for of in zip(descriptions, names, start, strict=True)
        if len(of[1]) > 1
    )
    return _deck("", sliders, drawn, shown)


def tabs(pages: dict[str, Figure | Page | ipywidgets.Widget]) -> Figure | Page | ipywidgets.Widget:
    """Pages behind titled tabs: figures and the like of `scrubber`, or what `live` made. One alone needs no tab."""
    if len(pages) == 1:
        return next(iter(pages.values()))
    if any(isinstance(page, ipywidgets.Widget) for page in pages.values()):
        tab = Tab(list(pages.values()), selected_index=0)
        for i, title in enumerate(pages):  # one by one also for ipywidgets 7, which Colab has
            tab.set_title(i, title)
        return tab
    made = [still(page, title) if isinstance(page, Figure) else page for title, page in pages.items()]
    titles = "".join(
        f'<button type="button" role="tab" aria-selected="{"false" if i else "true"}" tabindex="{-1 if i else 0}">'
        f"{escape(title)}</button>"
        for i, title in enumerate(pages)
    )
    label = escape(next(iter(pages)))
    return Page(
        f'<div class="modgrok-tabs"><div role="tablist">{titles}</div>'
        f'<div class="modgrok-page" role="tabpanel" aria-label="{label}">{made[0].body}</div>',
        ["", *(page.plain for page in made[1:])],
    )


def live(draw: Callable[..., Figure], **controls) -> VBox:
    """Controls above a figure that the kernel draws anew after every change, so not for the published page.

    Args:
        draw: makes the figure from the controls' values; the sentence of a ValueError stands in its place.
        controls: argument of `draw` → a control, or what `ipywidgets.interact` makes one of: a text,
            (least, most) for a slider, a list or dict of choices.
    """
    controls = {name: interactive.widget_from_abbrev(control) for name, control in controls.items()}
    view = ipywidgets.HTML()
    width = f"{max(map(len, controls)) * 0.55 + 0.5:.1f}em"  # of the longest name: all start below each other
    for name, control in controls.items():
        control.description, control.style.description_width = name, width
        control.layout = Layout(width="100%", max_width="36rem")
        if control.has_trait("continuous_update"):
            control.continuous_update = False  # wait for the slider's release, or the text's Enter

    def redraw(change=None) -> None:
        alt = ", ".join(f"{name} {getattr(c, 'label', c.value)}" for name, c in controls.items())
        try:
            shown = picture(draw(**{name: control.value for name, control in controls.items()}), alt)
            view.value = f"<style>{CSS}</style>{shown}"
        except ValueError as error:
            view.value = f'<p role="alert">{escape(str(error))}</p>'

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    return VBox([*controls.values(), view])


def _deck(attributes: str, sliders: str, pictures: list[str], index: int) -> Page:
    """One of the pictures below sliders, a link to save it, and all of them, unless it is all that there is."""
    first = without_narrow(pictures[index])
    link = '<a class="modgrok-download" href="#">SVG</a>'
    return Page(
        f'<div class="modgrok-deck"{attributes}>{sliders}{first}{link}',
        pictures if pictures != [first] else (),
    )


def _slider(description: str, labels: list[str], start: int, play: bool) -> str:
    """A slider with its buttons; where nothing is going on by itself, there is nothing to play."""
    name, button = (
        escape(description or "picture"),
        '<button type="button" class="modgrok-{0}" aria-label="{1}">',
    )
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
    known: dict[str, int] = {}
    steps = []
    for text in texts:
        places = [known.setdefault(line, len(known)) for line in text.split("\n")]
        steps.append([there - here for here, there in zip([0, *places], places, strict=False)])
    data = json.dumps([list(known), steps], ensure_ascii=False, separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(data.encode(), 9)).decode()
    return f'<script type="text/plain" class="modgrok-packed">{packed}</script>'


def _plain(texts: Sequence[str]) -> str:
    return f'<script type="text/plain" class="modgrok-plain">{NEXT.join(texts)}</script>'


NEXT = "\n¶\n"
"""Between texts that are not packed."""
