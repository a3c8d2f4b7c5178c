"""Verdicts: how many seeds or runs it takes, against chance, and the tables that tell it."""

import numpy as np
import pytest
from made_up import ALL, NOTHING, made_up, seeds

from modgrok.analysis.stats import stratified_exchange_test
from modgrok.claims import rules, verdicts

CANNOT = verdicts.CANNOT_TELL


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((1, 1, 1), "shown"),
        ((-1, -1, -1), "contrary"),
        ((1, 1, -1), "not shown"),
        ((1, 1, 0), "not shown"),
        ((1, 1, CANNOT), "not shown"),
        ((0, 0, 0), "not shown"),
        ((CANNOT,) * 3, "needs a larger p"),
        ((CANNOT, CANNOT, 0), "not shown"),
        ((1, 1), "not shown"),
        ((CANNOT,) * 2, "not shown"),
        ((-1,), "not shown"),
    ],
)
def test_a_verdict_needs_every_seed_and_three_of_them(outcomes, expected):
    assert verdicts.verdict(outcomes, p=7) == expected and expected in verdicts.VERDICTS


def test_no_verdict_asks_for_a_larger_p_than_the_papers():
    assert verdicts.verdict([CANNOT] * 3, p=29) == "not shown"


def mixed(n_solving, n_control, n_seeds=3, training=ALL):
    """Runs of which so many solve o.o.d. tasks, and so many do not, though they know their training set."""
    skills = [ALL] * n_solving + [NOTHING] * n_control
    return [made_up((skill,), (training,), seed=i % n_seeds) for i, skill in enumerate(skills)]


@pytest.mark.parametrize(
    ("n_solving", "n_control", "chance", "expected"),
    [
        (9, 2, 0.1, "shown"),
        (1, 9, 0.1, "contrary"),
        (1, 1, 0.1, "not shown"),
        (9, 9, 0.1, "not shown"),  # all have it, whether they generalise or not
        (9, 2, 0.9, "not shown"),  # chance gives as much
    ],
)
def test_structured(n_solving, n_control, chance, expected):
    """Of ten runs that solve and ten of the control so many have the structure."""
    is_present = np.repeat([True, False, True, False], (n_solving, 10 - n_solving, n_control, 10 - n_control))
    claim = verdicts.structured("odd and even lie apart", mixed(10, 10), is_present, chance)
    assert claim.verdict == expected
    assert claim.measured["runs that solve (d = 2)"] == verdicts.share(is_present[:10])
    assert claim.measured["control (d = 2)"].startswith(f"{n_control} of 10 (")
    double = verdicts.structured("odd", mixed(10, 10, 2), is_present, chance)
    assert double.verdict == "not shown" and double.units == "runs: 20 of 20; seeds: 2, able to tell: 2"


def test_a_run_that_learned_nothing_is_no_control():
    is_present = np.repeat([True, False], 10)
    is_solving, is_control = verdicts.contrasted([*mixed(2, 1), *mixed(0, 1, training=NOTHING)])
    assert is_solving.tolist() == [True, True, False, False]
    assert is_control.tolist() == [False, False, True, False]
    without_tasks = made_up((NOTHING,), (ALL,))
    without_tasks.queries["ood_train"] = np.zeros_like(without_tasks.queries["ood_train"])
    assert not np.any(verdicts.contrasted([without_tasks]))
    claim = verdicts.structured("odd", [*mixed(10, 0), *mixed(0, 10, training=NOTHING)], is_present, 0.1)
    assert claim.verdict == "needs a larger p" and claim.measured["control"] == "none here"
    assert claim.units == "runs: 10 of 20; seeds: 3, able to tell: 0"


def test_a_run_and_its_beginning_are_one():
    short, long, deep = made_up(steps=2000), made_up(steps=4000), made_up(steps=2000, depth=4)
    assert verdicts.distinct(np.array([short, long, deep])) == [long, deep]
    rescored = made_up(steps=1000, eval_sequences=512, mixed_precision="no", checkpoint_every=7)
    assert verdicts.distinct([rescored, long]) == [long]
    phases = [made_up(steps=steps, curriculum="1x4:900") for steps in (1000, 2000)]
    assert verdicts.distinct(phases) == [phases[1]]
    adam = [made_up(optimizer="adamw", muon_lr=rate) for rate in (0.01, 0.02)]
    assert len(verdicts.distinct(adam)) == 1 and len(verdicts.distinct([made_up(muon_lr=0.02), long])) == 2


def test_depths_are_contrasted_by_the_longest_runs_of_the_seeds_that_all_have():
    runs = [
        made_up(depth=depth, seed=seed, steps=steps)
        for depth, seed, steps in ((4, 1, 900), (4, 0, 900), (2, 1, 2000), (2, 1, 900), (2, 2, 900))
    ]
    assert verdicts.seeds_of_every_depth(runs) == {2: [runs[2]], 4: [runs[0]]}
    assert verdicts.seeds_of_every_depth([]) == {}


def test_runs_with_a_curriculum_count_only_where_there_are_no_others():
    plain, taught = made_up(), made_up(curriculum="1x4:900")
    assert verdicts.trained_alike([plain, taught]) == [plain]
    assert verdicts.trained_alike([taught]) == [taught] and verdicts.trained_alike([]) == []


def test_a_structure_that_is_the_seeds_own_is_not_shown():
    """All runs of one seed have it, most of which solve; none of two others have it, most of which do not."""
    is_solving = np.repeat([True, False, True, False, True, False], (6, 1, 1, 6, 1, 6))
    runs = [
        made_up((skill,), (ALL,), seed=i // 7) for i, skill in enumerate(np.where(is_solving, ALL, NOTHING))
    ]
    assert stratified_exchange_test(np.arange(21) < 7, is_solving, np.zeros(21))[0] < 0.05
    claim = verdicts.structured("odd", runs, np.arange(21) < 7, 0.1)
    assert claim.verdict == "not shown" and claim.measured["control (d = 2)"].endswith("(P = 1)")
    # seeds that have one kind alone do not count
    runs = [made_up((ALL if i < 10 else NOTHING,), (ALL,), seed=i // 4) for i in range(20)]
    claim = verdicts.structured("odd", runs, np.arange(20) < 10, 0.1)
    assert claim.verdict == "not shown" and claim.units.endswith("able to tell: 1")


def test_a_claim_is_a_row():
    claim = rules.two_blocks(seeds(1, depth=1), seeds(1))
    ((sentence, verdict, measured, units, setting),) = verdicts.claim_rows([claim])
    assert sentence.startswith("3. Two blocks") and verdict == "p = 7: **not shown**"
    assert "one block, learned the training set: 1 of 1" in measured and units == "seeds: 1, able to tell: 1"
    assert "blocks = 1, 2; " in setting and len(verdicts.CLAIM_HEAD) == 5
    assert verdicts.rule_rows([claim, claim]) == [claim.rule]
    assert claim.rule._fields == verdicts.RULE_HEAD


def test_a_setting_names_arithmetic_and_curriculum():
    runs = seeds()
    for run in runs:
        run.provenance["arithmetic"] = ["float32, compiled on a CPU"]
    runs[0].provenance["arithmetic"] = ["bf16, compiled on a CPU"]
    setting = verdicts.setting(np.array(runs, dtype=object))
    assert setting["arithmetic"] == "bf16, float32" and setting["curriculum"] == "no"


def test_a_share_has_an_interval_also_where_all_agree():
    assert verdicts.share([True] * 3) == "3 of 3 (0.44 to 1.00)" and verdicts.share([]) == "none here"
