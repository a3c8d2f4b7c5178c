"""A figure as HTML that follows the page: dark where the page is dark, stacked where it is narrow, vectors throughout.

The figure is SVG inside the page. Each colour of `plots.style.DARK` is written as a CSS variable whose default is the
colour itself, so that style sheets alone turn the same picture dark: here for the book, for JupyterLab, Colab and VS
Code. A second SVG, for phones, stands beside the first where a figure can be stacked. Below these widths a picture
scrolls instead of shrinking, so that no label gets smaller than LEAST pixels; its right edge fades, or where a browser
cannot do that has a shadow, until the end is reached.
"""

import io
import re
from html import escape
from pathlib import Path

from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.text import Text

from modgrok.plots.style import DARK, Written, drawing_settings

LEAST = 9
"""CSS pixels, the height of the smallest label at any width of the page."""

_DARK = "\n".join(f"    --mg-{light[1:].lower()}: {dark};" for light, dark in DARK.items())

CSS = (Path(__file__).parent / "picture.css").read_text("utf8").replace("    /* DARK */", _DARK)
"""Of pictures: their widths, and the colours of a dark page."""


def picture(figure: Figure, alt: str, layouts: dict | None = None) -> str:
    """HTML of a figure, which is closed: an image with a description, drawn for wide and, if it stacks, narrow pages.

    Any figure has the first form, one of `modgrok.plots` may have the second, for phones. Pictures that are given the
    same `layouts`, at first empty, have their panels at the same places.
    """
    narrow_figure = getattr(figure, "narrow", lambda: None)()
    svg = _svg(figure, "wide", layouts)
    svg += f"\n{_svg(narrow_figure, 'narrow', layouts)}" if narrow_figure else ""
    return f'<div class="modgrok-picture" role="img" aria-label="{escape(alt)}">\n{svg}</div>'


def _svg(figure: Figure, form: str, layouts: dict | None) -> str:
    """A figure as SVG text, the same for the same figure: no date, no random ids, coordinates to 0.01 points."""
    width, points = figure.get_size_inches()[0] * 96, 72 * figure.get_size_inches()
    data = io.StringIO()
    with drawing_settings(svg_hashsalt=form):  # ids of a hidden SVG must not be those of a shown one
        getattr(figure, "lay_out", lambda _: None)(layouts)
        figure.savefig(data, format="svg", facecolor="none", metadata={"Date": None})
    pyplot.close(figure)  # or a notebook would show it a second time
    body = data.getvalue().partition("</defs>")[2]  # its header has a style that would be the whole page's
    body = re.sub(r"(?m)^\s+|^<!--.*-->$", "", body).replace("xlink:href", "href")
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # numbered in every figure alike
    places = r' [dxy]="[^"]*"|translate\([^)]*\)'
    body = re.sub(places, lambda place: re.sub(r"(?<=\.\d\d)\d+", "", place[0]), body)
    body = re.sub(r"(?<=: )#[0-9a-f]{6}", lambda color: _COLORS.get(color[0], color[0]), body)
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    sizes += [written.size for written in figure.findobj(Written)]
    least_width = width * LEAST / (min(sizes, default=72) * 96 / 72)
    return (
        f'<svg class="modgrok-{form}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {points[0]:g} {points[1]:g}" aria-hidden="true" '
        f'style="width: {width:.0f}px; max-width: 100%; min-width: {least_width:.0f}px; '
        f'stroke-linejoin: round; stroke-linecap: butt">{body.rstrip()}'
    )


_COLORS = {light.lower(): f"var(--mg-{light[1:].lower()}, {light.lower()})" for light in DARK}
