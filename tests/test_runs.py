"""A run on disk: read, checked, exported; nothing in it is executed."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import torch
from tiny import sentence, tiny

from modgrok.config import SETS
from modgrok.data import Data
from modgrok.evaluate import accuracy_by_shot
from modgrok.storage import files
from modgrok.storage.export import export
from modgrok.storage.files import load_tensors
from modgrok.storage.runs import Run, escaped
from modgrok.storage.verify import check
from modgrok.train import train

CONFIG = tiny()


def test_a_run_has_metrics_shots_and_weights(original):
    assert (
        original.name == CONFIG.name == original.path.name and original.config == CONFIG and original.finished
    )
    columns = [f"{name}_{column}" for name in SETS for column in ("loss", "acc", "novel")]
    assert list(original.metrics) == ["step", "lr", "train_loss", *columns]
    assert original.metrics["step"].tolist() == [0, 5, 10, 12] and original.metrics["step"].dtype == int
    assert np.isnan(original.metrics["train_loss"]).tolist() == [True, False, False, False]
    for name in SETS:
        assert original.accuracy_by_shot[name].shape == (4, CONFIG.n_examples)
        np.testing.assert_array_equal(original.accuracy_by_shot[name][:, -1], original.metrics[f"{name}_acc"])
    assert original.steps == [5, 10, 12]  # log-spaced, at evaluations, the last one


def test_a_finished_run_keeps_no_resume_point(original):
    files = {str(file.relative_to(original.path)) for file in original.path.rglob("*") if file.is_file()}
    checkpoints = {f"checkpoints/step-{step:07d}.safetensors" for step in original.steps}
    expected = {
        "config.json",
        "metrics.csv",
        "scores.safetensors",
        "provenance.json",
        "manifest.json",
    } | checkpoints
    assert files - {"lock"} == expected


@pytest.mark.parametrize("step", [None, 5, 10, 12])
def test_the_model_of_a_checkpoint_is_the_one_that_was_scored(original, step):
    model = original.model(step)
    assert not model.training
    row = original.metrics["step"].tolist().index(step or 12)
    for name, tokens in Data(CONFIG).evaluation_sets().items():
        np.testing.assert_allclose(accuracy_by_shot(model, tokens), original.accuracy_by_shot[name][row])


def test_a_step_without_weights_is_refused(original, run):
    with pytest.raises(ValueError, match=r"step=7 is not a checkpoint .*\[5, 10, 12\]"):
        original.model(7)
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(
        ValueError, match=r"step-0000012\.safetensors is missing; restore it, or remove the folder"
    ):
        run.model()


def test_an_earlier_step_never_stands_in_for_the_last(run):
    run.checkpoint_file(12).unlink()
    for ask in (run.model, lambda: check(run), lambda: train(CONFIG, run.path.parent)):
        with pytest.raises(
            ValueError, match=r"step-0000012\.safetensors is missing; restore it, or remove the"
        ) as error:
            ask()
        sentence(error)
    assert run.model(10)


@pytest.mark.parametrize(
    "file", ["metrics.csv", "scores.safetensors", "checkpoints/step-0000005.safetensors"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "a folder", "a pipe"])
def test_the_advice_for_a_damaged_run_works(file, damage, run, original):
    """`train` refuses to call it finished; after what the message advises, it makes the run anew."""
    path = run.path / file
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-9])
    elif damage == "a folder":
        path.mkdir()
    elif damage == "a pipe":
        os.mkfifo(path)
    with pytest.raises(ValueError, match=f"remove the folder {run.path} and train the run again") as error:
        train(CONFIG, run.path.parent)
    sentence(error)
    shutil.rmtree(run.path)
    retrained = train(CONFIG, run.path.parent)
    check(retrained)
    assert retrained.steps == original.steps


def test_other_files_among_the_checkpoints_are_no_checkpoints(run):
    (run.path / "checkpoints" / ".part-x").touch()
    (run.path / "checkpoints" / "step-0000005.safetensors.bak").touch()
    (run.path / "checkpoints" / "step-notes.txt").touch()
    assert run.steps == [5, 10, 12]


def test_provenance_says_what_made_it(original):
    keys = {
        "seconds",
        "processes",
        "threads",
        "device",
        "machine",
        "python",
        "torch",
        "numpy",
        "accelerate",
        "commit",
    }
    assert keys <= original.provenance.keys()
    assert original.provenance["torch"] == torch.__version__ and original.provenance["processes"] == [1]
    assert original.provenance["seconds"] > 0


@pytest.mark.parametrize(
    "content",
    [
        "{}", "[]", "null", '{"seconds": "long"}', '{"seconds": 1}', "[" * 100_000, "\xff",
        '{"seconds": 1e400, "threads": 1, "processes": [1]}', '{"seconds": 1, "threads": true, "processes": [1]}',
        '{"seconds": 1, "threads": 1, "processes": []}', '{"seconds": 1, "threads": 1, "processes": [1], "note": {}}',
        '{"seconds": 1, "threads": 1, "processes": [1], "note": "%s"}' % ("x" * 501),
        '{"seconds": 1, "threads": 1, "processes": [1], "device": "a\\u0007"}',
    ],
)  # fmt: skip
def test_a_provenance_is_bounded_in_type_and_length(content, run):
    (run.path / "provenance.json").write_text(content, "utf8")
    sign(run)
    with pytest.raises(ValueError, match=r"provenance\.json is damaged") as error:
        _ = run.provenance
    assert len(sentence(error)) < 700


def test_what_a_run_says_is_escaped():
    text = escaped("<script>alert('1')</script> & [link](javascript:x) *b* `c` $d$\n# title")
    assert not set("<>'") & set(text) and "\n" not in text
    assert r"\[link\]\(javascript:x\) \*b\* \`c\` \$d\$ \# title" in text and "&amp; " in text
    assert escaped("NVIDIA H100 80GB HBM3, 2.13.0") == "NVIDIA H100 80GB HBM3, 2.13.0"


def sign(run: Run) -> None:
    """Let the manifest say what the provenance is, as who forges one would."""
    manifest = json.loads((run.path / "manifest.json").read_text())
    digest = hashlib.sha256((run.path / "provenance.json").read_bytes()).hexdigest()
    manifest["provenance.json"]["sha256"] = digest
    (run.path / "manifest.json").write_text(json.dumps(manifest))


def test_a_manifest_lists_digests(original, tmp_path):
    files = {str(f.relative_to(original.path)) for f in original.path.rglob("*") if f.is_file()}
    for run in (original, export(original, tmp_path)):
        assert run.manifest.keys() == files - {"lock", "manifest.json"}
        for name, entry in run.manifest.items():
            assert entry["sha256"] == hashlib.sha256((run.path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"metrics.csv": 3}', '{"metrics.csv": {}}', "[" * 100_000]
)
def test_a_damaged_manifest_is_refused(content, run):
    (run.path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged; restore it") as error:
        run.model()
    sentence(error)


def test_a_folder_that_is_no_run_is_refused(tmp_path, run):
    with pytest.raises(ValueError, match="is not a run: it holds no config"):
        Run(tmp_path)
    renamed = run.path.rename(tmp_path / "mine")
    with pytest.raises(ValueError, match="was edited or belongs elsewhere") as error:
        Run(renamed)
    sentence(error)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "3", "null", '{"p": 4}', '{"colour": 1}', '{"betas": 3}', "\x00"],
)
def test_a_damaged_config_is_refused(run, text):
    (run.path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged or from another version") as error:
        Run(run.path)
    assert sentence(error).endswith("restore it.")


def rows(table: str) -> list[str]:
    return table.splitlines(keepends=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: "",
        lambda t: rows(t)[0],
        lambda t: t.replace("id_train_acc", "id_train_accuracy"),
        lambda t: t.replace("\n5,", "\nfive,"),
        lambda t: t[:-60],
        lambda t: "step,lr\n0,1\n",
    ],
)
def test_a_damaged_table_of_a_run_that_goes_on_is_refused(run, change):
    (run.path / "provenance.json").unlink()
    (run.path / "metrics.csv").write_text(change((run.path / "metrics.csv").read_text()))
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged") as error:
        _ = Run(run.path).metrics
    sentence(error)


def corrupt(how: str, file, another_run: Run) -> None:
    content = bytearray(file.read_bytes())
    if how == "truncated":
        content = content[:-9]
    elif how == "cut short":
        content = content[:6]
    elif how == "edited":
        content[-1] ^= 1
    elif how == "garbage":
        content = bytearray(b"PK\x03\x04 this is a zip, or a pickle")
    elif how == "of another run":
        content = another_run.checkpoint_file(12).read_bytes()
    elif how == "of another program":
        import safetensors.torch

        content = safetensors.torch.save({"weight": torch.ones(2)})
    file.write_bytes(content)


@pytest.fixture(scope="module")
def another_run(tmp_path_factory):
    return train(tiny(seed=1), tmp_path_factory.mktemp("other"))


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "how", ["truncated", "cut short", "edited", "garbage", "of another run", "of another program"]
)
def test_a_damaged_or_foreign_checkpoint_is_refused(how, finished, run, another_run):
    if not finished:
        (run.path / "provenance.json").unlink()
    file = run.checkpoint_file(12)
    corrupt(how, file, another_run)
    before = file.read_bytes()
    with pytest.raises(
        ValueError, match=r"step-0000012\.safetensors (is not what|is damaged|was changed|belongs to)"
    ) as error:
        run.model()
    sentence(error)
    with pytest.raises(ValueError):
        export(run, run.path.parent / "shipped")
    assert file.read_bytes() == before and not (run.path.parent / "shipped").exists()
    assert run.model(10)  # the others are as good as ever


def test_missing_tensors_are_named(run):
    (run.path / "scores.safetensors").unlink()
    with pytest.raises(ValueError, match=r"scores\.safetensors is missing; restore it"):
        _ = run.accuracy_by_shot


def test_export_is_half_the_size_and_nearly_the_same(original, tmp_path):
    copy = export(original, tmp_path, steps=[5, 12])
    assert copy.finished and copy.steps == [5, 12] and copy.path == tmp_path / original.name
    for name in ("config.json", "metrics.csv", "provenance.json"):
        assert (copy.path / name).read_bytes() == (original.path / name).read_bytes()
    assert all((copy.accuracy_by_shot[name] == original.accuracy_by_shot[name]).all() for name in SETS)
    stored = load_tensors(copy.checkpoint_file(12), original.name)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    ours, theirs = copy.model().state_dict(), original.model().state_dict()
    for name, weight in ours.items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, theirs[name], rtol=2**-11, atol=1e-7)
    assert not [file for file in copy.path.rglob("*") if file.name in ("lock", "holder")]
    with pytest.raises(ValueError, match="is there already; remove it"):
        export(original, tmp_path)
    with pytest.raises(ValueError, match=r"are not checkpoints .*choose among \[5, 10, 12\]"):
        export(original, tmp_path / "none", [5, 999])
    assert not (tmp_path / "none").exists()
    assert export(copy, tmp_path / "all").steps == [5, 12]  # by default all
    assert train(CONFIG, tmp_path).path == copy.path  # finished is finished


def test_a_run_is_shipped_without_weights(original, tmp_path):
    copy = export(original, tmp_path, steps=())
    check(copy)
    assert copy.finished and copy.steps == [] and not list(copy.path.rglob("step-*"))
    assert all((copy.accuracy_by_shot[name] == original.accuracy_by_shot[name]).all() for name in SETS)
    with pytest.raises(ValueError, match="as it was shipped; train it under another root") as error:
        copy.model()
    sentence(error)
    assert train(CONFIG, tmp_path).path == copy.path  # finished is finished


def test_an_unfinished_run_is_not_exported(run, tmp_path):
    (run.path / "provenance.json").unlink()
    with pytest.raises(ValueError, match="is not finished"):
        export(run, tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


def test_a_read_only_root_serves_finished_runs(run):
    """Shipped runs may lie where nothing can be written: no lock, no temporary file."""
    before = sorted(run.path.rglob("*"))
    (run.path / "lock").unlink(missing_ok=True)
    train(CONFIG, run.path.parent)
    assert sorted(run.path.rglob("*")) == [file for file in before if file.name != "lock"]


def test_no_pickle_is_loaded(run, monkeypatch):
    """Nor anything else executed: whatever opens a pickle is broken here, and runs are read all the same."""
    import pickle

    def forbidden(*args, **kwargs):
        raise AssertionError("a pickle was about to be loaded")

    for place, name in [
        (torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (np, "load"),
        (files.safetensors.torch, "load_file"),
    ]:  # fmt: skip
        monkeypatch.setattr(place, name, forbidden)
    (run.path / "provenance.json").unlink()
    (run.path / "metrics.csv").unlink()
    retrained = train(CONFIG, run.path.parent)
    for step in retrained.steps:
        retrained.model(step)
    assert retrained.metrics and retrained.accuracy_by_shot and retrained.provenance
    export(retrained, run.path.parent / "shipped")


def test_written_files_can_be_read_by_others(original):
    for file in original.path.rglob("*"):
        if file.is_file() and file.name != "lock":
            assert file.stat().st_mode & 0o777 == 0o644


def test_provenance_comes_last(tmp_path, monkeypatch):
    """Its presence means finished, so everything else must be there by then."""
    order, replace = [], os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: (order.append(b.name), replace(a, b)))
    run = train(CONFIG, tmp_path)
    assert order[-1] == "provenance.json" and order.count("provenance.json") == 1
    assert json.loads((run.path / "config.json").read_text()) == CONFIG.to_dict()
