"""Draw the picture that other sites show of the book, 1,200 × 630 pixels: python scripts/social_picture.py"""

import numpy as np

from modgrok.config import preset
from modgrok.live.contrast import contrast_depths
from modgrok.plots import style
from modgrok.plots.answers import CORRECT, INCORRECT, TRUTH, colored_grid
from modgrok.storage.find import find_run

TITLE = "Learning to grok, executable"
LINES = "In-context learning of modular arithmetic:", "a paper, rebuilt by running it, with live models."

runs = {n: [find_run(preset("desk", depth=n, seed=seed), "runs") for seed in range(3)] for n in (2, 4)}
contrast = contrast_depths(runs)
(a, b), p = contrast.task, len(next(iter(contrast.answers.values()))[-1])
x, y = np.mgrid[:p, :p]
with style.drawing_settings():
    fig = style.figure(12, 6.3)
    fig.set_layout_engine("none")
    fig.text(0.04, 0.88, TITLE, fontsize=33, fontweight="bold", va="center")
    for i, line in enumerate(LINES):
        fig.text(0.04, 0.765 - 0.075 * i, line, fontsize=18, va="center", color=style.INK)
    side = 0.5 / 12 * 6.3  # of a grid: half of the height
    for i, (name, grids) in enumerate(contrast.answers.items()):
        ax = fig.add_axes((0.985 - (2 - i) * (side + 0.035), 0.07, side, 0.5))
        is_correct = (grids[-1] == (a * x + b * y) % p).astype(int)
        colored_grid(ax, is_correct, TRUTH)
        inks = np.where(is_correct, style.INK, "white").ravel()
        style.Written(ax, {place: grids[-1][place] for place in np.ndindex(p, p)}, 105 / p, inks)
        ax.plot(*contrast.query, "s", mfc="none", mec=style.COLORS["ood_train"], mew=3, markersize=205 / p)
        ax.set(xticks=[], yticks=[])
        depth = name.partition(",")[0]
        ax.set_title(f"{depth}: {is_correct.sum()} of {p * p} right", fontsize=16)
    for height, name, color in ((0.2, "right", CORRECT), (0.13, "wrong", INCORRECT)):
        fig.text(0.04, height, "■", color=color, fontsize=20, va="center")
        fig.text(0.07, height, name, fontsize=16, va="center")
    fig.savefig("book/_static/social.png", dpi=100, facecolor="white")
