"""The runs that come with the book: whole, reproducible, and what their metrics say they are."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import ROOT

from modgrok import interpret
from modgrok.config import SETS, preset
from modgrok.data import Data
from modgrok.evaluate import (
    PHASES,
    accuracy_by_shot,
    early_stop,
    map_accuracy,
    phases,
    solves,
    typical_points,
)
from modgrok.runs import Run, find_run, run_folders
from modgrok.train import train

RUNS = [Run(folder) for folder in run_folders(ROOT / "runs")]
each = pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)


def test_the_evidence_is_there_and_small():
    for seed in range(3):
        find_run(preset("laptop", seed=seed), ROOT / "runs" / "learning")
    size = sum(file.stat().st_size for run in RUNS for file in run.path.rglob("*") if file.is_file())
    assert size < 60e6


@each
def test_is_whole(run):
    config, metrics = run.config, run.metrics
    assert run.finished and metrics["step"][-1] == config.steps
    assert {"seconds", "processes", "device", "torch", "commit"} <= run.provenance.keys()
    for name in SETS:
        assert run.shots[name].shape == (len(metrics["step"]), config.n_examples)
        np.testing.assert_allclose(run.shots[name][:, -1], metrics[f"{name}_acc"])
    assert run.steps and run.steps[-1] == config.steps


@each
def test_the_weights_give_the_accuracy_of_the_metrics(run):
    """To half precision, in which they are shipped: an answer in a hundred may differ."""
    tokens = Data(run.config).evaluation_set("ood_train")
    accuracy = accuracy_by_shot(run.model(), tokens)
    np.testing.assert_allclose(accuracy, run.shots["ood_train"][-1], atol=0.01)


def test_retraining_gives_the_first_evaluations(tmp_path):
    """The learning rate is constant, so a shorter run is the beginning of the longer one."""
    shipped = find_run(preset("laptop"), ROOT / "runs" / "learning")
    torch.set_num_threads(1)
    again = train(dataclasses.replace(shipped.config, steps=200), tmp_path)
    assert list(again.metrics["step"]) == [0, 100, 200]
    for name in SETS:
        losses = shipped.metrics[f"{name}_loss"][:3], again.metrics[f"{name}_loss"]
        np.testing.assert_allclose(*losses, atol=0.02)  # another processor rounds differently
        assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-5)


def test_early_stopping_ignores_a_single_peak():
    curve = np.full(100, 0.2)
    curve[10] = 1.0
    curve[50:70] = 0.6
    stop = early_stop(curve)
    assert 50 <= stop.index < 70 and stop.best == pytest.approx(0.6) and stop.final == pytest.approx(0.2)
    assert early_stop([0.1, 0.4, 0.3]) == (1, 0.4, 0.3)


def test_a_phase_is_named_after_the_most_demanding_set_solved():
    low, high = 0.2, 0.9
    cases = {
        (low, low, low, low): "not learned",
        (high, low, low, low): "i.d. memorisation",
        (high, high, low, low): "i.d. generalisation",
        (high, low, high, low): "o.o.d. memorisation",
        (high, high, high, high): "o.o.d. generalisation",
    }
    columns = dict(zip(SETS, np.array(list(cases)).T, strict=True))
    assert [PHASES[i] for i in phases(columns, 7)] == list(cases.values())
    assert not solves(1 / 7, 7) and solves(1.0, 7) and solves(0.43, 7) and not solves(0.42, 7)


def test_a_phase_is_shown_by_the_best_point_where_all_seeds_are_in_it():
    reached = np.array([[[1, 1, 4]], [[1, 2, 4]]])  # two seeds, one row, three columns
    accuracy = {name: np.full(reached.shape, 0.5) for name in SETS}
    assert typical_points(accuracy, reached) == {1: (0, 0), 4: (0, 2)}
    accuracy["id_train"] = np.array([[[0.5, 0.9, 0.1]]] * 2)
    assert typical_points(accuracy, np.ones_like(reached)) == {1: (0, 1)}


def test_a_map_holds_the_chosen_evaluation():
    runs = np.array(
        [[run for run in RUNS if run.config == preset("laptop", seed=run.config.seed)]], dtype=object
    )
    first, last = map_accuracy(runs, 0)["id_train"], map_accuracy(runs)["id_train"]
    assert first.shape == last.shape == runs.shape and (last > first).all()
    each_its_own = map_accuracy(runs, np.array([[0, -1, -1]]))["id_train"]
    np.testing.assert_array_equal(each_its_own, [[first[0, 0], last[0, 1], last[0, 2]]])


@pytest.mark.parametrize(
    "config",
    [
        preset("laptop-long"),
        preset("laptop-long", depth=4),
        preset("laptop", seed=1),
        preset("laptop", seed=2),
    ],
    ids=lambda config: config.name,
)
def test_embeddings_split_best_by_the_parity_of_the_logarithm(config):
    """As the chapter on heads says of these four."""
    embedding = find_run(config, ROOT / "runs").model().embed.weight.detach().numpy()
    by_log = embedding[np.argsort(interpret.discrete_log(config.p))[1:]]
    shares = interpret.log_spectrum(by_log)[:, -1]
    assert shares[0] >= shares.max() - 1e-9 and shares[0] > shares.min() + 0.1
