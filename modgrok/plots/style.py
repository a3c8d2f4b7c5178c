"""What all figures share: colours and what they mean, matplotlib's settings, and a few strokes on axes.

Colours mean the same everywhere: blue for pre-training tasks, orange for held-out ones; dark and solid for
training inputs, light and dashed for test inputs (Okabe and Ito's palette, safe for colour-blind readers). On a
dark page each keeps its hue and changes its lightness: DARK.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PatchCollection, PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D, Bbox
from numpy.typing import ArrayLike, NDArray

COLORS = {"id_train": "#0072B2", "id_test": "#56B4E9", "ood_train": "#D55E00", "ood_test": "#E69F00"}
DASHES = {"id_train": "-", "id_test": "--", "ood_train": "-", "ood_test": "--"}
LABELS = {
    "id_train": "i.d. tasks, training inputs",
    "id_test": "i.d. tasks, test inputs",
    "ood_train": "o.o.d. tasks, training inputs",
    "ood_test": "o.o.d. tasks, test inputs",
}
SETS = {
    name: {"color": COLORS[name], "ls": DASHES[name], "lw": 1.8, "label": label}
    for name, label in LABELS.items()
}
"""How the curve of a set is drawn, for matplotlib."""
PAPER, INK, GREY, FAINT, SOFT = "#FFFFFF", "#22262B", "#666D76", "#E3E6EA", "#B9BFC7"
ON_LIGHT, ON_DARK = "#1A1A1A", "#FDFDFD"  # writing on colours that stay the same on every page
CELL, HELD_OUT = "#FEFEFE", "#1E2125"  # of a table: an input of the training, one held out
INPUT, TARGET, Z = "#E4E7EC", "#E6D3EE", "#9A5FB4"  # tokens x and y, tokens z, and their marks at axes
MATCH, PARITY = "#009E73", ("#B5408B", "#00795A")
ATTENTION = LinearSegmentedColormap.from_list(
    "attention", [(0.98, 0.7, 0.55, 0), (0.96, 0.6, 0.45, 0.6), "#E8607A", "#C83F97", "#8B3DB8"]
)  # no attention lets the page through, so that maps are right on a dark page, too

DARK = {
    PAPER: "#121212", INK: "#E4E7EB", GREY: "#A0A7B1", FAINT: "#343B45", SOFT: "#59616C",
    CELL: "#3A424D", HELD_OUT: "#000000", INPUT: "#414955", TARGET: "#654576",
    "#0072B2": "#3D9BDC", "#56B4E9": "#9AD4F7", "#D55E00": "#EC7B2E", "#E69F00": "#F7C55C",
    "#B5408B": "#E07FBE", "#00795A": "#35B68F", "#882255": "#DB6FA4", "#332288": "#9D8FEF",
}  # fmt: skip
"""What a colour becomes on a dark page; the others, and those of maps, stay (see `widgets.svg`)."""

STYLE = {
    "font.size": 11,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 12,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "path",
}
"""What these figures, and no others, change in matplotlib's own settings."""


@contextmanager
def drawing_settings(**options) -> Iterator[None]:
    """While open, matplotlib has its default settings and STYLE, whatever the user's matplotlibrc says.

    Options are further settings, with _ for the first dot in their names, such as `svg_hashsalt`.
    """
    named = {option.replace("_", ".", 1): value for option, value in options.items()}
    with matplotlib.rc_context():
        dict.update(matplotlib.rcParams, _all_settings(), **named)  # unchecked: a figure comes here ten times
        yield


@cache
def _all_settings() -> dict[str, object]:
    """Every one of matplotlib's settings with which these figures are drawn, checked."""
    with matplotlib.style.context(["default", STYLE]):
        return {name: value for name, value in matplotlib.rcParams.items() if name != "backend"}


NARROW = 4.3
"""Inches, the width of a figure for a phone."""

_is_narrow: ContextVar[bool] = ContextVar("is_narrow", default=False)


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """A figure function that draws in `drawing_settings` and leaves matplotlib's settings as they were.

    Its figures have a method `narrow()`: the same figure for a phone, panels below each other, or None where panels
    are too many for that, or a phone is wide enough.
    """

    def draw_form(is_narrow: bool, args: tuple, options: dict) -> Figure:
        token = _is_narrow.set(is_narrow)
        try:
            with drawing_settings():
                return draw(*args, **options)
        except (KeyError, IndexError, ZeroDivisionError, ValueError) as error:
            if args and isinstance(args[0], Sized) and not len(args[0]):
                raise ValueError(
                    f"{draw.__name__} has nothing to draw: what it is given is empty."
                ) from error
            raise
        finally:
            _is_narrow.reset(token)

    @wraps(draw)
    def draw_styled(*args, **options) -> Figure:
        fig = draw_form(False, args, options)
        fig.narrow = lambda: draw_form(True, args, options) if fig.stacks else None
        return fig

    return draw_styled


class _Figure(Figure):
    """Keeps to its settings when it is drawn and saved: matplotlib makes some parts, such as ticks, only then.

    Attributes:
        stacks: whether the figure has a form for phones.
        stacked: whether this is that form.
    """

    stacks = False
    stacked = False

    def draw(self, renderer) -> None:
        """As matplotlib's; ids in an SVG are the same each time, and others in the form for phones."""
        with drawing_settings(svg_hashsalt="narrow" if self.stacked else "wide"):
            super().draw(renderer)

    def savefig(self, *args, **options) -> None:
        with drawing_settings(svg_hashsalt="narrow" if self.stacked else "wide"):
            super().savefig(*args, **options)

    def lay_out(self, layouts: dict[tuple, list[Bbox]] | None = None) -> None:
        """Find every part's place in an SVG; matplotlib, when it saves, would draw all of it twice for that.

        Called again, it changes nothing.

        Args:
            layouts: size and number of panels → the panels' places in a picture of the same slider, to which this
                figure's are added. A figure of that size, with as many panels, takes these places.
        """
        FigureCanvasSVG(self)
        self.dpi = 72
        if engine := self.get_layout_engine():
            layouts, key = {} if layouts is None else layouts, (*self.get_size_inches(), len(self.axes))
            if key not in layouts:
                with drawing_settings():
                    engine.execute(self)
                layouts[key] = [ax.get_position(original=True) for ax in self.axes]
            self.set_layout_engine(None)
            for ax, place in zip(self.axes, layouts[key], strict=True):
                ax.set_position(place)

    def subplots(
        self, nrows: int = 1, ncols: int = 1, shape: float | None = None, n: int | None = None, **options
    ):
        """Axes as matplotlib's, in the same array, but below each other in a figure for a phone.

        There each has the shape, height by width; without one, more than four panels have no form for phones. Where
        only the first n places are filled, a figure for a phone has these alone, in an array (n, 1).
        """
        width, height = self.get_size_inches()
        is_small = nrows * ncols <= 4 and (ncols > 1 or nrows == 1)
        self.stacks = bool(is_small or shape) and width > 1.15 * NARROW
        self.stacked = self.stacks and _is_narrow.get()
        if not self.stacked:
            return super().subplots(nrows, ncols, **options)
        # a panel keeps its shape, within limits: a legend below the panels takes its part of the height
        shape = shape or min(max(0.72, height / nrows / (width / ncols)), 0.85)
        n_panels = n or nrows * ncols
        self.set_size_inches(NARROW, NARROW * shape * n_panels)
        options.pop("width_ratios", None)
        if ncols > 1:
            options.pop("height_ratios", None)
        axes = super().subplots(n_panels, 1, **options | {"squeeze": False})
        if n:
            return axes
        axes = axes.reshape(nrows, ncols)
        if nrows > 1 or not options.get("squeeze", True):
            return axes
        return axes[0] if ncols > 1 else axes[0, 0]

    def legend(self, *args, **options):
        """A legend as matplotlib's; in a figure for a phone with a line for each entry, for which it grows."""
        if not self.stacked:
            return super().legend(*args, **options)
        legend = super().legend(*args, **options | {"ncols": 1})
        n_entries, (width, height) = len(legend.get_texts()), self.get_size_inches()
        n_lines_before = -(-n_entries // options.get("ncols", 1))
        self.set_size_inches(width, height + 0.2 * (n_entries - n_lines_before))
        return legend


def figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    return _Figure(figsize=(width, height), layout="constrained")


def panels(
    titles: Iterable[str], size: tuple[float, float], margin: tuple[float, float] = (0, 0), columns: int = 2,
    title: Mapping | None = None, xlabel: str = "", ylabel: str = "", **options,
) -> tuple[Figure, NDArray[np.object_]]:  # fmt: skip
    """A figure with a panel for each title, and these panels (titles,), row by row.

    Args:
        size: width and height of a panel, inches.
        margin: width and height that the figure has besides.
        columns: most panels in a row.
        title: how titles are written, for matplotlib.
        xlabel, ylabel: names of the axes, written at the outer panels.
        options: as for `Figure.subplots`, which may have the `shape` of a panel on a phone.
    """
    titles = list(titles)
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    fig = figure(size[0] * columns + margin[0], size[1] * rows + margin[1])
    axes = fig.subplots(rows, columns, n=len(titles), **options | {"squeeze": False}).ravel()
    for ax, text in zip(axes, titles, strict=False):
        ax.set_title(text, **title or {})
        ax.set(xlabel=xlabel, ylabel=ylabel)
        if xlabel or ylabel:
            ax.label_outer()
    for i in range(len(titles), len(axes)):  # empty places
        axes[i].axis("off")
        above = axes[i - columns]
        above.set_xlabel(xlabel)
        above.tick_params(labelbottom=True)
    return fig, axes[: len(titles)]


class Written(PathCollection):
    """Short texts centred at their places, all of them one artist: hundreds of `Text` are slow to draw.

    Attributes:
        texts: (x, y), in the data's units → text.
        size: in points.
    """

    def __init__(self, ax: Axes, texts: Mapping[tuple, object], size: float, color: str | list) -> None:
        """Write them, in one color or each in its own."""
        self.texts, self.size = {place: str(text) for place, text in texts.items()}, size
        super().__init__(
            [_centred_glyphs(text, size) for text in self.texts.values()], offsets=list(self.texts), facecolors=color,
            linewidths=0, offset_transform=ax.transData, in_layout=False, zorder=3,
        )  # fmt: skip
        self.set_transform(Affine2D().scale(1 / 72) + ax.get_figure().dpi_scale_trans)
        ax.add_collection(self, autolim=False)


@cache
def _centred_glyphs(text: str, size: float) -> Path:
    """The outlines of a text, its middle at the origin, points; shared by the pictures of a slider."""
    path, middle = (
        TextPath((0, 0), text.replace("-", "−"), size),
        TextPath((0, 0), "0", size).get_extents().height / 2,
    )
    return path.transformed(Affine2D().translate(-path.get_extents().width / 2, -middle))


def tiles(ax: Axes, colors: ArrayLike, edge: str) -> None:
    """Cells of a plane as vectors, which follow the page's theme, one artist: colors (n, m), indexed [x, y]."""
    colors = np.asarray(colors)
    cells = [Rectangle((i - 0.5, j - 0.5), 1, 1) for i, j in np.ndindex(colors.shape)]
    ax.add_collection(
        PatchCollection(cells, facecolors=colors.ravel(), edgecolors=edge, linewidths=0.7, in_layout=False),
        autolim=False,
    )


def blocks(depth: int) -> str:
    """A depth in words, for titles: "1 block", "2 blocks"."""
    return f"{depth} block{'s' if depth > 1 else ''}"


def square(ax: Axes, p: int, xlabel: str, ylabel: str) -> None:
    """A p × p plane of numbers."""
    ticks = range(0, p, 1 if p <= 7 else 2 if p <= 13 else 5)
    ax.set(xlim=(-0.5, p - 0.5), ylim=(-0.5, p - 0.5), aspect="equal", xticks=ticks, yticks=ticks)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    bare(ax)


def bare(ax: Axes) -> None:
    """Take away the frame and the ticks; their labels stay."""
    ax.tick_params(length=0, which="both")
    ax.spines[:].set_visible(False)


def whole_ticks(ax: Axes, n: int = 10) -> None:
    """Ticks along x at whole numbers, n intervals at most."""
    ax.xaxis.set_major_locator(MaxNLocator(n, integer=True))


def chance_line(ax: Axes, chance: float) -> None:
    """A dotted line at the accuracy of a blind guess, named at the end of a row, beside the axes, where no curve is."""
    ax.axhline(chance, color=GREY, lw=1, ls=":")
    if not ax.get_subplotspec().is_last_col():
        return
    ax.annotate(
        "chance", (1, chance), xycoords=("axes fraction", "data"), xytext=(2, 0), textcoords="offset points",
        va="center", fontsize=9, color=GREY,
    )  # fmt: skip


def share_map(ax: Axes, shares: ArrayLike, names: Sequence[str], size: float = 0) -> AxesImage:
    """A map of shares (rows, columns) from 0 to 1, its rows named; numbers are written where their size is given.

    A share that is nan leaves its cell empty.
    """
    image = ax.imshow(shares, cmap=ATTENTION, vmin=0, vmax=1, aspect="auto", interpolation="none")
    ax.set_yticks(range(len(names)), names)
    bare(ax)
    for (row, column), share in np.ndenumerate(np.round(shares, 2) if size else []):
        color = ON_DARK if share > 0.5 else INK
        text = "" if np.isnan(share) else f"{share:z.2f}"
        centred = {"ha": "center", "va": "center", "in_layout": False}
        ax.text(column, row, text, fontsize=size, color=color, **centred)
    return image


def color_keys(colors: Mapping[str, str], **style) -> list[Patch]:
    """Entries of a legend: label → colour of a patch."""
    return [Patch(facecolor=color, label=label, **style) for label, color in colors.items()]


def legend_below(fig: Figure, ncols: int, handles: list | None = None, **options) -> None:
    """A legend without a frame below all panels; by default its entries are those of the first panel."""
    handles = handles or fig.axes[0].get_legend_handles_labels()[0]
    fig.legend(handles=handles, loc="outside lower center", ncols=ncols, frameon=False, **options)
