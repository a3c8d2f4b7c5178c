"""A run on disk: config, metrics, weights, provenance; checked when read. ::

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
import json
import math
import os
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from modgrok.config import SETS, Config
from modgrok.model import Transformer
from modgrok.storage.files import LARGEST_TABLE, load_tensors, read_bytes, save_tensors, write_atomically

COLUMNS = (
    "step",
    "lr",
    "train_loss",
    *(f"{name}_{what}" for name in SETS for what in ("loss", "acc", "novel")),
)
"""The columns of metrics.csv, in order."""

LONGEST_TEXT = 500
"""Characters that a text in a provenance may have."""


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
        tell_build(self.path)

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
        """What `scores.safetensors` holds; see `correct`, `queries` and `divergence`.

        Raises:
            ValueError: the file is missing or damaged.
        """
        tensors = self.tensors("scores.safetensors")
        if tensors.keys() != {f"{name}.{what}" for name in SETS for what in ("right", "asked", "divergence")}:
            raise ValueError(f"{self.path / 'scores.safetensors'} is damaged; {self.repair}.")
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    @property
    def correct(self) -> dict[str, np.ndarray]:
        """Set → right answers, (evaluations, kinds, n_examples) integers: by `evaluate.KINDS` and shots."""
        return {name: self.scores[f"{name}.right"] for name in SETS}

    @property
    def queries(self) -> dict[str, np.ndarray]:
        """Set → number of queries, (kinds, n_examples) integers; the same sequences at every evaluation."""
        return {name: self.scores[f"{name}.asked"] for name in SETS}

    @property
    def divergence(self) -> dict[str, np.ndarray]:
        """Set → mean KL(reference ‖ model) in nats, (evaluations, references, n_examples), of `REFERENCES`."""
        return {name: self.scores[f"{name}.divergence"] for name in SETS}

    @property
    def accuracy_by_shot(self) -> dict[str, np.ndarray]:
        """Set → accuracy by shot, (evaluations, n_examples), rows as in `metrics`."""
        with np.errstate(invalid="ignore"):  # a set without tasks
            return {name: self.correct[name].sum(1) / self.queries[name].sum(0) for name in SETS}

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
            shipped = self.finished and self.manifest is not None
            how = "train it under another root to have them" if shipped else self.repair
            raise ValueError(f"{self.name}{' was shipped without' * shipped or ' keeps no'} weights; {how}.")
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
            steps: the checkpoints to take along, by default all; none, (), ships what was measured without the weights.

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
        if not set(steps) <= set(self.steps):
            raise ValueError(f"steps={steps} are not checkpoints of {self.name}; choose among {self.steps}.")
        self.check()
        for step in steps:
            self.tensors(f"checkpoints/{self.checkpoint_file(step).name}")
        return steps


def tell_build(folder: Path) -> None:
    """Note for the book's build, if it asks, that a chapter reads a run's folder, or looks for one by a pattern."""
    if log := os.environ.get("MODGROK_READS"):
        with open(log, "a") as file:
            file.write(f"{folder.absolute()}\n")


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
