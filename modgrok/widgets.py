"""Figures and controls that work on the published page, without a kernel and without a network.

Every picture is drawn beforehand; the browser alone links a control to the stack of pictures it turns over. The same
objects are ordinary ipywidgets in a live notebook. Only `live` needs a kernel: it draws what its controls ask for.
"""

import base64
import io
from collections.abc import Callable, Iterable, Sequence

import ipywidgets
import matplotlib
from IPython.display import HTML, Markdown, display
from ipywidgets import Layout, SelectionSlider, Stack, Tab, VBox, Widget, interactive, jslink
from matplotlib.figure import Figure
from traitlets import Unicode

DPI = 144  # of pre-rendered pictures: 1.5 pixels a CSS pixel at full size, sharp on phones where they shrink


def show(thing: Figure | Widget, caption: str = "", name: str = "", alt: str = "") -> None:
    """Display a figure (as SVG, with a download link) or a widget, with a caption below.

    In the book the caption numbers the figure, so at most one captioned `show` belongs in a cell.

    Args:
        thing: a matplotlib Figure or a widget.
        caption: one paragraph of Markdown.
        name: label for references from the text, {numref}`name`.
        alt: description for readers who do not see the picture; the caption if empty.
    """
    if isinstance(thing, Figure):
        thing = HTML(_figure_html(thing, alt or caption, name or "figure"))
    display(thing)
    if caption:
        display(Markdown(caption), metadata={"modgrok_figure": name})


class Picture(ipywidgets.Image):
    """An image whose `tooltip` is its description; the front end fails on one without the trait `description`."""

    description = Unicode("").tag(sync=True)


def picture(figure: Figure, alt: str = "") -> Picture:
    """A figure as a picture widget: lossless WebP, several times smaller than PNG and, mostly, than SVG."""
    width, height = figure.get_size_inches()
    data = io.BytesIO()
    figure.savefig(
        data, format="webp", dpi=DPI, facecolor="white", pil_kwargs={"lossless": True, "method": 6}
    )
    _close(figure)
    return Picture(
        value=data.getvalue(), format="webp", tooltip=alt or None,
        width=f"{width * 96:.0f}", height=f"{height * 96:.0f}",  # CSS pixels: keeps its place while it loads
        layout=Layout(max_width="100%", height="auto"),
    )  # fmt: skip


def scrubber(
    pictures: Iterable[Figure | Widget],
    labels: Sequence,
    description: str = "",
    start: int = 0,
    alt: str = "",
) -> VBox:
    """A slider over pictures, moved by mouse, touch or arrow keys.

    Args:
        pictures: figures (drawn and closed one by one, so a generator needs little memory) or widgets.
        labels: what the slider shows at each picture.
        description: what the slider changes, such as "training step".
        start: index of the picture shown first.
        alt: what the pictures show; the label is added.
    """
    pages = _pages(pictures, labels, alt, description)
    slider = _slider(labels, description, start)
    stack = Stack(pages, selected_index=start)
    jslink((slider, "index"), (stack, "selected_index"))
    return VBox([slider, stack])


def grid(
    pictures: Iterable[Iterable[Figure | Widget]],
    labels: tuple[Sequence, Sequence],
    descriptions: tuple[str, str] = ("", ""),
    start: tuple[int, int] = (0, 0),
    alt: str = "",
) -> VBox:
    """Two sliders over a table of pictures: `pictures[i][j]` is shown at `labels[0][i]`, `labels[1][j]`."""
    width = _width(descriptions)
    sliders = [_slider(*of, width) for of in zip(labels, descriptions, start, strict=True)]
    rows = []
    for row in pictures:
        where = f"{descriptions[0]} {labels[0][len(rows)]}, {descriptions[1]}"
        rows.append(Stack(_pages(row, labels[1], alt, where), selected_index=start[1]))
        jslink((sliders[1], "index"), (rows[-1], "selected_index"))
    stack = Stack(rows, selected_index=start[0])
    jslink((sliders[0], "index"), (stack, "selected_index"))
    return VBox([*sliders, stack])


def tabs(pages: dict[str, Figure | Widget]) -> Tab:
    """Pages behind titled tabs; a page is a figure or any widget, such as a `scrubber`."""
    return Tab([_page(p, "", title) for title, p in pages.items()], titles=tuple(pages), selected_index=0)


def live(draw: Callable[..., Figure], **controls) -> VBox:
    """Controls above a figure that the kernel draws anew after every change, so not for the published page.

    Args:
        draw: makes the figure from the controls' values; the sentence of a ValueError stands in its place.
        controls: argument of `draw` → a control, or what `ipywidgets.interact` makes one of: a text,
            (least, most) for a slider, a list or dict of choices.
    """
    controls = {name: interactive.widget_from_abbrev(control) for name, control in controls.items()}
    view, width = VBox(), _width(controls)
    for name, control in controls.items():
        control.description, control.style.description_width = name, width
        control.layout = Layout(width="100%", max_width="36rem")
        if control.has_trait("continuous_update"):
            control.continuous_update = False  # wait for the slider's release, or the text's Enter

    def redraw(change=None) -> None:
        alt = ", ".join(f"{name} {getattr(c, 'label', c.value)}" for name, c in controls.items())
        try:
            page = picture(draw(**{name: control.value for name, control in controls.items()}), alt)
        except ValueError as error:
            page = ipywidgets.HTML(f'<p role="alert">{_escape(str(error))}</p>')
        before, view.children = view.children, [page]
        for old in before:
            old.close()

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    return VBox([*controls.values(), view])


def _pages(pictures: Iterable, labels: Sequence, alt: str, description: str) -> list[Widget]:
    names = [str(label) for label in labels]
    pages = [_page(p, alt, description, *names[i : i + 1]) for i, p in enumerate(pictures)]
    if len(pages) != len(labels):
        raise ValueError(f"{len(pages)} pictures do not match {len(labels)} labels.")
    return pages


def _width(descriptions: Iterable[str]) -> str:
    """Room for the longest of some descriptions, so that their controls start below each other."""
    return f"{max(map(len, descriptions)) * 0.55 + 0.5:.1f}em"


def _slider(labels: Sequence, description: str, start: int, width: str = "initial") -> SelectionSlider:
    options = [(str(label), i) for i, label in enumerate(labels)]
    return SelectionSlider(
        options=options, index=start, description=description,
        style={"description_width": width}, layout=Layout(width="100%", max_width="36rem"),
    )  # fmt: skip


def _page(thing: Figure | Widget, alt: str, *where) -> Widget:
    if not isinstance(thing, Figure):
        return thing
    where = " ".join(str(w) for w in where if w).strip()
    return picture(thing, f"{alt} ({where})" if alt else where)


def _figure_html(figure: Figure, alt: str, name: str) -> str:
    data = io.StringIO()
    # No date and no random ids: the same figure is the same text.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(data, format="svg", facecolor="white", metadata={"Date": None})
    _close(figure)
    width = f"{figure.get_size_inches()[0] * 96:.0f}"
    source = "data:image/svg+xml;base64," + base64.b64encode(data.getvalue().encode()).decode()
    # The link takes its target from the picture when it is used, so that the page carries the figure once.
    take = "this.href=this.parentElement.querySelector('img').src"
    return (
        f'<div class="modgrok-picture"><img src="{source}" width="{width}" alt="{_escape(alt)}" '
        'style="max-width:100%;height:auto;background:#fff">'
        f'<a class="modgrok-download" download="{name}.svg" href="#" onclick="{take}">SVG</a></div>'
    )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def _close(figure: Figure) -> None:
    """Forget a pyplot figure, or the notebook would show it a second time."""
    import matplotlib.pyplot

    matplotlib.pyplot.close(figure)
