"""A run on disk: config, metrics, weights, provenance; found by name or config, written whole, checked when read. ::

    root/NAME/config.json                what was trained
              metrics.csv                a row an evaluation
              scores.safetensors         right answers by kind of query and shot, divergences, at each evaluation
              checkpoints/step-*.safetensors   weights along the way
              resume.safetensors         everything needed to go on; gone once the run is finished
              manifest.json              digests of all that a finished run holds, steps and dtypes of its checkpoints
              provenance.json            versions, device, time; written last, so its presence means finished

A run folder may come from anywhere: nothing in it is executed, its files are bounded in size and type, and its texts
go through `escaped` where they become Markdown or HTML.
"""

import csv
import hashlib
import html
import io
import json
import math
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from modgrok.config import SETS, Config
from modgrok.model import Transformer

COLUMNS = (
    "step",
    "lr",
    "train_loss",
    *(f"{name}_{what}" for name in SETS for what in ("loss", "acc", "novel")),
)
"""The columns of metrics.csv, in order."""

LONGEST_TEXT = 500
"""Characters that a text in a provenance may have."""

LARGEST_TABLE = 2**26
"""Bytes that a JSON or CSV file of a run may have."""


class Run:
    """A run folder, finished or not.

    Attributes:
        path: the folder.
        config: its Config.

    Raises:
        ValueError: the config file is missing, unreadable, or not the one the folder is named after.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        file = self.path / "config.json"
        try:
            self.config = Config.from_dict(json.loads(read_bytes(file, LONGEST_TEXT * 100)))
        except FileNotFoundError:
            raise ValueError(f"{self.path} is not a run: it holds no config.json.") from None
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            cause = str(error).rstrip(".")
            raise ValueError(f"{file} is damaged or from another version ({cause}); restore it.") from None
        if self.config.name != self.path.name:
            raise ValueError(
                f"{file} was edited or belongs elsewhere: it describes the run {self.config.name}."
            )
        if log := os.environ.get("MODGROK_READS"):  # the book's build asks which runs a chapter reads
            with open(log, "a") as file:
                file.write(f"{self.path.absolute()}\n")

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def finished(self) -> bool:
        return (self.path / "provenance.json").is_file()

    @cached_property
    def manifest(self) -> dict[str, dict] | None:
        """File → its sha256, of a checkpoint also step and dtype; None without one, as before the run is finished.

        Raises:
            ValueError: the manifest is damaged.
        """
        file = self.path / "manifest.json"
        try:
            manifest = json.loads(read_bytes(file))
            if all(isinstance(entry["sha256"], str) for entry in manifest.values()):
                return manifest
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
        raise ValueError(f"{file} is damaged; {self.repair}.")

    @property
    def repair(self) -> str:
        """What helps when a file of this run is missing or damaged."""
        if self.finished:
            return f"restore it, or remove the folder {self.path} and train the run again from the start"
        return f"restore it, or remove {self.path / 'resume.safetensors'} to train from the start"

    def checked(self, name: str) -> bytes:
        """A file's content, which must be what the manifest says of it, if there is one.

        Raises:
            ValueError: the file is missing, no ordinary file, or not the one that the run was finished with.
        """
        file = self.path / name
        try:
            content = read_bytes(file, math.inf if name.endswith(".safetensors") else LARGEST_TABLE)
        except FileNotFoundError:
            raise ValueError(f"{file} is missing; {self.repair}.") from None
        except ValueError as error:
            raise ValueError(f"{error}; {self.repair}.") from None
        if self.finished and self.manifest is not None:
            entry = self.manifest.get(name, {})
            if entry.get("sha256") != hashlib.sha256(content).hexdigest():
                raise ValueError(f"{file} is not what the run was finished with; {self.repair}.")
        return content

    def check(self) -> None:
        """Compare every file of a finished run with its manifest, or, without one, see that all are there.

        Raises:
            ValueError: the first file that is missing, damaged or not the one that the run was finished with.
        """
        checkpoints = {str(self.checkpoint_file(step).relative_to(self.path)) for step in self.steps}
        names = {"config.json", "metrics.csv", "scores.safetensors", "provenance.json"}
        for name in sorted(names | checkpoints | (self.manifest or {}).keys()):
            self.checked(name)
        _ = self.metrics, self.provenance, self.scores
        if self.manifest is None and self.config.steps not in self.steps:
            raise ValueError(f"{self.checkpoint_file(self.config.steps)} is missing; {self.repair}.")

    def finish(self, provenance: bytes) -> None:
        """Write the manifest of all that is there and then, which makes the run a finished one, the provenance."""
        files = {name: self.path / name for name in ("config.json", "metrics.csv", "scores.safetensors")}
        manifest = {
            name: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()} for name, file in files.items()
        }
        manifest["provenance.json"] = {"sha256": hashlib.sha256(provenance).hexdigest()}
        for step in self._steps_there():
            file = self.checkpoint_file(step)
            tensors = load_tensors(file, self.name)
            manifest[f"checkpoints/{file.name}"] = {
                "step": step,
                "dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch."),
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=1))
        write_atomically(self.path / "provenance.json", provenance)

    @property
    def provenance(self) -> dict:
        """Versions, commit, device, processes and wall time (seconds); empty until the run is finished.

        Raises:
            ValueError: the file is damaged, or a value is none of the type and length that belong there.
        """
        if not self.finished:
            return {}
        file = self.path / "provenance.json"
        try:
            provenance = json.loads(self.checked("provenance.json"))
        except RecursionError:
            provenance = None
        except ValueError as error:
            if not isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
                raise
            provenance = None
        if not isinstance(provenance, dict) or len(provenance) > 100:
            raise ValueError(f"{file} is damaged; {self.repair}.")
        allowed = {"seconds": _is_duration, "threads": _is_count, "processes": _are_counts}
        for name in (*allowed, *provenance):
            if not allowed.get(name, _is_brief)(provenance.get(name)):
                value = repr(provenance.get(name))[:60]
                raise ValueError(f"{file} is damaged (it says {name[:60]}={value}); {self.repair}.")
        return provenance

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """Name → values at each evaluation: step, lr, train_loss, and for each of the four sets {set}_loss,
        {set}_acc and {set}_novel.

        Losses are cross-entropies in nats over all z; accuracies are those of the last z, novel those of the last z
        where the query repeats no example; nan where there is none.

        Raises:
            ValueError: the table is missing or damaged, or lacks an evaluation.
        """
        text, file = self.checked("metrics.csv"), self.path / "metrics.csv"
        try:
            header, *rows = csv.reader(text.decode().splitlines())
            columns = dict(zip(header, np.array(rows, dtype=float).T, strict=True))
            if header != list(COLUMNS):
                raise ValueError("its columns are not those of an evaluation")
            steps = columns["step"]
            expected = np.minimum(np.arange(len(steps)) * self.config.eval_every, self.config.steps)
            imported = [self.config.steps]  # weights that were made elsewhere are scored once
            if not (
                (np.array_equal(steps, expected) and (np.diff(steps) > 0).all()) or list(steps) == imported
            ):
                raise ValueError("an evaluation is missing or out of order")
            if self.finished and steps[-1] != self.config.steps:
                raise ValueError("its last evaluations are missing")
            return columns | {"step": steps.astype(int)}
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{file} is damaged ({error}); {self.repair}.") from None

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """What `scores.safetensors` holds; see `right`, `asked` and `divergence`.

        Raises:
            ValueError: the file is missing or damaged.
        """
        tensors = self.tensors("scores.safetensors")
        if tensors.keys() != {f"{name}.{what}" for name in SETS for what in ("right", "asked", "divergence")}:
            raise ValueError(f"{self.path / 'scores.safetensors'} is damaged; {self.repair}.")
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    @property
    def right(self) -> dict[str, np.ndarray]:
        """Set → right answers, (evaluations, kinds, n_examples) integers: by `evaluate.KINDS` and shots."""
        return {name: self.scores[f"{name}.right"] for name in SETS}

    @property
    def asked(self) -> dict[str, np.ndarray]:
        """Set → number of queries, (kinds, n_examples) integers; the same sequences at every evaluation."""
        return {name: self.scores[f"{name}.asked"] for name in SETS}

    @property
    def divergence(self) -> dict[str, np.ndarray]:
        """Set → mean KL(reference ‖ model) in nats, (evaluations, references, n_examples), of `REFERENCES`."""
        return {name: self.scores[f"{name}.divergence"] for name in SETS}

    @property
    def shots(self) -> dict[str, np.ndarray]:
        """Set → accuracy by shot, (evaluations, n_examples), rows as in `metrics`."""
        with np.errstate(invalid="ignore"):  # a set without tasks
            return {name: self.right[name].sum(1) / self.asked[name].sum(0) for name in SETS}

    @property
    def steps(self) -> list[int]:
        """The steps whose weights are kept: those that the manifest lists, and without one those that are there."""
        if not self.finished or self.manifest is None:
            return self._steps_there()
        return sorted(int(name[17:-12]) for name in self.manifest if name.startswith("checkpoints/step-"))

    def _steps_there(self) -> list[int]:
        names = (file.stem.removeprefix("step-") for file in self.path.glob("checkpoints/step-*.safetensors"))
        return sorted(int(name) for name in names if re.fullmatch("[0-9]{7,12}", name))

    def model(self, step: int | None = None, device: str = "cpu") -> Transformer:
        """The model at a checkpoint, by default the last that the run keeps.

        Raises:
            ValueError: no weights of that step are kept, or the file is missing or not a whole checkpoint of this run.
        """
        if not self.steps:
            raise ValueError(f"{self.name} keeps no weights; {self.repair}.")
        if step is None:
            whole = self.finished and self.manifest is None  # then all must be there, the last above all
            step = self.config.steps if whole else self.steps[-1]
        elif step not in self.steps:
            raise ValueError(f"step={step} is not a checkpoint of {self.name}; choose one of {self.steps}.")
        tensors = self.tensors(f"checkpoints/{self.checkpoint_file(step).name}")
        model = Transformer(self.config)
        try:
            model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError:  # the message is a list of names and shapes
            file = self.checkpoint_file(step)
            raise ValueError(f"{file} holds no weights of this model; {self.repair}.") from None
        return model.to(device).eval()

    def checkpoint_file(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:07d}.safetensors"

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one of its files, checked."""
        self.checked(name)
        return load_tensors(self.path / name, self.name, self.repair)

    def export(self, root: str | Path, steps: Iterable[int] | None = None) -> "Run":
        """Copy a finished run to another root, weights in half precision, with a manifest, for shipping.

        Args:
            root: the folder that will hold the copy.
            steps: the checkpoints to take along, by default all.

        Raises:
            ValueError: the run is not finished, keeps no such checkpoint, or one of its files is damaged; nothing is
                written then.
        """
        steps, copy = self.check_export(root, steps), Path(root) / self.name
        for name in ("config.json", "metrics.csv", "scores.safetensors"):
            write_atomically(copy / name, self.checked(name))
        for step in steps:
            name = f"checkpoints/{self.checkpoint_file(step).name}"
            halves = {key: tensor.half() for key, tensor in self.tensors(name).items()}
            save_tensors(copy / name, halves, self.name)
        Run(copy).finish(self.checked("provenance.json"))
        return Run(copy)

    def check_export(self, root: str | Path, steps: Iterable[int] | None = None) -> list[int]:
        """The steps that an export would take along, if it can be done; see `export`."""
        if not self.finished:
            raise ValueError(f"{self.name} is not finished; train it to its end before exporting it.")
        copy, steps = Path(root) / self.name, self.steps if steps is None else sorted(set(steps))
        if copy.exists():
            raise ValueError(f"{copy} is there already; remove it or export to another folder.")
        if not steps or not set(steps) <= set(self.steps):
            raise ValueError(f"steps={steps} are not checkpoints of {self.name}; choose among {self.steps}.")
        self.check()
        for step in steps:
            self.tensors(f"checkpoints/{self.checkpoint_file(step).name}")
        return steps


def escaped(text: object) -> str:
    """A text from a run folder as Markdown and HTML that show it and do nothing else."""
    return html.escape(re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", " ".join(str(text).split())))


def _is_duration(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < 1e12


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**6


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) < 10**5 and all(map(_is_count, value))


def _is_brief(value: object) -> bool:
    """Nothing, a flag, a bounded number, or printable text (or a list of such) of bounded length."""
    if isinstance(value, list):
        return len(value) <= 1000 and all(isinstance(text, str) and _is_brief(text) for text in value)
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT and value.isprintable()
    return value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < 1e15)


_listings: dict[Path, tuple[int, list[str], list[str]]] = {}
"""Folder that is no run → when it changed, the runs in it, its other folders."""


def run_folders(*roots: str | Path) -> list[Path]:
    """The folder of every run under the roots, also in their subfolders, sorted within each root."""
    return [folder for root in roots for folder in _runs_under(Path(root))]


def _runs_under(folder: Path, name: str | None = None) -> Iterator[Path]:
    """Run folders, or those of a name, in order. What is in a run is not looked at, nor an unchanged folder twice."""
    if os.path.lexists(folder / "config.json"):
        if name in (None, folder.name):
            yield folder
        return
    try:
        changed = folder.stat().st_mtime_ns
        known = _listings.get(folder.absolute())
        if known is None or known[0] != changed:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
            runs = {name for name in names if os.path.lexists(folder / name / "config.json")}
            known = changed, sorted(runs), [name for name in names if name not in runs]
            if time.time_ns() - changed > 10**9:  # else the same time may stand for a later change
                _listings[folder.absolute()] = known
    except OSError:  # no such folder, or not for us to read
        return
    _, runs, others = known
    if name is not None:
        runs = [name] if name in runs else []
    for entry in sorted([*runs, *others]):
        if entry in others:
            yield from _runs_under(folder / entry, name)
        else:
            yield folder / entry


def find_run(key: str | Config, *roots: str | Path) -> Run:
    """The run of that name or config in the first root that has it finished, at any depth.

    Raises:
        ValueError: what is asked for is no name of a run or no folder, or only a run of another config has the name.
        FileNotFoundError: no root has it; the message says how to train it.
    """
    name = key if isinstance(key, str) else key.name
    if not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*", name):
        raise ValueError(
            f"run={name[:200]!r} is not the name of a run; `python -m modgrok runs` lists the names."
        )
    other = None
    for root in roots:
        if root == "":
            raise ValueError("root='' is not allowed; name the folder that holds runs.")
        for folder in [Path(root) / name, *_runs_under(Path(root), name)]:
            if (folder / "provenance.json").is_file():
                run = Run(folder)
                if isinstance(key, str) or same_result(key, run.config):
                    return run
                other = run
    if other:
        raise ValueError(collision(key, other))
    places = " or ".join(str(root) for root in roots)
    raise FileNotFoundError(f"no finished run {name} in {places}; train it first, or name another root.")


def same_result(one: Config, other: Config) -> bool:
    """Whether two configs train the same weights; names are equal then, and, for a digest is short, not only then."""
    return one.result_fields() == other.result_fields()


def collision(config: Config, run: Run) -> str:
    """What to do about a run whose name is that of a config that it is not of."""
    ours, theirs = config.to_dict(), run.config.to_dict()
    fields = ", ".join(f"{name}={theirs[name]!r}" for name in ours if ours[name] != theirs[name])
    return (
        f"{run.path} has the name of the run asked for, but is of another config ({fields}): two configs of one name; "
        "choose another root, or another seed."
    )


def read_bytes(path: Path, most: float = LARGEST_TABLE) -> bytes:
    """The content of an ordinary file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is a folder, a pipe or a device, larger than `most` bytes, or not to be read.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise ValueError(f"{path} is damaged (it is no ordinary file)")
        if state.st_size > most:
            raise ValueError(f"{path} is damaged (it has {state.st_size} bytes)")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash at any moment leaves the old content or the new, whole.

    Raises:
        OSError: the disk is full or not writable; the old content is untouched.
    """
    content = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            os.unlink(temporary)
        raise OSError(
            error.errno,
            f"could not write {path} ({error.strerror}); what was saved before is whole: "
            "make room and start the same command again to continue",
        ) from None


def write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    """A table whose numbers read back exactly."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def save_tensors(path: Path, tensors: dict[str, Tensor], run_name: str, notes: dict | None = None) -> None:
    """Write tensors as safetensors, with the run's name, JSON-ready notes and a checksum in the header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    notes = json.loads(json.dumps(notes or {}))  # as they will be read back
    metadata = {"run": run_name, "sha256": checksum(tensors, notes), "notes": json.dumps(notes)}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load_tensors(path: Path, run_name: str, repair: str | None = None) -> dict[str, Tensor]:
    """Read tensors that `save_tensors` wrote for that run; see `load_state`."""
    return load_state(path, run_name, repair)[0]


def load_state(path: Path, run_name: str, repair: str | None = None) -> tuple[dict[str, Tensor], dict]:
    """Read tensors and notes that `save_tensors` wrote for that run.

    Args:
        repair: what the message advises.

    Raises:
        ValueError: the file is missing, truncated or edited, or belongs to another run.
    """
    repair = repair or "restore it, or remove it to train the run from the start"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("it is no ordinary file")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        notes = json.loads(metadata.get("notes", "{}"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; {repair}.") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {repair}.") from None
    if metadata.get("run") != run_name:
        owner = str(metadata.get("run", "of some other program"))[:200]
        raise ValueError(f"{path} belongs to the run {owner}; {repair}.")
    if not isinstance(notes, dict) or metadata.get("sha256") != checksum(tensors, notes):
        raise ValueError(f"{path} was changed after it was saved; {repair}.")
    return tensors, notes


def checksum(tensors: dict[str, Tensor], notes: dict) -> str:
    """The sha256, in hexadecimal, of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(notes):
        digest.update(f"{name}={notes[name]}".encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
