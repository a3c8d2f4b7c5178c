"""Finding runs: by name or config, at any depth, the right one or none."""

import shutil

import pytest
from tiny import sentence, tiny

from modgrok.config import preset
from modgrok.scale.sweep import sweep
from modgrok.storage.find import find_run, finished_runs, run_folders, train_command
from modgrok.storage.runs import Run
from modgrok.train import train

CONFIG = tiny()


def test_a_name_is_a_name(original):
    for name in (
        "p3*",
        "*",
        "",
        ".",
        "..",
        f"../{original.name}",
        str(original.path),
        "a\nb",
        "x" * 10_000 + "/",
        3,
        None,
    ):
        with pytest.raises(ValueError, match="is not the name of a run") as error:
            find_run(name, original.path.parent)
        assert len(sentence(error)) < 400
    with pytest.raises(ValueError, match="root='' is not allowed"):
        find_run(original.name, "")


def test_training_finds_a_run_in_a_subfolder_unless_told_not_to(original, tmp_path):
    shipped = Run(shutil.copytree(original.path, tmp_path / "shipped" / "of" / original.name))
    assert train(CONFIG, tmp_path).path == shipped.path and not (tmp_path / original.name).exists()
    assert sweep([CONFIG], tmp_path)[0].run.path == shipped.path
    assert train(CONFIG, tmp_path, anew=True).path == tmp_path / original.name


def test_finished_runs_are_those_of_one_modulus(original, tmp_path):
    assert [run.path for run in finished_runs(3, original.path.parent)] == [original.path]
    assert finished_runs(5, original.path.parent) == []
    assert [run.path for run in finished_runs(None, original.path.parent)] == [original.path]
    copy = tmp_path / "all" / original.name
    shutil.copytree(original.path, copy)
    (tmp_path / "all/p7-other").mkdir()
    (tmp_path / "all/p7-other/config.json").write_text("{}")
    assert [run.path for run in finished_runs(3, tmp_path / "all")] == [copy]
    with pytest.warns(UserWarning, match="left out: .*p7-other"):
        assert [run.path for run in finished_runs(None, tmp_path / "all")] == [copy]
    begun = Run(shutil.copytree(original.path, tmp_path / "begun" / original.name))
    (begun.path / "provenance.json").unlink()
    assert finished_runs(3, tmp_path / "begun") == []


def test_a_run_is_found_among_two_hundred(tmp_path, original):
    for i in range(200):
        folder = tmp_path / f"sweep-{i % 10}" / f"p3-n4-{i}"
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.json").touch()
    shutil.copytree(original.path, tmp_path / "sweep-5" / original.name)
    assert len(run_folders(tmp_path)) == 201
    assert find_run(original.name, tmp_path).path == tmp_path / "sweep-5" / original.name
    shutil.rmtree(tmp_path / "sweep-5" / original.name)
    late = tmp_path / "sweep-7" / "late" / original.name  # and what is new is found, what is gone is not
    shutil.copytree(original.path, late)
    assert find_run(original.name, tmp_path).path == late


def test_runs_are_found_by_name_or_config(original, tmp_path):
    deep, nowhere = tmp_path / "deep", tmp_path / "nowhere"
    shutil.copytree(original.path, deep / "sweep" / "of" / original.name)
    for key in (CONFIG, CONFIG.name):
        assert find_run(key, original.path.parent).path == original.path
        assert find_run(key, deep).path == deep / "sweep" / "of" / original.name
        with pytest.raises(FileNotFoundError, match=f"no finished run {CONFIG.name} in .*nowhere; train it"):
            find_run(key, nowhere)
    assert run_folders(nowhere) == [] and run_folders(deep) == [deep / "sweep" / "of" / original.name]


def test_an_unfinished_run_is_passed_over(run):
    (run.path / "provenance.json").unlink()
    assert not Run(run.path).finished and Run(run.path).provenance == {}
    with pytest.raises(FileNotFoundError):
        find_run(CONFIG, run.path.parent)


def test_links_are_followed_once(original, tmp_path):
    """To a run, to a folder of runs, and in a circle."""
    store, root = tmp_path / "scratch", tmp_path / "runs"
    shutil.copytree(original.path, store / original.name)
    root.mkdir()
    (root / "linked").symlink_to(store)
    (root / "circle").symlink_to(root)
    assert run_folders(root) == [root / "linked" / original.name]
    assert find_run(CONFIG, root).path == root / "linked" / original.name
    assert train(CONFIG, root).path == root / "linked" / original.name  # and not trained again
    (root / original.name).symlink_to(store / original.name)
    (linked_run,) = finished_runs(3, root)
    assert linked_run.name == original.name and linked_run.finished


def test_a_root_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "gone")
    with pytest.raises(OSError, match=r"runs is a link to .*gone, which does not exist"):
        train(CONFIG, tmp_path / "runs")


def test_a_missing_run_is_told_with_its_command_and_its_likes(original):
    with pytest.raises(FileNotFoundError) as error:
        find_run(preset("laptop", depth=3), original.path.parent)
    assert "python -m modgrok train laptop --depth 3" in str(error.value)
    with pytest.raises(FileNotFoundError, match=f"similar runs there: {original.name}"):
        find_run(tiny(seed=5), original.path.parent)
    command = train_command(preset("desk", shared_pairs=True, betas=(0.5, 0.6)))
    assert command == "python -m modgrok train desk --betas 0.5 0.6 --shared-pairs"
