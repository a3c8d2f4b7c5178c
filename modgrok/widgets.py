"""Controls that work on the published page, without a kernel and without a network.

Every picture is drawn beforehand; the browser alone links a control to the stack of pictures it turns over. The same
objects are ordinary ipywidgets in a live notebook. Only `live` needs a kernel: it draws what its controls ask for.
"""

import io
from collections.abc import Callable, Iterable, Sequence

import ipywidgets
from ipywidgets import Layout, SelectionSlider, Stack, Tab, VBox, Widget, interactive, jslink
from matplotlib.figure import Figure
from traitlets import Unicode

DPI = 144  # of pre-rendered pictures: 1.5 pixels a CSS pixel at full size, sharp on phones where they shrink


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
    close(figure)
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


def tabs(pages: dict[str, Figure | Widget]) -> Figure | Widget:
    """Pages behind titled tabs; a page is a figure or any widget, such as a `scrubber`. One alone needs no tab."""
    if len(pages) == 1:
        return next(iter(pages.values()))
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
            page = ipywidgets.HTML(f'<p role="alert">{escape(str(error))}</p>')
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


def escape(text: str) -> str:
    """Text as it stands in HTML."""
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def close(figure: Figure) -> None:
    """Forget a pyplot figure, or the notebook would show it a second time."""
    import matplotlib.pyplot

    matplotlib.pyplot.close(figure)
