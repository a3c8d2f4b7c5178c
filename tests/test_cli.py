"""The command line: inside this process where the promise is not about one, since importing torch takes seconds."""

import csv
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate.commands.launch import launch_command, launch_command_parser
from tiny import ENV, ROOT, command, sentence, tiny

import modgrok
from modgrok.__main__ import main
from modgrok.config import PRESETS, Config, preset
from modgrok.storage.runs import Run
from modgrok.train import train


@pytest.fixture
def inside(monkeypatch, capsys):
    """The command line in this process: its exit code, and what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["modgrok", *map(str, arguments)])
        capsys.readouterr()  # what the test itself printed
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def refusal(code: str) -> str:
    """The one sentence that a command failed with."""
    assert code.startswith("modgrok: ")
    assert "\n" not in code
    return code.removeprefix("modgrok: ")


def test_every_field_is_a_flag(tmp_path, inside):
    """All at once, with values that are no preset's."""
    config = tiny(optimizer="muon", betas=(0.8, 0.9), seed=3, lr_schedule="constant", steps=3)
    code, out, progress = inside(*command(config, tmp_path)[3:])
    assert code == 0
    assert f"training {config.name} on 1 process(es), cpu, from step 0" in out
    assert out.splitlines()[-1] == f"finished: {tmp_path / config.name}"
    assert Run(tmp_path / config.name).config == config
    assert " 3/3 " in progress and "ood_test=" in progress


def test_help_explains_presets_and_fields(inside):
    code, out, _ = inside("train", "--help")
    assert code == 0 and all(name in out for name in PRESETS)
    text = " ".join(inside("train", "smoke", "--help")[1].split())
    assert all(f"--{name}" in text or f"--{name.replace('_', '-')}" in text for name in Config().to_dict())
    assert "modulus, a prime" in text and "folder that holds runs" in text


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--accumulate", "7"], "batch_size=48 does not divide"),
        (["--root", "README.md"], ": Not a directory"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(flags, expected, tmp_path, inside, monkeypatch):
    monkeypatch.chdir(ROOT)
    root = [] if "--root" in flags else ["--root", tmp_path / "runs"]
    code, _, _ = inside("train", "smoke", "--n_tasks", 16, "--batch_size", 48, *root, *flags)
    assert expected in refusal(code) and "[Errno" not in code
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--batch_size", "33"], "batch_size=33 must lie between 16 and"),
        (["--p", "9"], "p=9 must be prime; the nearest valid choice is 7."),
    ],
)
def test_a_wrong_value_is_one_sentence_in_a_box(flags, expected, tmp_path, inside):
    options = ("--n_tasks", 16, "--batch_size", 48, "--root", tmp_path / "runs", *flags)
    code, _, errors = inside("train", "smoke", *options)
    assert code == 2 and "Traceback" not in errors
    assert expected in " ".join(errors.replace("│", " ").split())
    assert not (tmp_path / "runs").exists()


def test_a_wrong_name_is_answered_with_what_there_is(inside):
    for arguments, meant in ((("smoke", "--batchsize", "48"), "batch"), (("large",), "laptop")):
        code, _, errors = inside("train", *arguments)
        assert code == 2 and meant in errors and "Traceback" not in errors


def test_a_damaged_run_is_one_sentence(tmp_path, inside):
    run = train(tiny(), tmp_path)
    (run.path / "config.json").write_text("{")
    code, _, _ = inside(*command(tiny(), tmp_path)[3:])
    assert "config.json is damaged" in refusal(code)


def test_a_damaged_run_does_not_hide_the_others(tmp_path, inside):
    damaged, whole = train(tiny(), tmp_path), train(tiny(seed=1), tmp_path)
    (damaged.path / "metrics.csv").write_text("step\n1,2,3\n")
    code, out, _ = inside("runs", tmp_path)
    lines = out.splitlines()[1:]
    assert len(lines) == 2 and refusal(code) == "1 run(s) cannot be read."
    listed = {line.split("  ")[-1] for line in lines if not line.startswith(str(tmp_path))}
    assert listed == {str(whole.path)}
    assert any(line.startswith(f"{damaged.path / 'metrics.csv'} is not what") for line in lines)


def spoil(path, content):
    """Put something else in a file's place."""
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    else:
        path.write_text(content)


SPOILT = [
    (file, content)
    for file in ("provenance.json", "config.json", "metrics.csv")
    for content in (
        "folder",
        "pipe",
        "",
        "{}",
        "[]",
        "\x00",
        '{"p": {"p": 7}}',
        '{"p": 1000000000000000000000000000057}',
    )
] + [
    ("provenance.json", '{"seconds": "long", "threads": 1, "processes": [1]}'),
    ("metrics.csv", "step\n12\n"),
]


def test_a_run_spoilt_in_any_way_is_one_line(tmp_path, inside):
    """None of them hangs."""
    whole = train(tiny(), tmp_path / "kept")
    for i, (file, content) in enumerate(SPOILT):
        path = shutil.copytree(whole.path, tmp_path / "all" / f"{i}" / whole.name)
        spoil(path / file, content)
    shutil.copytree(whole.path, tmp_path / "all" / "whole" / whole.name)
    code, out, _ = inside("runs", tmp_path / "all")
    lines = out.splitlines()[1:]
    spoilt = [line for line in lines if line.startswith(str(tmp_path))]
    # a folder or pipe for the provenance leaves a run that is not finished, which is no damage
    unfinished = [line for line in lines if "…" in line]
    assert len(lines) == len(SPOILT) + 1 and len(unfinished) == 2 and len(spoilt) == len(SPOILT) - 2
    assert code == f"modgrok: {len(spoilt)} run(s) cannot be read." and max(map(len, lines)) < 1000


def test_what_is_asked_for_must_be_there(tmp_path, inside):
    run = train(tiny(), tmp_path / "runs")
    root, shipped = ("--root", tmp_path / "runs"), ("--to", tmp_path / "shipped")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    for arguments, expected in [
        (("runs", tmp_path / "typo"), "is no folder; name a folder that holds runs."),
        (("runs", tmp_path / "dangling"), "is a link to nowhere, which does not exist; name a folder that holds"),
        (("sweep", "smoke", "--jobs", "0", *root), "jobs=0 must be a whole number, 1 or more."),
        (("runs", tmp_path / "empty"), "; name a folder that holds one."),
        (("verify", "--root", tmp_path / "empty"), "; name a folder that holds one."),
        (("verify", "typo", *root), "no finished run typo"),
        (("verify", "--checkpoints", -1, *root), "checkpoints=-1 must be a whole number, 0 or more"),
        (("export", "typo", *root, *shipped), "no finished run typo"),
        (("export", *root, *shipped), "export needs the name of a run"),
        (("export", "p3*", *root, *shipped), "is not the name of a run"),
        (("export", run.path, *root, *shipped), "is not the name of a run"),
        (("export", run.name, "typo", *root, *shipped), "no finished run typo"),
        (("export", run.name, *root, *shipped, "--steps", 12, 999), "steps=[12, 999] are not checkpoints"),
        (("export", run.name, *root, *shipped, "--steps"), "to take none say --no-weights"),
        (("bench", "nosuch"), "no row is named like nosuch; choose parts of: training step"),
    ]:  # fmt: skip
        code, _, _ = inside(*arguments)
        assert str(code).startswith("modgrok: ") and expected in code, (arguments, code)
        sentence(code)
    assert not (tmp_path / "shipped").exists()  # nothing is done by halves


EMPTY = [
    "train smoke --root", "sweep smoke --root", "import-authors", "import-authors x.pth --root",
    "sweep smoke --seeds", "export x --to", "export x --to y --root", "runs", "verify --root",
]  # fmt: skip


@pytest.mark.parametrize("words", EMPTY)
def test_an_empty_path_is_not_the_current_folder(words, inside):
    code, _, errors = inside(*words.split(), "")
    message = " ".join(f"{errors} {code}".replace("│", " ").split())
    assert code and "is empty; perhaps it comes from a variable that is not set." in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_several_gpus_on_a_machine_without_one_are_one_sentence(tmp_path, inside, monkeypatch):
    """As `accelerate launch` sets the environment of its processes, of which one is started here."""
    results = []

    def start_one(arguments):
        monkeypatch.setenv("WORLD_SIZE", str(arguments.nproc_per_node))
        results.append(inside("train", "smoke", "--root", tmp_path / "refused"))

    monkeypatch.setattr("torch.distributed.run.run", start_one)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    flags = ["--multi_gpu", "--num_processes", "2", "-m", "modgrok", "train", "smoke"]
    launch_command(launch_command_parser().parse_args(flags))
    ((code, _, _),) = results
    assert "this machine has none; start processes on the CPU by `torchrun" in sentence(refusal(code))
    assert not (tmp_path / "refused").exists()


def test_verify_tells_the_forged_from_the_honest(tmp_path, inside):
    honest, forged = train(tiny(), tmp_path), train(tiny(seed=1), tmp_path)
    code, out, _ = inside("verify", "--root", tmp_path)
    assert code == 0 and all(f"{run.path}: 7 files as recorded" in out for run in (honest, forged))
    shutil.copy(forged.checkpoint_file(5), forged.checkpoint_file(12))
    code, out, _ = inside("verify", "--root", tmp_path)
    assert code == "modgrok: 1 of 2 runs are not what they claim to be."
    assert f"WRONG: {forged.checkpoint_file(12)} is not what" in out and f"{honest.path}: 7 files" in out
    assert inside("verify", honest.name, "--root", tmp_path)[0] == 0


def test_training_says_where_it_found_the_run(tmp_path, inside):
    shipped = train(preset("smoke", steps=4), tmp_path / "shipped")
    flags = ("train", "smoke", "--steps", 4, "--root", tmp_path)
    _, out, _ = inside(*flags)
    assert out == f"finished: {shipped.path} (found there; --anew trains it again)\n"
    _, out, _ = inside(*flags, "--anew")
    assert out.splitlines()[-1] == f"finished: {tmp_path / shipped.name}"


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    train(tiny(), tmp_path)
    argv = [sys.executable, "-m", "modgrok", "runs", str(tmp_path)]
    process = subprocess.Popen(
        argv, env=ENV, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.wait(timeout=120) == 141 and process.stderr.read() == ""


def test_runs_are_listed_with_their_state(tmp_path, inside):
    finished_run, begun = train(tiny(), tmp_path / "a"), train(tiny(seed=1), tmp_path / "b" / "deep")
    fresh = train(tiny(seed=2), tmp_path / "b")
    (begun.path / "provenance.json").unlink()
    for file in ("provenance.json", "metrics.csv"):
        (fresh.path / file).unlink()
    code, out, _ = inside("runs", tmp_path / "a", tmp_path / "b")
    assert code == 0
    header, *lines = out.splitlines()
    assert header.split() == ["step", "minutes", "id_train", "id_test", "ood_train", "ood_test", "run"]
    lines = {line.split()[-1]: line for line in lines}
    assert lines.keys() == {str(run.path) for run in (finished_run, begun, fresh)}
    last = [f"{finished_run.metrics[f'{name}_acc'][-1]:.2f}" for name in header.split()[2:6]]
    assert lines[str(finished_run.path)].split()[:-1] == [
        "12/12",
        f"{finished_run.provenance['seconds'] / 60:.1f}",
        *last,
    ]
    assert lines[str(begun.path)].split()[:2] == ["12/12", "…"]
    assert lines[str(fresh.path)].startswith("not evaluated yet")
    assert len({line.index(str(tmp_path)) for line in lines.values()}) == 1  # the columns line up


def test_runs_are_exported_to_be_shipped(tmp_path, inside):
    """With the chosen checkpoints; a name that is not there is refused."""
    run = train(tiny(steps=4, eval_every=1, n_checkpoints=3), tmp_path / "mine")
    folders = ("--root", tmp_path / "mine", "--to", tmp_path / "shipped", "--steps", 4)
    code, _, errors = inside("export", run.name, *folders)
    assert code == 0, errors
    copy = Run(tmp_path / "shipped" / run.name)
    assert len(run.steps) > 1 and copy.steps == [4] and copy.finished
    assert "no finished run nope" in refusal(inside("export", "nope", *folders)[0])


def test_runs_are_a_table_for_other_programs(tmp_path, inside):
    train(tiny(), tmp_path)
    code, out, _ = inside("runs", tmp_path, "--csv")
    (row,) = csv.DictReader(out.splitlines())
    assert code == 0 and row["name"] == tiny().name and row["n_tasks"] == "4" and float(row["minutes"]) >= 0


def test_a_command_that_is_none_is_refused_even_with_help(inside):
    code, out, _ = inside("verfy", "--help")
    assert refusal(code) == "'verfy' is not a command; did you mean verify?" and not out
    assert "laptop-map (18 runs, half an hour)" in " ".join(
        inside("sweep", "--help")[1].replace("│", " ").split()
    )


def test_commands_in_texts_are_understood(inside, monkeypatch):
    monkeypatch.setattr(
        "modgrok.__main__.train", lambda config, root, *_: SimpleNamespace(path=root / config.name)
    )
    monkeypatch.setattr("modgrok.__main__.sweep", lambda configs, root, **_: [])
    texts = [page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "book").glob("*.md")))]
    commands_shown = re.findall(r"-m modgrok ((?:train|sweep) [^`\n\\\x22]+)", "\n".join(texts))
    assert len(commands_shown) > 15
    for words in commands_shown:
        code, _, errors = inside(*shlex.split(words, comments=True))
        assert (code, errors) == (0, ""), words


def test_the_version_can_be_asked_for(inside):
    assert inside("--version") == (0, f"modgrok {modgrok.__version__}\n", "")


def test_every_field_has_a_help(inside):
    text = " ".join(inside("train", "smoke", "--help")[1].replace("│", " ").split())
    for name in Config().to_dict():
        words = text.split(f"--{name.replace('_', '-')} ")[-1].split(", --no-" + name.replace("_", "-"))[-1]
        assert not re.match(r"(\S+ )?\(default", words.strip()), name


def test_nothing_is_listed_before_a_folder_without_runs_is_refused(tmp_path, inside):
    code, out, _ = inside("runs", tmp_path)
    assert out == "" and refusal(code) == f"there is no run under {tmp_path}; name a folder that holds one."


@pytest.mark.parametrize("words", [["runs"], ["train", "--help"]])
def test_a_terminal_without_our_letters_is_no_failure(words, tmp_path, inside, monkeypatch):
    run = train(tiny(), tmp_path)
    (run.path / "provenance.json").unlink()  # so that its minutes are "…"
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        code, _, errors = inside(*words, *[tmp_path] * (words == ["runs"]))
    terminal.flush()
    assert code == 0 and errors == "" and rb"\u" in terminal.buffer.getvalue()
