"""The runs that come with the book: whole, reproducible, and what their metrics say they are."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import ROOT

from modgrok.config import SETS, preset
from modgrok.storage.find import find_run, run_folders
from modgrok.storage.runs import Run
from modgrok.storage.verify import verify
from modgrok.train import train

RUNS = [Run(folder) for folder in run_folders(ROOT / "runs")]
LIGHT = (
    "desk-map",  # some keep their last checkpoint
    "factors",
    "ladder",
    "levers",
    "rule",
)  # many runs, of which figures need the metrics alone: shipped without weights
each = pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)


def test_the_evidence_is_there_and_small():
    for depth in (1, 2, 4):
        for seed in range(3):
            find_run(preset("laptop", depth=depth, seed=seed), ROOT / "runs")
    size = sum(file.stat().st_size for run in RUNS for file in run.path.rglob("*") if file.is_file())
    assert size < 100e6


@each
def test_is_whole(run):
    config, metrics = run.config, run.metrics
    assert run.finished and metrics["step"][-1] == config.steps
    assert {"seconds", "processes", "arithmetic", "device", "torch", "commit"} <= run.provenance.keys()
    for name in SETS:
        right, asked = run.correct[name], run.queries[name]
        assert asked.sum(0).tolist() == [config.eval_sequences] * config.n_examples
        np.testing.assert_allclose(right[:, :, -1].sum(1) / asked[:, -1].sum(), metrics[f"{name}_acc"])
        np.testing.assert_allclose(right[:, 1:, -1].sum(1) / asked[1:, -1].sum(), metrics[f"{name}_novel"])
    if run.path.parent.name not in LIGHT:
        assert run.steps[-1] == config.steps


@each
def test_is_what_it_claims_to_be(run):
    """Its files are those of the manifest, and the weights give the recorded losses and answers."""
    assert "scored anew" in verify(run, checkpoints=1, sets=("ood_test",)) or run.path.parent.name in LIGHT


def test_retraining_gives_the_first_evaluations(tmp_path):
    """The learning rate is constant, so a shorter run is the beginning of the longer one."""
    shipped = find_run(preset("laptop"), ROOT / "runs")
    torch.set_num_threads(1)
    again = train(dataclasses.replace(shipped.config, steps=200), tmp_path)
    assert list(again.metrics["step"]) == [0, 200]
    for name in SETS:
        losses = shipped.metrics[f"{name}_loss"][:2], again.metrics[f"{name}_loss"]
        np.testing.assert_allclose(
            *losses, atol=0.05
        )  # another processor, and no compiler, round differently
        assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-5)
