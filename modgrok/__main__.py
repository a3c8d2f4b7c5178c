"""The command line: `python -m modgrok --help`."""

import os

from modgrok.training.process import die_with_parent

if "TORCHELASTIC_RUN_ID" in os.environ:
    # A launcher that is killed must not leave its processes behind, not even while they import what follows: they would
    # wait for each other for minutes.
    die_with_parent()

import io
import signal
import sys
from csv import DictWriter
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy  # noqa: F401  # before torch, which loses a Ctrl-C that comes while it loads numpy
import torch
from tqdm.auto import tqdm

from modgrok import __version__
from modgrok.authors import import_authors
from modgrok.config import PRESET_COSTS, PRESETS, advice, preset
from modgrok.data import check_count
from modgrok.scale.bench import bench
from modgrok.scale.grids import SWEEPS, grid, parse_values, sweep_named
from modgrok.scale.jobs import Resources
from modgrok.scale.sweep import sweep
from modgrok.storage.export import export
from modgrok.storage.find import find_run, run_folders
from modgrok.storage.runs import OUTCOME_HEAD, Run
from modgrok.storage.verify import verify
from modgrok.train import train
from modgrok.training import engine

try:
    import tyro
except ModuleNotFoundError:
    sys.exit('The command line needs tyro; install it with: pip install "modgrok[cli]"')


Presets = tyro.extras.subcommand_type_from_defaults(
    {name: preset(name) for name in PRESETS},
    descriptions={name: f"{cost[0].upper()}{cost[1:]}." for name, cost in PRESET_COSTS.items()},
    prefix_names=False,
)
"""A config chosen by preset name, every field a flag."""

SWEEP_HELP = "a preset, or a named sweep, whose own values --vary and --seeds replace: " + "; ".join(
    f"{name} ({len(grid(*named[:4]))} runs, {named.cost})" for name, named in SWEEPS.items()
)

app = tyro.extras.SubcommandApp()


@app.command(name="train")
def train_command(
    config: Annotated[Presets, tyro.conf.arg(name="")],
    root: Path = Path("runs"),
    accumulate: int = 1,
    log_with: str | None = None,
    anew: bool = False,
) -> None:
    """Train a run, or continue it, or find it finished. Processes: see `torchrun` or `accelerate launch`.

    Args:
        config: the preset to start from.
        root: folder that holds runs; a finished one is found at any depth.
        accumulate: micro-batches a step is split into, to save memory.
        log_with: a tracker besides the run's own files: tensorboard or wandb.
        anew: train also if the finished run lies in a subfolder of root, as shipped runs do.
    """
    check_launcher()
    run = train(config, root, accumulate, log_with, anew)
    if os.environ.get("RANK", "0") == "0":
        elsewhere = run.path != root / config.name
        print(f"finished: {run.path}" + " (found there; --anew trains it again)" * elsewhere)


@app.command(name="sweep")
def sweep_command(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help=SWEEP_HELP)],
    vary: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    seeds: str | None = None,
    root: Path = Path("runs"),
    resources: Annotated[
        tyro.conf.OmitArgPrefixes[tyro.conf.UseAppendAction[Resources]], tyro.conf.arg(name="")
    ] = Resources(),  # noqa: B008
) -> None:
    """Train every combination of some values, several at once; finished ones are skipped.

    Args:
        name: a preset or a named sweep.
        vary: a field and its values, such as n_tasks=4,8,16; can be given several times.
        seeds: such as 1,2,3; by default 0.
        root: folder that holds runs.
        resources: the machines.
    """
    named = sweep_named(name)
    replacements: dict[str, list] = {}
    for field, values in map(parse_values, vary):
        replacements[field] = [*replacements.get(field, ()), *values]
    chosen_seeds = parse_values(f"seed={seeds}")[1] if seeds else named.seeds
    configs = grid(named.preset, named.vary | replacements, chosen_seeds, named.one_at_a_time)
    results = sweep(configs, root, **vars(resources))
    if failed := [result for result in results if result.error]:
        sys.exit(
            f"modgrok: {len(failed)} of {len(results)} points failed; the same command tries them again."
        )


@app.command(name="import-authors")
def import_authors_command(
    file: tyro.conf.Positional[Path],
    root: Path = Path("authors-runs"),
    seed: int = 0,
    eval_sequences: int = 4096,
) -> None:
    """Make a run of one of the authors' public checkpoints, for every chapter to use.

    Args:
        file: the `.pth` file.
        root: folder that will hold the run; best one of its own, for there it takes the place of a training of the
            same config.
        seed: of our split of tasks and inputs; the authors' own is not in the file.
        eval_sequences: evaluation sequences of each set.
    """
    run = import_authors(file, root, seed=seed, eval_sequences=eval_sequences)
    print(f"imported: {run.path}")


@app.command(name="bench")
def bench_command(rows: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Time each shortcut against the plain computation, and two processes against one: some ten minutes in all.

    Args:
        rows: parts of the names of the rows that are wanted, such as "training step"; by default all.
    """
    bench(rows)


@app.command(name="export")
def export_command(
    names: tyro.conf.Positional[tuple[str, ...]],
    to: Path,
    root: Path = Path("runs"),
    steps: tuple[int, ...] | None = None,
    weights: bool = True,
) -> None:
    """Copy finished runs to another folder, weights in half precision, to ship them.

    Args:
        names: names of runs.
        to: folder that will hold the copies.
        root: folder that holds the runs.
        steps: checkpoints to take along, by default all.
        weights: whether to take any; without, what was measured during training is shipped alone, 40 kB a run.
    """
    if steps is not None and (not weights or not steps):
        raise ValueError("--steps names the checkpoints to take along; to take none say --no-weights alone.")
    if not names:
        raise ValueError("export needs the name of a run; `python -m modgrok runs` lists them.")
    for run in [find_run(name, root) for name in names]:
        print(f"exported: {export(run, to, steps if weights else ()).path}")


@app.command(name="runs")
def runs_command(roots: tyro.conf.Positional[tuple[Path, ...]] = (Path("runs"),), csv: bool = False) -> None:
    """List the runs under some folders: steps done, minutes, and last-shot accuracy on the four sets.

    Args:
        roots: folders that hold runs, at any depth.
        csv: print a table with all metrics and fields of the config instead, as CSV.
    """
    folders, errors, rows = existing_runs(*roots), [], []
    if not csv:
        print(f"{'step':>15} {OUTCOME_HEAD}  run")
    for folder in folders:
        try:
            run = Run(folder)
            row, line = {"path": str(folder)} | run.summary(), "not evaluated yet".ljust(68)
            if row["step"] is not None:
                line = f"{row['step']:7d}/{row['steps']:<7d} {run.outcome}"
        except ValueError as error:  # the others are listed all the same
            errors.append(error)
            print(error, file=sys.stderr if csv else sys.stdout)
            continue
        rows.append(row)
        if not csv:
            print(f"{line}  {folder}")
    if csv and rows:
        table = DictWriter(sys.stdout, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    if errors:
        sys.exit(f"modgrok: {len(errors)} run(s) cannot be read.")


@app.command(name="verify")
def verify_command(
    names: tyro.conf.Positional[tuple[str, ...]] = (), root: Path = Path("runs"), checkpoints: int = 2
) -> None:
    """Check finished runs: files against the manifest, tables against each other, weights against the metrics.

    Args:
        names: names of runs, by default all under root.
        root: folder that holds runs, at any depth.
        checkpoints: how many of each run are scored anew, which takes seconds each; 0 for none.
    """
    check_count(checkpoints, "checkpoints", 0)
    paths = [find_run(name, root).path for name in names] or existing_runs(root)
    n_wrong = 0
    print(
        f"runs to check: {len(paths)}; checkpoints of each to score anew: {checkpoints}; seconds each, minutes where "
        "p is 29.",
        flush=True,
    )
    with engine.one_thread(), tqdm(paths, desc="verify", unit="run") as bar:
        for path in bar:
            try:
                bar.write(f"{path}: {verify(Run(path), checkpoints)}")
            except ValueError as error:
                bar.write(f"WRONG: {error}")
                n_wrong += 1
    if n_wrong:
        sys.exit(f"modgrok: {n_wrong} of {len(paths)} runs are not what they claim to be.")


def existing_runs(*roots: Path) -> list[Path]:
    """The folders of all runs under roots that are there and hold some."""
    for root in roots:
        if not root.is_dir():
            fault = f"a link to {root.readlink()}, which does not exist" if root.is_symlink() else "no folder"
            raise ValueError(f"{root} is {fault}; name a folder that holds runs.")
    if not (paths := [path for root in roots for path in run_folders(root)]):
        raise ValueError(
            f"there is no run under {' or '.join(map(str, roots))}; name a folder that holds one."
        )
    return paths


def check_launcher() -> None:
    """Refuse what `accelerate launch --multi_gpu` starts where there is no GPU: it would train on the CPU in silence.

    Raises ValueError if the launcher was told to use GPUs, none is here, and nobody said that none is wanted.
    """
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    wants_cpu = os.environ.get("ACCELERATE_USE_CPU", "False") != "False"
    hides_gpus = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    if is_launched and not (wants_cpu or hides_gpus or torch.cuda.is_available()):
        raise ValueError(
            "accelerate launch was asked for several GPUs, and this machine has none; start processes on the CPU by "
            "`torchrun --nproc_per_node 2 -m modgrok train …`, or set CUDA_VISIBLE_DEVICES to nothing."
        )


COMMANDS = ("train", "sweep", "import-authors", "bench", "export", "runs", "verify")


def check_words(words: list[str]) -> None:
    """Refuse a command that does not exist, also before --help, and paths that are empty, as unset variables are.

    Raises ValueError: one sentence, for a wrong command with those that there are.
    """
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        hint = advice(words[0], COMMANDS, "the commands are")
        raise ValueError(f"{words[0][:80]!r} is not a command; {hint}")
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for flag, part in pairwise(parts):
        if part == "" and flag != "--curriculum":
            raise ValueError(
                f"the value after {flag} is empty; perhaps it comes from a variable that is not set."
            )


def main() -> None:
    """Run a command; every expected failure is one sentence and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that the terminal lacks is no failure
            stream.reconfigure(errors="backslashreplace")
    try:
        check_words(sys.argv[1:])
        if sys.argv[1:] == ["--version"]:
            print(f"modgrok {__version__}")
            return
        app.cli(prog="modgrok", config=(tyro.conf.CascadeSubcommandArgs,))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (ValueError, FloatingPointError, OSError, ModuleNotFoundError) as error:
        words = [error.filename, error.strerror] if getattr(error, "strerror", None) else [error]
        sys.exit(f"modgrok: {': '.join(str(word) for word in words if word is not None)}")
    except KeyboardInterrupt as stop:
        print(f"modgrok: {stop or 'interrupted'}", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if "SIGTERM" in str(stop) else signal.SIGINT))


if __name__ == "__main__":
    main()
