"""The data drawn in a figure, as CSV: one row a point, bar, cell or written number, in the units of its axes.

Columns: `panel` (its title, or its number), `series` (the name in the legend, else the colour), `kind` of mark, `x`,
`y`, and `value` for what is drawn as a colour or a text. A bar has the place of the middle of its end, and its length
as value. Numbers have nine significant digits: exact for float32.
"""

import csv
import io
from collections.abc import Iterator

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PatchCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType
from numpy.typing import ArrayLike

from modgrok.plots.style import Written

COLUMNS = ("panel", "series", "kind", "x", "y", "value")

FLOATS = (float, np.floating)

Mark = tuple[str, str, object, object, object]
"""Series, kind, x, y, value."""


def figure_csv(figure: Figure) -> str:
    """The data drawn in a figure as CSV text, with a header; panels in the order in which they were made."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    names = _legend_names(figure)
    for number, ax in enumerate(figure.axes, 1):
        titles = [ax.get_title(side) for side in ("left", "center", "right")]
        panel = " ".join(" ".join(filter(None, titles)).split()) or f"panel {number}"
        for series, kind, *numbers in _marks(ax, names):
            writer.writerow([panel, series, kind, *map(_written, numbers)])
    return text.getvalue()


def _marks(ax: Axes, names: dict[str, str]) -> Iterator[Mark]:
    """Everything on one panel that stands for data, in the order in which it was drawn."""
    groups = [group for group in ax.containers if isinstance(group, BarContainer)]
    bars = {id(bar): group for group in groups for bar in group}
    for artist in filter(Artist.get_visible, ax.get_children()):
        if isinstance(artist, Line2D) and artist.get_transform().contains_branch(ax.transData):
            yield from _points(_name(artist, artist.get_color(), names), "line", *artist.get_data(orig=True))
        elif isinstance(artist, Written):
            for (x, y), text in artist.texts.items():
                yield "", "text", x, y, text
        elif isinstance(artist, Collection):
            yield from _collection_marks(artist, names)
        elif isinstance(artist, AxesImage):
            yield from _cells(artist)
        elif id(artist) in bars:
            label, color = bars[id(artist)].get_label(), to_hex(artist.get_facecolor())
            series = names.get(color, color) if label.startswith("_") else label
            (start, bottom), width, height = artist.get_xy(), artist.get_width(), artist.get_height()
            if bars[id(artist)].orientation == "horizontal":
                yield series, "bar", start + width, bottom + height / 2, width
            else:
                yield series, "bar", start + width / 2, bottom + height, height


def _collection_marks(artist: Collection, names: dict[str, str]) -> Iterator[Mark]:
    """Scattered points, tiles, the edges of bands, and the ends of segments."""
    colors = artist.get_facecolors() if len(artist.get_facecolors()) else artist.get_edgecolors()
    series = _name(artist, colors[0] if len(colors) else "none", names)
    if isinstance(artist, PathCollection):
        yield from _points(series, "point", *np.asarray(artist.get_offsets()).T, artist.get_array())
    elif isinstance(artist, PatchCollection):
        paths = artist.get_paths()
        for path, color in zip(paths, np.resize(colors, (len(paths), 4)), strict=True):
            yield series, "tile", *(path.vertices.min(0) + path.vertices.max(0)) / 2, to_hex(color)
    elif isinstance(artist, LineCollection):
        for segment in artist.get_segments():
            yield from _points(series, "segment", *np.asarray(segment).T)
    elif isinstance(artist, PolyCollection):
        for path in artist.get_paths():
            yield from _points(series, "edge of band", *path.vertices.T)


def _cells(image: AxesImage) -> Iterator[Mark]:
    """The cells of an image at their centres: numbers, or colours as #rrggbb."""
    cells, is_masked = np.ma.getdata(image.get_array()), np.ma.getmaskarray(image.get_array())
    start, end, bottom, top = image.get_extent()
    height, width = cells.shape[:2]
    if image.origin == "upper":
        bottom, top = top, bottom
    if cells.ndim == 3:
        brightest = 1 if cells.dtype.kind == "f" else 255
        values = [[to_hex(color / brightest) for color in row] for row in cells]
        is_masked = np.zeros((height, width), dtype=bool)
    else:
        values = cells.tolist()
    # lists, not arrays, and each place written once: a figure may have a hundred thousand cells
    xs = [_written(start + (column + 0.5) * (end - start) / width) for column in range(width)]
    for row in range(height):
        y = _written(bottom + (row + 0.5) * (top - bottom) / height)
        for x, value, is_hidden in zip(xs, values[row], is_masked[row].tolist(), strict=True):
            if not is_hidden:
                yield "", "cell", x, y, value


def _points(
    series: str, kind: str, xs: ArrayLike, ys: ArrayLike, values: ArrayLike | None = None
) -> Iterator[Mark]:
    values = [""] * len(xs) if values is None else values
    for x, y, value in zip(xs, ys, values, strict=True):
        yield series, kind, x, y, value


def _name(artist: Artist, color: ColorType, names: dict[str, str]) -> str:
    """A mark's own label, else that of its colour and dashes in the legend, else its colour."""
    label, color = str(artist.get_label()), _hex(color)
    if label and not label.startswith("_"):
        return label
    dashed = f"{color} {artist.get_linestyle()}" if isinstance(artist, Line2D) else color
    return names.get(dashed, names.get(color, color))


def _hex(color: ColorType) -> str:
    return "none" if str(color).lower() == "none" else to_hex(color)


def _legend_names(figure: Figure) -> dict[str, str]:
    """Colour, and colour with dashes, → the text beside it in a legend of the figure."""
    names: dict[str, str] = {}
    legends = [*figure.legends, *(artist for ax in figure.axes for artist in ax.get_children())]
    for legend in (artist for artist in legends if isinstance(artist, Legend)):
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            color = handle.get_color() if isinstance(handle, Line2D) else handle.get_facecolor()
            color = np.asarray(color)[0] if np.ndim(color) == 2 and len(color) else color
            if not len(color) or _hex(color) == "none":
                continue
            names.setdefault(to_hex(color), text.get_text())
            if isinstance(handle, Line2D):
                names[f"{to_hex(color)} {handle.get_linestyle()}"] = text.get_text()
    return names


def _written(value: object) -> object:
    """A number with nine significant digits; masked and not-a-number as nothing; other values as they are."""
    if isinstance(value, FLOATS):
        return "" if value != value else f"{value:.9g}"
    return "" if np.ma.is_masked(value) else value
