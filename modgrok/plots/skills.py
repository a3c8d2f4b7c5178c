"""What each part of a model is worth, and how kinds of task are drawn (A7; chapters 10 and 13)."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from modgrok.plots import style

TASK_KINDS = {
    name: {"color": color, "ls": "-", "lw": 1.8}
    for name, color in (("z = b·y", "#882255"), ("z = a·x", "#44AA99"), ("both numbers", "#332288"))
}
"""Each of `order.TASK_KINDS` → how its curve is drawn, for matplotlib."""


@style.styled
def parts_lost(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], whole: Mapping[str, Mapping[str, float]],
    chance: float, columns: int,
) -> Figure:  # fmt: skip
    """Accuracy without each part of a model, the part that costs most on o.o.d. tasks on top, a panel a run (A7).

    Panels are title → part → set → accuracy without the part; that of the whole model, title → set, is a line.
    """
    n_parts = list(map(len, panels.values()))
    heights = [max(n_parts[i : i + columns]) for i in range(0, len(panels), columns)]
    size = 3.0, 0.21 * sum(heights) / len(heights) + 0.75
    fig, axes = style.panels(
        panels, size, (0, 0.5), columns, {"fontsize": 11}, sharex=True, height_ratios=heights
    )
    for ax, (title, parts) in zip(axes, panels.items(), strict=True):
        ordered = sorted(parts, key=lambda part: parts[part].get("ood_train", 0))
        for set_name, accuracy in whole[title].items():
            color, label = style.COLORS[set_name], style.LABELS[set_name]
            ax.axvline(accuracy, color=color, lw=1.2)
            values = [parts[part][set_name] for part in ordered]
            ax.plot(values, range(len(ordered)), "o", color=color, ms=5, label=label, clip_on=False)
        ax.axvline(chance, color=style.GREY, ls=":", lw=1)
        ax.set_xlim(0, 1.02)
        ax.set_yticks(range(len(ordered)), ordered, fontsize=9)
        ax.set_ylim(len(ordered) - 0.4, -0.6)
        ax.grid(axis="y", color=style.FAINT, lw=0.8)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    for ax in axes[-columns:]:
        ax.set_xlabel("accuracy without the part")
    style.legend_below(fig, min(2, columns))
    return fig
