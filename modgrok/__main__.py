"""The command line: `python -m modgrok --help`."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

from modgrok import bench, runs
from modgrok.authors import import_authors
from modgrok.config import PRESETS, SETS, preset
from modgrok.session import environment
from modgrok.sweep import SWEEPS, Sweep, grid, parse_values, sweep
from modgrok.train import train

try:
    import tyro
except ModuleNotFoundError:
    sys.exit('The command line needs tyro; install it with: pip install "modgrok[cli]"')

Presets = tyro.extras.subcommand_type_from_defaults(
    {name: preset(name) for name in PRESETS},
    descriptions={
        "smoke": "Seconds; to see that everything works.",
        "laptop": "Minutes on a CPU core; shows the phenomena.",
        "desk": "A quarter of an hour or more at p = 11.",
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
    root: Path = Path("runs"),
    accumulate: int = 1,
    log_with: str | None = None,
) -> None:
    """Train a run, or continue it, or find it finished. Processes: see `torchrun` or `accelerate launch`.

    Args:
        config: the preset to start from.
        root: folder that holds runs.
        accumulate: micro-batches a step is split into, to save memory.
        log_with: a tracker besides the run's own files: tensorboard or wandb.
    """
    run = train(config, root, accumulate, log_with)
    if os.environ.get("RANK", "0") == "0":
        print(f"finished: {run.path}")


@app.command(name="sweep")
def sweep_command(
    name: tyro.conf.Positional[str],
    vary: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    seeds: str | None = None,
    root: Path = Path("runs"),
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
    values = chosen.vary | dict(parse_values(text) for text in vary)
    configs = grid(chosen.preset, values, parse_values(f"seed={seeds}")[1] if seeds else chosen.seeds)
    options = dict(text.split("=", 1) if "=" in text else (text, True) for text in slurm)
    results = sweep(configs, root, jobs, cluster, gpus, partition, minutes, options)
    if failed := [result for result in results if result.error]:
        sys.exit(
            f"modgrok: {len(failed)} of {len(results)} points failed; the same command tries them again."
        )


@app.command(name="import-authors")
def import_authors_command(
    file: tyro.conf.Positional[Path],
    root: Path = Path("runs"),
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
        root: folder that will hold the run.
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
def bench_command(out: Path = Path("bench.json"), repetitions: int = 7) -> None:
    """Time each shortcut against the plain computation, and two processes against one.

    Args:
        out: where the figures go as JSON, with the versions they hold for.
        repetitions: timed pairs of each row; medians are reported.
    """
    rows = bench.bench(repetitions)
    print(bench.table(rows))
    runs.write_atomically(out, json.dumps({"rows": rows, "environment": environment()}, indent=1))


@app.command(name="export")
def export_command(
    names: tyro.conf.Positional[tuple[str, ...]],
    to: Path,
    root: Path = Path("runs"),
    steps: tuple[int, ...] | None = None,
) -> None:
    """Copy finished runs to another folder, weights in half precision, to ship them.

    Args:
        names: names of runs.
        to: folder that will hold the copies.
        root: folder that holds the runs.
        steps: checkpoints to take along, by default all.
    """
    for name in names:
        print(f"exported: {runs.find_run(name, root).export(to, steps).path}")


@app.command(name="runs")
def runs_command(roots: tyro.conf.Positional[tuple[Path, ...]] = (Path("runs"),)) -> None:
    """List the runs under some folders: steps done, minutes, and last-shot accuracy on the four sets.

    Args:
        roots: folders that hold runs, at any depth.
    """
    print(f"{'step':>15} {'minutes':>8} " + " ".join(f"{name:>10}" for name in SETS) + "  run")
    for path in runs.run_folders(*roots):
        try:
            print(f"{table_row(runs.Run(path))}  {path}")
        except ValueError as error:  # damaged; the others are listed all the same
            print(error)


def table_row(run: runs.Run) -> str:
    if not (run.path / "metrics.csv").exists():
        return "not evaluated yet".ljust(68)
    last = {name: values[-1] for name, values in run.metrics.items()}
    minutes = f"{run.provenance['seconds'] / 60:.1f}" if run.finished else "…"
    accuracies = " ".join(f"{last[f'{name}_acc']:10.2f}" for name in SETS)
    return f"{last['step']:7d}/{run.config.steps:<7d} {minutes:>8} {accuracies}"


def main() -> None:
    """Run a command; every expected failure is one sentence and an exit status."""
    try:
        app.cli(prog="modgrok", config=(tyro.conf.CascadeSubcommandArgs, tyro.conf.FlagConversionOff))
    except (ValueError, FloatingPointError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"modgrok: {error}")
    except KeyboardInterrupt as stop:
        print(f"modgrok: {stop or 'interrupted'}", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if "SIGTERM" in str(stop) else signal.SIGINT))


if __name__ == "__main__":
    main()
