"""The command line: `python -m modgrok --help`."""

import os

from modgrok.training.process import die_with_parent

if "TORCHELASTIC_RUN_ID" in os.environ:
    # A launcher that is killed must not leave its processes behind, not even while they import what follows: they would
    # wait for each other for minutes.
    die_with_parent()

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy  # noqa: F401  # before torch, which loses a Ctrl-C that comes while it loads numpy
import torch
from tqdm.auto import tqdm

from modgrok.authors import import_authors
from modgrok.config import PRESETS, SETS, preset
from modgrok.scale import bench
from modgrok.scale.sweep import SWEEPS, Sweep, grid, parse_values, sweep
from modgrok.storage.export import check_export, export
from modgrok.storage.files import write_atomically
from modgrok.storage.find import find_run, run_folders
from modgrok.storage.provenance import environment
from modgrok.storage.runs import Run
from modgrok.storage.verify import verify
from modgrok.train import train
from modgrok.training import engine

try:
    import tyro
except ModuleNotFoundError:
    sys.exit('The command line needs tyro; install it with: pip install "modgrok[cli]"')


def place(text: str) -> Path:
    """A path as it was typed; an empty one, which a script's unset variable gives, is not the current folder."""
    if not text:
        raise ValueError("an empty path is not allowed; name a folder or a file.")
    return Path(text)


Place = Annotated[
    Path,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: place(*words),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    ),
]
"""A folder or file named on the command line."""

Presets = tyro.extras.subcommand_type_from_defaults(
    {name: preset(name) for name in PRESETS},
    descriptions={
        "smoke": "Seconds; to see that everything works.",
        "laptop": "Minutes on a CPU core; shows the phenomena.",
        "desk": "An hour on a CPU core, at p = 11.",
        "night": "Hours at p = 13, with four blocks of width 128.",
        "paper": "The paper's d = 2 model; hours on a GPU.",
    },
    prefix_names=False,
)
"""A config chosen by preset name, every field a flag."""

app = tyro.extras.SubcommandApp()


@app.command(name="train")
def train_command(
    config: Annotated[Presets, tyro.conf.arg(name="")],
    root: Place = Path("runs"),
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
        print(f"finished: {run.path}" + " (found there; --anew True trains it again)" * elsewhere)


@app.command(name="sweep")
def sweep_command(
    name: tyro.conf.Positional[str],
    vary: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    seeds: str | None = None,
    root: Place = Path("runs"),
    jobs: int = 2,
    cluster: Literal["local", "slurm"] = "local",
    gpus: int | None = None,
    partition: str | None = None,
    minutes: int = 24 * 60,
    slurm: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
) -> None:
    """Train every combination of some values, several at once; finished ones are skipped.

    Args:
        name: a preset, or a named sweep, whose own values --vary and --seeds replace.
        vary: a field and its values, such as n_tasks=4,8,16; can be given several times.
        seeds: such as 1,2,3; by default 0.
        root: folder that holds runs.
        jobs: how many train at once; locally they share out the CPU cores.
        cluster: this machine, or SLURM.
        gpus: GPUs, and processes, of each run; 0 trains on the CPU. By default 1 if this machine has one, else 0.
        partition: of SLURM.
        minutes: time limit of a SLURM job; one that reaches it is requeued and goes on.
        slurm: another option of sbatch, such as account=lab; can be given several times.
    """
    chosen = SWEEPS.get(name, Sweep(name, {}))
    given = [parse_values(text) for text in vary]
    if twice := [name for i, (name, _) in enumerate(given) if name in dict(given[:i])]:
        raise ValueError(
            f"--vary {twice[0]} is given twice; write all its values in one, like n_tasks=4,8,16."
        )
    values = chosen.vary | dict(given)
    chosen_seeds = parse_values(f"seed={seeds}")[1] if seeds else chosen.seeds
    configs = grid(chosen.preset, values, chosen_seeds, chosen.one_at_a_time)
    options = dict(text.split("=", 1) if "=" in text else (text, True) for text in slurm)
    results = sweep(configs, root, jobs, cluster, gpus, partition, minutes, options)
    if failed := [result for result in results if result.error]:
        sys.exit(
            f"modgrok: {len(failed)} of {len(results)} points failed; the same command tries them again."
        )


@app.command(name="import-authors")
def import_authors_command(
    file: tyro.conf.Positional[Place],
    root: Place = Path("authors-runs"),
    n_head: int = 4,
    p: int | None = None,
    n_tasks: int | None = None,
    alpha: float | None = None,
    batch_size: int | None = None,
    eval_sequences: int | None = None,
    seed: int = 0,
) -> None:
    """Make a run of one of the authors' public checkpoints, for every chapter to use.

    Args:
        file: the `.pth` file.
        root: folder that will hold the run; best one of its own, for there it takes the place of a training of the
            same config.
        n_head: attention heads.
        p: modulus, by default the number of embedding rows less 18.
        n_tasks: pre-training tasks; this and the next two by default those of the public checkpoint of that depth.
        alpha: fraction of the pairs used in training.
        batch_size: sequences a step.
        eval_sequences: evaluation sequences of each set.
        seed: of our split of tasks and inputs; the authors' own is not in the file.
    """
    fields = {"n_tasks": n_tasks, "alpha": alpha, "batch_size": batch_size, "eval_sequences": eval_sequences}
    given = {name: value for name, value in fields.items() if value is not None}
    run = import_authors(file, root, n_head, p, seed=seed, **given)
    print(f"imported: {run.path}")


@app.command(name="bench")
def bench_command(
    rows: tyro.conf.Positional[tuple[str, ...]] = (), out: Place = Path("bench.json"), repetitions: int = 7
) -> None:
    """Time each shortcut against the plain computation, and two processes against one: some ten minutes in all.

    Args:
        rows: parts of the names of the rows that are wanted, such as "training step"; by default all.
        out: where the figures go as JSON, with the versions they hold for.
        repetitions: timed pairs of each row; medians are reported.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions={repetitions} is not allowed; choose 1 or more.")
    measured = bench.bench(repetitions, rows)
    print(bench.table(measured))
    write_atomically(out, json.dumps({"rows": measured, "environment": environment()}, indent=1))


@app.command(name="export")
def export_command(
    names: tyro.conf.Positional[tuple[str, ...]],
    to: Place,
    root: Place = Path("runs"),
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
    if not weights and steps:
        raise ValueError(
            "--steps names checkpoints to take along, --weights False takes none; leave one of them out."
        )
    if weights and steps == ():
        raise ValueError("--steps names checkpoints to take along; to take none say --weights False.")
    steps = steps if weights else ()
    if not names:
        raise ValueError("export needs the name of a run; `python -m modgrok runs` lists them.")
    found = [find_run(name, root) for name in dict.fromkeys(names)]
    for run in found:
        check_export(run, to, steps)  # all of them, before the first is written
    for run in found:
        print(f"exported: {export(run, to, steps).path}")


@app.command(name="runs")
def runs_command(roots: tyro.conf.Positional[tuple[str, ...]] = ("runs",)) -> None:
    """List the runs under some folders: steps done, minutes, and last-shot accuracy on the four sets.

    Args:
        roots: folders that hold runs, at any depth.
    """
    print(f"{'step':>15} {'minutes':>8} " + " ".join(f"{name:>10}" for name in SETS) + "  run")
    damaged = 0
    for path in existing_runs(*map(place, roots)):
        try:
            print(f"{table_row(Run(path))}  {path}")
        except ValueError as error:  # the others are listed all the same
            print(error)
            damaged += 1
    if damaged:
        sys.exit(f"modgrok: {damaged} run(s) cannot be read.")


@app.command(name="verify")
def verify_command(
    names: tyro.conf.Positional[tuple[str, ...]] = (), root: Place = Path("runs"), checkpoints: int = 2
) -> None:
    """Check finished runs: files against the manifest, tables against each other, weights against the metrics.

    Args:
        names: names of runs, by default all under root.
        root: folder that holds runs, at any depth.
        checkpoints: how many of each run are scored anew, which takes seconds each; 0 for none.
    """
    if checkpoints < 0:
        raise ValueError(f"checkpoints={checkpoints} is not allowed; choose 0 or more.")
    paths = [find_run(name, root).path for name in names] or existing_runs(root)
    wrong, scored = 0, f", {checkpoints} checkpoints of each scored anew" * (checkpoints > 0)
    print(
        f"{len(paths)} run{'s' * (len(paths) != 1)}{scored}: seconds each, minutes where p is 29.", flush=True
    )
    with engine.one_thread(), tqdm(paths, desc="verify", unit="run") as bar:
        for path in bar:
            try:
                bar.write(f"{path}: {verify(Run(path), checkpoints)}")
            except ValueError as error:
                bar.write(f"WRONG: {error}")
                wrong += 1
    if wrong:
        sys.exit(f"modgrok: {wrong} of {len(paths)} runs are not what they claim to be.")


def existing_runs(*roots: Path) -> list[Path]:
    """The folders of all runs under roots that are there and hold some."""
    for root in roots:
        if not root.is_dir():
            raise ValueError(f"{root} is no folder; name one that holds runs.")
    if not (paths := run_folders(*roots)):
        raise ValueError(f"{' and '.join(map(str, roots))} hold no run; name a folder that does.")
    return paths


def table_row(run: Run) -> str:
    if not run.finished and not (run.path / "metrics.csv").exists():
        return "not evaluated yet".ljust(68)
    last = {name: values[-1] for name, values in run.metrics.items()}
    minutes = f"{run.provenance['seconds'] / 60:.1f}" if run.finished else "…"
    accuracies = " ".join(f"{last[f'{name}_acc']:10.2f}" for name in SETS)
    return f"{last['step']:7d}/{run.config.steps:<7d} {minutes:>8} {accuracies}"


def check_launcher() -> None:
    """Refuse what `accelerate launch --multi_gpu` starts where there is no GPU: it would train on the CPU in silence.

    Raises:
        ValueError: the launcher was told to use GPUs, none is here, and nobody said that none is wanted.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "False") != "False"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    if launched and not on_cpu and not hidden and not torch.cuda.is_available():
        raise ValueError(
            "accelerate launch was asked for several GPUs, and this machine has none; start processes on the CPU by "
            "`torchrun --nproc_per_node 2 -m modgrok train …`, or set CUDA_VISIBLE_DEVICES to nothing."
        )


def main() -> None:
    """Run a command; every expected failure is one sentence and an exit status."""
    try:
        app.cli(prog="modgrok", config=(tyro.conf.CascadeSubcommandArgs, tyro.conf.FlagConversionOff))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (ValueError, FloatingPointError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"modgrok: {error}")
    except KeyboardInterrupt as stop:
        print(f"modgrok: {stop or 'interrupted'}", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if "SIGTERM" in str(stop) else signal.SIGINT))


if __name__ == "__main__":
    main()
