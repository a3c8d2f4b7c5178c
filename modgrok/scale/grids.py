"""Which runs a sweep consists of: named grids over a preset, and grids from the command line."""

import ast
import contextlib
import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from modgrok.config import PRESETS, Config, preset


class Sweep(NamedTuple):
    """A named grid: every combination of the values, for every seed, on top of a preset.

    Fields that change together are named together, separated by commas, and each of their values is a tuple.

    Attributes:
        preset: the preset's name.
        vary: field, or fields → values.
        seeds: seeds of the runs at every point.
        one_at_a_time: whether one field at a time departs from the first values, instead of all combinations.
        cost: how long all runs take, in words.
    """

    preset: str
    vary: Mapping[str, Sequence[Any]]
    seeds: Sequence[int] = (0,)
    one_at_a_time: bool = False
    cost: str = ""


SHORT = {"steps": (2000,), "eval_every": (100,)}
LAPTOP_PLANE = {"n_tasks": (20, 40), "alpha": (0.4, 0.6, 0.8)} | SHORT
SEEDS = (0, 1, 2)
BOTH_RULES = {"task_rule": ("rectangle", "random")}
RUNG = "p,n_tasks,n_examples,batch_size,steps,eval_every"
PAPER_PLANE = {"n_tasks": (8, 16, 32, 64, 128, 256, 512), "alpha": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)}

SWEEPS = {
    "smoke-map": Sweep("smoke", {"n_tasks": (8, 16), "alpha": (0.6, 0.8)}, cost="up to a minute"),
    "smoke-rule": Sweep("smoke", BOTH_RULES | {"n_tasks": (8, 16), "alpha": (0.8,)}, cost="up to a minute"),
    "smoke-coarse": Sweep("smoke", {"depth": (1, 2), "n_tasks": (8, 16), "alpha": (0.6, 0.8)}, cost="up to a minute"),
    "smoke-lasting": Sweep("smoke", {"depth": (1, 2), "alpha": (0.6,)}, cost="up to a minute"),
    "smoke-factors": Sweep(
        "smoke", {"n_head": (2, 1), "optimizer": ("adamw", "muon")}, one_at_a_time=True,
        cost="up to a minute",
    ),
    "smoke-ladder": Sweep("smoke", {RUNG: ((3, 4, 4, 16, 20, 5), (5, 16, 8, 48, 20, 5))}, cost="up to a minute"),
    "laptop-depth": Sweep("laptop", {"depth": (1, 2, 4)}, SEEDS, cost="half an hour"),
    "laptop-map": Sweep("laptop", LAPTOP_PLANE, SEEDS, cost="half an hour"),
    "laptop-rule": Sweep("laptop", BOTH_RULES | {"depth": (1, 2, 4)} | LAPTOP_PLANE, SEEDS, cost="four hours"),
    "laptop-coarse": Sweep("laptop", {"depth": (1, 2, 4)} | LAPTOP_PLANE, SEEDS, cost="two hours"),
    "laptop-lasting": Sweep("laptop", {"depth": (2, 4), "alpha": (0.4,)}, SEEDS, cost="three quarters of an hour"),
    "laptop-factors": Sweep(
        "laptop",
        SHORT
        | {
            "lr,muon_lr": ((1e-3, 0.01), (3e-4, 0.003), (3e-3, 0.03)),
            "weight_decay": (0.9, 0.0, 0.3, 2.7),
            "n_embd": (64, 32, 128),
            "n_head": (2, 1, 4),
            "n_examples": (12, 8, 16),
            "rope_base": (100.0, 10.0, 10_000.0),
            "optimizer": ("muon", "adamw"),
            "batch_size": (160, 80, 320),
            "p,n_tasks,batch_size": ((7, 40, 160), (5, 20, 160), (11, 96, 192)),
        },
        seeds=(0, 1),
        one_at_a_time=True,
        cost="an hour",
    ),
    "desk-depth": Sweep("desk", {"depth": (1, 2, 4)}, seeds=SEEDS, cost="three hours"),
    "desk-ladder": Sweep(
        "desk",
        {RUNG: ((5, 20, 10, 160, 2000, 50), (7, 40, 12, 160, 3000, 100), (11, 96, 16, 192, 16_000, 250))},
        seeds=SEEDS,
        cost="a quarter of an hour after desk-depth",
    ),
    "desk-map": Sweep(
        "desk",
        {"depth": (2,), "n_tasks": (16, 32, 64, 96), "alpha": (0.4, 0.6, 0.8), "steps": (8000,)},
        seeds=SEEDS,
        cost="two hours and a quarter",
    ),
    "desk-coarse": Sweep(
        "desk",
        {"depth": (1, 2, 4), "alpha": (0.4, 0.8), "steps": (8000,)},
        cost="half an hour after desk-map",
    ),
    "desk-lasting": Sweep("desk", {"depth": (2, 4), "alpha": (0.4,)}, seeds=SEEDS, cost="two hours and a half"),
    "p13-lines-depth": Sweep("p13-lines", {"depth": (1, 2, 4)}, seeds=SEEDS, cost="an hour and a half"),
    "paper-map": Sweep("paper", PAPER_PLANE, cost="hours on a GPU for each run"),
    "paper-rule": Sweep("paper", BOTH_RULES | {"depth": (1, 2, 4)} | PAPER_PLANE, cost="hours on a GPU for each run"),
    "paper-coarse": Sweep("paper", {"depth": (1, 2, 4, 6)} | PAPER_PLANE, cost="hours on a GPU for each run"),
    "paper-lasting": Sweep("paper", {"depth": (2, 4, 6), "alpha": (0.4,)}, cost="hours on a GPU for each run"),
}  # fmt: skip
"""The second half of a name says which fields vary. `map`: tasks and inputs (F1b). `rule`: the choice of tasks, over
the same map, for several depths (A1). `depth`: blocks. `coarse`: a smaller map for several depths (F4). `lasting`:
depth, with few training inputs. `ladder`: the modulus, and all that grows with it. `factors`: one setting at a time
(A8). Times are those on two cores, at p = 11 with bf16; runs that two sweeps share are trained once."""


class NoSweep(ValueError):
    """A preset has no sweep of that kind."""


def sweep_named(name: str) -> Sweep:
    """The sweep of a name; the name of a preset gives a sweep of one run.

    Raises ValueError, which suggests similar ones, if no sweep and no preset has that name.
    """
    if name in SWEEPS:
        return SWEEPS[name]
    if name in PRESETS:
        return Sweep(name, {})
    names = [*SWEEPS, *PRESETS]
    similar = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names
    raise ValueError(f"{name[:80]!r} is no sweep and no preset; choose for example {', '.join(similar)}.")


def sweep_of_kind(preset_name: str, kind: str) -> Sweep:
    """The sweep "PRESET-KIND". Raises NoSweep if there is none."""
    presets = [name.removesuffix(f"-{kind}") for name in SWEEPS if name.endswith(f"-{kind}")]
    if preset_name not in presets:
        raise NoSweep(f"preset={preset_name!r} has no {kind}; choose one of {', '.join(presets)}.")
    return SWEEPS[f"{preset_name}-{kind}"]


def grid(
    preset_name: str,
    vary: Mapping[str, Sequence[Any]],
    seeds: Sequence[int] = (0,),
    one_at_a_time: bool = False,
) -> list[Config]:
    """The configs of every combination of values and seeds on top of a preset; arguments as in `Sweep`.

    Raises ValueError if the preset is unknown, or some points are not valid; the message has a line for each.
    """
    preset(preset_name)
    configs, errors = [], []
    for fields in _points(vary, one_at_a_time):
        try:
            configs += [preset(preset_name, **{"seed": seed} | fields) for seed in seeds]
        except ValueError as error:
            errors.append(f"{in_words(fields)}: {error}".removeprefix(": "))
    if errors:
        lines = "".join(f"\n  {error}" for error in errors)
        raise ValueError(f"{len(errors)} point(s) of the sweep are not valid, nothing was started:{lines}")
    return configs


def _points(vary: Mapping[str, Sequence[Any]], one_at_a_time: bool) -> list[dict[str, Any]]:
    """Field → value at each point: every combination, or the first values and then each departure from them.

    A value that departs comes last, so that it counts if its field has a second name.
    """
    points = [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]
    if one_at_a_time:
        base, departures = points[0], [(name, value) for name in vary for value in vary[name][1:]]
        points = [base]
        for name, value in departures:
            points.append({field: base[field] for field in base if field != name} | {name: value})
    single_fields: list[dict[str, Any]] = [{} for _ in points]
    for fields, point in zip(single_fields, points, strict=True):
        for name, value in point.items():  # a name such as "lr,muon_lr" holds several fields
            fields |= zip(name.split(","), value, strict=True) if "," in name else {name: value}
    return single_fields


def in_words(fields: Mapping[str, Any]) -> str:
    """Fields and values as text: "n_tasks=8 alpha=0.6"."""
    return " ".join(f"{name}={value}" for name, value in fields.items())


def parse_values(text: str) -> tuple[str, list[Any]]:
    """The field and the values of a text such as "n_tasks=4,8,16"; what is no number or truth stays text.

    Raises ValueError if the text is not NAME=VALUE,VALUE….
    """
    name, _, values = text.partition("=")
    if not (name and all(values.split(","))):
        raise ValueError(f"{text!r} does not say what to vary; write it like n_tasks=4,8,16.")
    parsed: list[Any] = values.split(",")
    for i, value in enumerate(parsed):
        with contextlib.suppress(ValueError, SyntaxError):
            parsed[i] = ast.literal_eval(value)
    return name.replace("-", "_"), parsed
