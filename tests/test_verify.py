"""Evidence: what was recorded is what is there and what the weights score; every forgery is found."""

import json
import re
import shutil
import subprocess

import pytest
from tiny import ROOT, sentence, tiny

from modgrok.storage.export import export
from modgrok.storage.files import load_tensors, save_tensors
from modgrok.storage.runs import Run
from modgrok.storage.verify import check, verify
from modgrok.train import train

CONFIG = tiny(lr=3e-2)


def test_an_honest_run_passes_shipped_or_not(original, tmp_path):
    assert re.fullmatch(r"7 files as recorded; scored anew at 10, 12, losses within .*", verify(original))
    shipped = export(original, tmp_path, steps=[5, 12])
    assert verify(shipped, checkpoints=1).startswith("6 files as recorded; scored anew at 12, losses within ")
    assert verify(shipped, checkpoints=0) == "6 files as recorded"
    measured = export(original, tmp_path / "measured", steps=())
    assert verify(measured) == "4 files as recorded; shipped without weights, so nothing could be scored anew"


def change_table(run: Run, change) -> None:
    file = run.path / "metrics.csv"
    lines = file.read_text().splitlines()
    change(lines)
    file.write_text("\n".join(lines) + "\n")


def cell(column: str, value: str):
    """Put a value into the last row."""

    def change(lines):
        i, values = lines[0].split(",").index(column), lines[-1].split(",")
        values[i] = value
        lines[-1] = ",".join(values)

    return lambda run: change_table(run, change)


def forge_accuracy_everywhere(run: Run) -> None:
    """In both tables, so that they agree: only the weights can tell."""
    tensors = load_tensors(run.path / "scores.safetensors", run.name)
    n_queries = tensors["ood_test.asked"]
    tensors["ood_test.right"][-1] = n_queries
    save_tensors(run.path / "scores.safetensors", tensors, run.name)
    for column in ("acc", "novel"):
        cell(f"ood_test_{column}", "1.0" if n_queries[1:, -1].sum() or column == "acc" else "nan")(run)


def put_an_early_checkpoint_last(run: Run) -> None:
    shutil.copy(run.checkpoint_file(5), run.checkpoint_file(12))


def call_half_precision_full(run: Run) -> None:
    file = run.checkpoint_file(12)
    halves = {name: tensor.half() for name, tensor in load_tensors(file, run.name).items()}
    save_tensors(file, halves, run.name)


FORGERIES = {
    "an accuracy": cell("ood_test_acc", "0.99"),
    "a loss": cell("id_test_loss", "0.01"),
    "a loss that is no number": cell("id_train_loss", "nan"),
    "a step that is no number": cell("step", "nan"),
    "a training loss that is no number": cell("train_loss", "nan"),
    "a deleted row": lambda run: change_table(run, lambda lines: lines.pop(2)),
    "no last row": lambda run: change_table(run, lambda lines: lines.pop()),
    "an accuracy in every table": forge_accuracy_everywhere,
    "an early checkpoint": put_an_early_checkpoint_last,
}


@pytest.mark.parametrize("signed", [False, True], ids=["plain", "with a manifest to match"])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_found(forgery, signed, run):
    """Also where the manifest was written anew for it."""
    FORGERIES[forgery](run)
    if signed:
        Run(run.path).finish((run.path / "provenance.json").read_bytes())
    with pytest.raises(ValueError) as error:
        verify(Run(run.path))
    assert str(run.path) in sentence(error)


def test_what_the_manifest_says_must_be_so(run):
    call_half_precision_full(run)
    with pytest.raises(ValueError, match="not what the run was finished with"):
        verify(Run(run.path))
    Run(run.path).finish((run.path / "provenance.json").read_bytes())
    assert verify(Run(run.path))
    for name, entry, value in (
        ("checkpoints/step-0000012.safetensors", "sha256", "0"),
        ("config.json", "sha256", "0"),
    ):
        manifest = json.loads((run.path / "manifest.json").read_text())
        manifest[name][entry] = value
        copy = shutil.copytree(run.path, run.path.parent / name / run.name)
        (copy / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(ValueError):
            verify(Run(copy))


def test_what_is_not_finished_or_listed_is_refused(run):
    shutil.copy(run.checkpoint_file(5), run.checkpoint_file(6))
    with pytest.raises(ValueError, match=r"step-0000006\.safetensors is no part of the run"):
        verify(run)
    run.checkpoint_file(6).unlink()
    (run.path / "provenance.json").unlink()
    with pytest.raises(ValueError, match="is not finished"):
        verify(Run(run.path))


def test_without_its_manifest_no_run_counts_as_finished(run):
    (run.path / "manifest.json").unlink()
    for attempt in (lambda: check(Run(run.path)), lambda: train(CONFIG, run.path.parent)):
        with pytest.raises(
            ValueError, match=r"manifest\.json is missing; restore it, or remove the"
        ) as error:
            attempt()
        sentence(error)


@pytest.mark.parametrize("name", ["config.json", "metrics.csv", "provenance.json"])
def test_line_ends_that_git_changed_are_named(name, run):
    file = run.path / name
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(ValueError, match=r"core\.autocrlf=true; clone again with `git clone -c") as error:
        verify(Run(run.path))
    sentence(error)


def test_git_changes_no_line_end_of_what_is_hashed_or_executed():
    """Under any core.autocrlf: the files of runs are no text to it, all other text is checked out with LF."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    command = ["git", "check-attr", "--stdin", "text", "eol"]
    checksums = subprocess.run(command, cwd=ROOT, input=names, capture_output=True, text=True, check=True)
    attributes = dict(line.rsplit(": ", 1) for line in checksums.stdout.splitlines())
    assert len(attributes) > 1000
    for name in names.splitlines():
        is_bytes = attributes[f"{name}: text"] == "unset"
        assert is_bytes if name.startswith("runs/") else is_bytes or attributes[f"{name}: eol"] == "lf", name
