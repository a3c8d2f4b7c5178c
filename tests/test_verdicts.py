"""Verdicts: how many seeds or runs it takes, against chance, and the tables that tell it."""

from itertools import combinations

import numpy as np
import pytest
from made_up import ALL, NOTHING, made_up, seeds

from modgrok.analysis.stats import sign_flip_test, stratified_exchange_test
from modgrok.claims import rules as claims
from modgrok.claims import verdicts


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ((1, 1, 1), "shown"),
        ((-1, -1, -1), "contrary"),
        ((1, 1, -1), "not shown"),
        ((1, 1, 0), "not shown"),
        ((0, 0, 0), "not shown"),
        ((1, 1), "not shown"),
        ((-1,), "not shown"),
    ],
)
def test_a_verdict_needs_every_seed_and_three_of_them(outcomes, words):
    assert verdicts.verdict(outcomes) == words


def mixed(able, others, n_seeds=3, known=ALL):
    """Runs of which so many solve o.o.d. tasks, and so many do not, though they know their training set."""
    levels = [ALL] * able + [NOTHING] * others
    return [made_up((level,), (known,), seed=i % n_seeds) for i, level in enumerate(levels)]


@pytest.mark.parametrize(
    ("hits", "others", "chance", "words"),
    [
        (9, 2, 0.1, "shown"),
        (1, 9, 0.1, "contrary"),
        (1, 1, 0.1, "not shown"),
        (9, 9, 0.1, "not shown"),  # all have it, whether they generalise or not
        (9, 2, 0.9, "not shown"),  # chance gives as much
    ],
)
def test_structured(hits, others, chance, words):
    found = np.repeat([True, False, True, False], (hits, 10 - hits, others, 10 - others))
    claim = verdicts.structured("odd and even lie apart", mixed(10, 10), found, chance)
    assert claim.verdict == words and f"solve (d = 2): {verdicts.share(found[:10])}, by cha" in claim.measured
    assert f"control (d = 2): {others} of 10 (" in claim.measured
    two = verdicts.structured("odd", mixed(10, 10, 2), found, chance)
    assert two.verdict == "not shown" and "two seeds with both only, a verdict takes 3" in two.measured


def test_a_run_that_learned_nothing_is_no_control():
    found = np.repeat([True, False], 10)
    able, control = verdicts.contrasted([*mixed(2, 1), *mixed(0, 1, known=NOTHING)])
    assert able.tolist() == [True, True, False, False] and control.tolist() == [False, False, True, False]
    never_asked = made_up((NOTHING,), (ALL,))
    never_asked.queries["ood_train"] = np.zeros_like(never_asked.queries["ood_train"])
    assert not np.any(verdicts.contrasted([never_asked]))
    claim = verdicts.structured("odd", [*mixed(10, 0), *mixed(0, 10, known=NOTHING)], found, 0.1)
    assert claim.verdict == "not shown" and "there is no control, a run that learned its tr" in claim.measured
    assert claim.units == "10 runs of 3 seeds (10 others did not learn their training set)"
    nothing = verdicts.structured("odd", mixed(0, 3, known=NOTHING), found[:3], 0.1)
    assert nothing.verdict == "not shown" and nothing.units.startswith("no runs of no seeds (3 others")


def test_a_run_and_its_beginning_are_one():
    short, long, other = made_up(steps=2000), made_up(steps=4000), made_up(steps=2000, depth=4)
    assert verdicts.distinct(np.array([short, long, other])) == [long, other]
    asked = made_up(steps=1000, eval_sequences=512, mixed_precision="no", checkpoint_every=7)
    assert verdicts.distinct([asked, long]) == [long]
    adam = [made_up(optimizer="adamw", muon_lr=rate) for rate in (0.01, 0.02)]
    assert len(verdicts.distinct(adam)) == 1 and len(verdicts.distinct([made_up(muon_lr=0.02), long])) == 2


def test_a_structure_that_is_the_seeds_own_is_not_shown():
    """All runs of one seed have it, most of which solve; none of two others have it, most of which do not."""
    able = np.repeat([True, False, True, False, True, False], (6, 1, 1, 6, 1, 6))
    runs = [
        made_up((ALL if solves else NOTHING,), (ALL,), seed=i // 7) for i, solves in enumerate(able.tolist())
    ]
    assert stratified_exchange_test(np.arange(21) < 7, able, np.zeros(21)).p_more < 0.05
    claim = verdicts.structured("odd", runs, np.arange(21) < 7, 0.1)
    assert claim.verdict == "not shown" and "P = 1)" in claim.measured
    # seeds that have one kind alone do not count
    runs = [made_up((ALL if i < 10 else NOTHING,), (ALL,), seed=i // 4) for i in range(20)]
    apart = verdicts.structured("odd", runs, np.arange(20) < 10, 0.1)
    assert apart.verdict == "not shown" and "one seed with both only" in apart.measured


def test_the_table_has_a_row_a_claim():
    claim = claims.two_blocks(seeds(1, depth=1), seeds(1))._replace(setting="a | b")
    head, line, *rows = verdicts.table([claim, claim]).splitlines()
    assert len(rows) == 2 and {row.count(" | ") for row in (head, *rows)} == {5} and set(line) == set("|- ")
    assert r"a \| b" in rows[0] and "**not shown**, p = 7 |" in rows[0] and rows[0].endswith("| 12 |")
    assert "d = 1, 2" in claims.two_blocks(seeds(1, depth=1), seeds(1)).setting


def test_a_setting_says_what_arithmetic_runs_mix():
    runs = seeds()
    for run in runs:
        run.provenance["arithmetic"] = ["float32, compiled on a CPU"]
    assert "float32" not in claims.in_context(runs).setting
    runs[0].provenance["arithmetic"] = ["bf16, compiled on a CPU"]
    assert claims.in_context(runs).setting.endswith("; bf16, float32")


def test_the_rules_say_what_counts_once_each():
    claim = claims.in_context(seeds())
    (item,) = verdicts.rules([claim, claim]).splitlines()
    assert (
        item.startswith("- *2. Out-of-") and "Agrees: the model" in item and "Contradicts: it solves" in item
    )


def test_an_interval_is_over_units():
    assert verdicts.interval([0.1, 0.2, 0.3]) == "0.20 (-0.05 to 0.45)" and verdicts.interval([0.5]) == "0.50"
    assert (
        verdicts.interval([0.1 + 0.2, 0.3]) == "0.30 (all alike)"
    )  # no spread, whatever rounding leaves of it


def test_a_share_has_an_interval_also_where_all_agree():
    assert verdicts.share([True] * 3) == "3 of 3 (0.44 to 1.00)" and verdicts.share([]) == "0 of 0"


@pytest.mark.parametrize("n", [1, 2, 3])
def test_two_of_all_ways_to_divide_alike_values_are_apart(n):
    values = np.arange(2.0 * n)
    values[-1] = np.nan  # never
    sides = [
        verdicts.apart(values[list(chosen)], np.delete(values, list(chosen)))
        for chosen in combinations(range(2 * n), n)
    ]
    assert sorted(sides) == [-1] + [0] * (len(sides) - 2) + [1]
    assert verdicts.apart([np.nan, np.nan], [3, np.nan]) == 0 == verdicts.apart([1, 2], [2, 3])


def test_a_paired_row_leaves_incomplete_pairs_out():
    found = verdicts.paired([1, np.nan, 2, 4], [0, 5, 0, 1])
    assert found == [3, "2.33", "0.33", verdicts.interval([1, 2, 3]), f"{sign_flip_test([1, 2, 3]):.2g}"]
    assert verdicts.paired([np.nan], [1]) == [0, "–", "–", "–", "–"]
