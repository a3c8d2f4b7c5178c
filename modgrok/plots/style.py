"""What all figures share: colours and what they mean, matplotlib's settings, and a few strokes on axes.

Colours mean the same everywhere: blue for pre-training tasks, orange for held-out ones; dark and solid for
training inputs, light and dashed for test inputs (Okabe and Ito's palette, safe for colour-blind readers).
"""

from collections.abc import Callable
from functools import wraps

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

COLORS = {"id_train": "#0072B2", "id_test": "#56B4E9", "ood_train": "#D55E00", "ood_test": "#E69F00"}
DASHES = {"id_train": "-", "id_test": "--", "ood_train": "-", "ood_test": "--"}
LABELS = {
    "id_train": "i.d. tasks, training inputs",
    "id_test": "i.d. tasks, test inputs",
    "ood_train": "o.o.d. tasks, training inputs",
    "ood_test": "o.o.d. tasks, test inputs",
}
INPUT, TARGET, HELD_OUT, INK, GREY = "#CFE6F5", "#FBD9B5", "#22262B", "#22262B", "#8A8F98"
MATCH, PARITY = "#009E73", ("#B5408B", "#00795A")
DEPTHS = LinearSegmentedColormap.from_list("depths", ["#F2B37C", "#D55E00", "#5C2400"])
ATTENTION = LinearSegmentedColormap.from_list(
    "attention", ["#FFFFFF", "#FBDCC4", "#F2937C", "#C04A7E", "#642A80", "#1B1044"]
)

STYLE = {
    "font.size": 11,
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
"""matplotlib's settings in these figures, and in no others."""


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """A figure function that draws in STYLE and leaves matplotlib's settings as they were."""

    @wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


class _Figure(Figure):
    """Keeps to STYLE when it is saved, however late: matplotlib makes some parts, such as ticks, only then."""

    def draw(self, renderer) -> None:
        with rc_context(STYLE):
            super().draw(renderer)


def figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    return _Figure(figsize=(width, height), layout="constrained")


def blocks(depth: int) -> str:
    """A depth in words, for titles: "1 block", "2 blocks"."""
    return f"{depth} block{'s' if depth > 1 else ''}"


def square(ax: Axes, p: int, xlabel: str, ylabel: str) -> None:
    """A p × p plane of numbers."""
    ticks = range(0, p, 1 if p <= 13 else 5)
    ax.set(xlim=(-0.5, p - 0.5), ylim=(-0.5, p - 0.5), aspect="equal", xticks=ticks, yticks=ticks)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def chance_line(ax: Axes, chance: float) -> None:
    """A dotted line, named, at the accuracy of a blind guess."""
    ax.axhline(chance, color=GREY, lw=1, ls=":")
    ax.annotate(
        "chance", (1, chance), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points",
        ha="right", fontsize=9, color=GREY,
    )  # fmt: skip


def banded(ax: Axes, places: NDArray, curve: ArrayLike, **style) -> None:
    """A curve (n,), or (3, n) with the ends of its interval drawn as a band."""
    curve = np.atleast_2d(curve)
    ax.plot(places, curve[0], **style)
    if len(curve) == 3:
        ax.fill_between(places, curve[1], curve[2], color=style["color"], alpha=0.2, lw=0)
