"""Verdicts from runs whose curves are made up, so that what they must say is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from modgrok import claims
from modgrok.config import SETS, preset

LOW, HIGH = 1 / 7, 0.9


def made_up(ood=(LOW, LOW), shots=(LOW, HIGH), others=LOW, **fields):
    """A run of which the accuracy on o.o.d. tasks, training inputs, is known at evaluations and by shot."""
    metrics = {f"{name}_acc": np.full(len(ood), others) for name in SETS}
    return SimpleNamespace(
        config=preset("laptop", **fields),
        metrics=metrics | {"ood_train_acc": np.array(ood)},
        shots={"ood_train": np.array([shots])},
        provenance={"seconds": 60, "threads": 2, "processes": [4, 3]},
    )


def grid(corners):
    """A map of one α and two numbers of tasks, its last accuracies given as one row a seed."""
    runs = [[[made_up((LOW, a), n_tasks=8), made_up((LOW, b), n_tasks=40)]] for a, b in corners]
    return np.array(runs, dtype=object)


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ((1, 1), "shown"),
        ((-1, -1), "contrary"),
        ((1, -1), "not shown"),
        ((1, 0), "not shown"),
        ((0, 0), "not shown"),
    ],
)
def test_a_verdict_needs_every_seed(outcomes, words):
    assert claims.verdict(outcomes) == words


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        ([(LOW, HIGH), (LOW, 0.6)], "shown"),
        ([(HIGH, LOW), (HIGH, LOW)], "contrary"),
        ([(LOW, HIGH), (LOW, 0.4)], "not shown"),
        ([(HIGH, HIGH), (LOW, HIGH)], "not shown"),
    ],
)
def test_more_tasks(corners, words):
    claim = claims.more_tasks(grid(corners))
    assert claim.verdict == words and claim.seeds == 2
    assert claim.minutes == 4 * 2 * 3  # four runs of a minute on two threads of three processes


def test_four_phases():
    columns = {  # accuracies on the four sets, in the order of SETS, at four points
        8: (HIGH, LOW, LOW, LOW), 16: (HIGH, HIGH, LOW, LOW), 20: (HIGH, HIGH, HIGH, LOW), 40: (HIGH,) * 4,
    }  # fmt: skip

    def run(n_tasks, values):
        made = made_up(n_tasks=n_tasks)
        made.metrics |= {f"{name}_acc": np.array([value]) for name, value in zip(SETS, values, strict=True)}
        return made

    whole = np.array([[[run(*item) for item in columns.items()]]], dtype=object)
    assert claims.four_phases(whole).verdict == "shown"
    assert claims.four_phases(whole[:, :, 1:]).verdict == "not shown"


@pytest.mark.parametrize(
    ("shots", "words"),
    [([(LOW, HIGH)] * 2, "shown"), ([(HIGH, LOW)] * 2, "contrary"), ([(LOW, HIGH), (LOW, 0.3)], "not shown")],
)
def test_in_context(shots, words):
    assert claims.in_context([made_up(shots=curve) for curve in shots]).verdict == words


def test_two_blocks():
    can, cannot = made_up((LOW, HIGH)), made_up((LOW, LOW))
    assert claims.two_blocks([cannot] * 2, [can] * 2).verdict == "shown"
    assert claims.two_blocks([can] * 2, [cannot] * 2).verdict == "contrary"
    assert claims.two_blocks([cannot, can], [can, can]).verdict == "not shown"


def test_transience():
    falls, stays, never = made_up((LOW, HIGH, 0.5)), made_up((LOW, 0.5, HIGH)), made_up((LOW, 0.3, LOW))
    assert claims.transience([falls, falls]).verdict == "shown"
    assert claims.transience([falls, stays]).verdict == "not shown"
    assert claims.transience([never, never]).verdict == "not shown"


def test_the_table_has_a_row_a_claim():
    claim = claims.two_blocks([made_up(depth=1)], [made_up((LOW, HIGH))])
    head, line, *rows = claims.table([claim, claim]).splitlines()
    assert len(rows) == 2 and {row.count(" | ") for row in (head, *rows)} == {5} and set(line) == set("|- ")
    assert "d = 1, 2" in rows[0] and "**shown**" in rows[0] and "0.90 (0.90 to 0.90)" in rows[0]


def test_the_table_counts_who_generalises_and_who_loses_it():
    kept, lost, never = [made_up((LOW, HIGH)), made_up((HIGH, LOW)), made_up((LOW, LOW))]
    *_, shallow, deep = claims.lasting_table({1: [never], 2: [kept, lost, lost, never]}).splitlines()
    assert shallow == "| 1 | 0.14 (0.14 to 0.14) | 0.14 (0.14 to 0.14) | 0 of 1 | 0 of 1 |"
    assert deep.endswith("| 3 of 4 | 2 of 4 |")
