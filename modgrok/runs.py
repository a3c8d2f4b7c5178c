"""A run on disk: config, metrics, weights and provenance; found by name or config, written atomically.

root/NAME/config.json                what was trained
          metrics.csv                a row an evaluation
          scores.safetensors         right answers by kind of query and shot, divergences, at each evaluation
          checkpoints/step-*.safetensors   weights along the way
          resume.safetensors         everything needed to go on; gone once the run is finished
          provenance.json            versions, device, time; written last, so its presence means finished
"""

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from modgrok.config import SETS, Config
from modgrok.model import Transformer


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
            self.config = Config.from_dict(json.loads(file.read_text()))
        except FileNotFoundError:
            raise ValueError(f"{self.path} is not a run: it holds no config.json.") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is damaged or from another version ({error}); restore it.") from None
        if self.config.name != self.path.name:
            raise ValueError(
                f"{file} was edited or belongs elsewhere: it describes the run {self.config.name}."
            )

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def finished(self) -> bool:
        return (self.path / "provenance.json").exists()

    @property
    def provenance(self) -> dict:
        """Versions, commit, device, processes and wall time (seconds); empty until the run is finished."""
        return json.loads((self.path / "provenance.json").read_text()) if self.finished else {}

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """Name → values at each evaluation: step, lr, train_loss, and for each of the four sets {set}_loss,
        {set}_acc and {set}_novel.

        Losses are cross-entropies in nats over all z; accuracies are those of the last z, novel those of the last z
        where the query repeats no example; nan where there is none.

        Raises:
            ValueError: the table is missing or damaged.
        """
        file = self.path / "metrics.csv"
        try:
            header, *rows = csv.reader(file.read_text().splitlines())
            columns = dict(zip(header, np.array(rows, dtype=float).T, strict=True))
            return columns | {"step": columns["step"].astype(int)}
        except FileNotFoundError:
            raise ValueError(f"{file} is missing; restore it or train the run again.") from None
        except (ValueError, KeyError) as error:
            raise ValueError(f"{file} is damaged ({error}); restore it or train the run again.") from None

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """What `scores.safetensors` holds; see `right`, `asked` and `divergence`.

        Raises:
            ValueError: the file is missing or damaged.
        """
        tensors = load_tensors(self.path / "scores.safetensors", self.name)
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
        """The steps whose weights were kept."""
        return sorted(
            int(file.stem.split("-")[1]) for file in (self.path / "checkpoints").glob("step-*.safetensors")
        )

    def model(self, step: int | None = None, device: str = "cpu") -> Transformer:
        """The model at a checkpoint, by default the last.

        Raises:
            ValueError: no weights of that step are kept, or the file is not a whole checkpoint of this run.
        """
        if not self.steps:
            raise ValueError(f"{self.name} keeps no weights; retrain it with `train`.")
        step = self.steps[-1] if step is None else step
        if step not in self.steps:
            raise ValueError(f"step={step} is not a checkpoint of {self.name}; choose one of {self.steps}.")
        tensors = load_tensors(self.checkpoint_file(step), self.name)
        model = Transformer(self.config)
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return model.to(device).eval()

    def checkpoint_file(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:07d}.safetensors"

    def export(self, root: str | Path, steps: Iterable[int] | None = None) -> "Run":
        """Copy a finished run to another root, weights in half precision, for shipping.

        Args:
            root: the folder that will hold the copy.
            steps: the checkpoints to take along, by default all.

        Raises:
            ValueError: the run is not finished, or one of its files is damaged.
        """
        if not self.finished:
            raise ValueError(f"{self.name} is not finished; train it to its end before exporting it.")
        copy = Path(root) / self.name
        for name in ("config.json", "metrics.csv", "scores.safetensors"):
            write_atomically(copy / name, (self.path / name).read_bytes())
        for step in self.steps if steps is None else steps:
            tensors = load_tensors(self.checkpoint_file(step), self.name)
            halves = {name: tensor.half() for name, tensor in tensors.items()}
            save_tensors(copy / "checkpoints" / self.checkpoint_file(step).name, halves, self.name)
        write_atomically(copy / "provenance.json", (self.path / "provenance.json").read_bytes())
        return Run(copy)


def run_folders(*roots: str | Path) -> list[Path]:
    """The folder of every run under the roots, also in their subfolders, sorted within each root."""
    return [file.parent for root in roots for file in sorted(Path(root).rglob("config.json"))]


def find_run(key: str | Config, *roots: str | Path) -> Run:
    """The run of that name or config in the first root that has it finished, at any depth.

    Raises:
        FileNotFoundError: no root has it; the message says how to train it.
    """
    name = key if isinstance(key, str) else key.name
    for root in roots:
        for folder in [Path(root) / name, *sorted(Path(root).rglob(name))]:
            if (folder / "provenance.json").exists():
                return Run(folder)
    places = " or ".join(str(root) for root in roots)
    raise FileNotFoundError(f"no finished run {name} in {places}; train it first, or name another root.")


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


def load_tensors(path: Path, run_name: str) -> dict[str, Tensor]:
    """Read tensors that `save_tensors` wrote for that run; see `load_state`."""
    return load_state(path, run_name)[0]


def load_state(path: Path, run_name: str) -> tuple[dict[str, Tensor], dict]:
    """Read tensors and notes that `save_tensors` wrote for that run.

    Raises:
        ValueError: the file is missing, truncated or edited, or belongs to another run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; restore it or train the run again.") from None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and train again to rebuild it.") from None
    if metadata.get("run") != run_name:
        raise ValueError(f"{path} belongs to the run {metadata.get('run', 'of some other program')}.")
    notes = json.loads(metadata.get("notes", "{}"))
    if metadata.get("sha256") != checksum(tensors, notes):
        raise ValueError(f"{path} was changed after it was saved; remove it and train again to rebuild it.")
    return tensors, notes


def checksum(tensors: dict[str, Tensor], notes: dict) -> str:
    digest = hashlib.sha256()
    for name in sorted(notes):
        digest.update(f"{name}={notes[name]}".encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
