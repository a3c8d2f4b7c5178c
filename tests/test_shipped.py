"""The runs that come with the book: whole, reproducible, and what their metrics say they are."""

import dataclasses
import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from modgrok.config import SETS, preset
from modgrok.scale.grids import SWEEPS, grid
from modgrok.storage.find import find_run, run_folders
from modgrok.storage.runs import Run
from modgrok.storage.verify import verify
from modgrok.train import train

RUNS = [Run(folder) for folder in run_folders(ROOT / "runs")]
WEIGHTLESS = ("controls", "desk-map", "factors", "ladder", "lasting", "levers", "rule")
"""Folders of many runs, of which figures need the metrics alone: most are shipped without weights."""

STRIDE = 20
"""One run in so many is scored anew, beside those that the last commits touched."""


def touched() -> set[str]:
    """The names of the runs that differ from five commits ago; none where git does not tell."""
    command = ["git", "-C", str(ROOT), "diff", "--name-only", "HEAD~5", "--", "runs"]
    listing = subprocess.run(command, capture_output=True, text=True)
    return {part for line in listing.stdout.splitlines() for part in Path(line).parts}


WEIGHTED, TOUCHED = [run for run in RUNS if run.steps], touched()
SCORED = WEIGHTED[::STRIDE] + [run for run in WEIGHTED if run.name in TOUCHED]
every_run = pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
a_sample = pytest.mark.parametrize("run", dict.fromkeys(SCORED), ids=lambda run: run.name)


def test_the_evidence_is_there_and_small():
    names = {run.name for run in RUNS}
    for kinds, sizes in (("depth", "laptop desk p13-lines"), ("map", "laptop desk"), ("ladder", "desk"),
                         ("rule coarse lasting factors", "laptop")):  # fmt: skip
        for size, kind in itertools.product(sizes.split(), kinds.split()):
            named = SWEEPS[f"{size}-{kind}"]
            configs = grid(named.preset, named.vary, named.seeds, named.one_at_a_time)
            assert not {config.name for config in configs} - names, f"{size}-{kind}"
    for name in ("p13", "p19", "p29"):
        find_run(preset(name), ROOT / "runs")
    size = sum(file.stat().st_size for run in RUNS for file in run.path.rglob("*") if file.is_file())
    assert size < 100e6


@every_run
def test_is_whole(run):
    verify(run, checkpoints=0, sets=())
    config, metrics = run.config, run.metrics
    assert run.finished and metrics["step"][-1] == config.steps
    assert {"seconds", "processes", "arithmetic", "device", "torch", "commit"} <= run.provenance.keys()
    for name in SETS:
        n_correct, n_queries = run.correct[name], run.queries[name]
        assert n_queries.sum(0).tolist() == [config.eval_sequences] * config.n_examples
        np.testing.assert_allclose(
            n_correct[:, :, -1].sum(1) / n_queries[:, -1].sum(), metrics[f"{name}_acc"]
        )
        np.testing.assert_allclose(
            n_correct[:, 1:, -1].sum(1) / n_queries[1:, -1].sum(), metrics[f"{name}_novel"]
        )
    if run.path.parent.name not in WEIGHTLESS:
        assert run.steps[-1] == config.steps


@a_sample
def test_the_weights_give_the_recorded_losses_and_answers(run):
    """`python -m modgrok verify` does this for all of them."""
    assert "scored anew" in verify(run, checkpoints=1, sets=("ood_test",))


def cost_of_beginning(run: Run) -> int:
    """Steps to the first evaluation times roughly what a step takes."""
    config = run.config
    return config.depth * config.n_embd**2 * config.batch_size * config.n_examples * config.eval_every


def test_retraining_gives_the_first_evaluations(tmp_path):
    """Of the run that begins at least cost. Its learning rate is constant: a shorter run is the beginning of it."""
    runs = [run for run in RUNS if run.config.lr_schedule == "constant"]
    shipped = min(
        (run for run in runs if run.config.warmup_steps <= run.config.eval_every), key=cost_of_beginning
    )
    retrained = train(dataclasses.replace(shipped.config, steps=shipped.config.eval_every), tmp_path)
    assert list(retrained.metrics["step"]) == list(shipped.metrics["step"][:2])
    for name in SETS:
        losses = shipped.metrics[f"{name}_loss"][:2], retrained.metrics[f"{name}_loss"]
        np.testing.assert_allclose(
            *losses, atol=0.05
        )  # another processor, and no compiler, round differently
        assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-5)
