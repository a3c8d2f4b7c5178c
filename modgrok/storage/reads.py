"""Which runs this process has read: the book's build asks for them, to know when a chapter is out of date."""

from pathlib import Path

folders: set[Path] = set()
"""Absolute paths of the run folders that this process opened; a path with a part "**" is a pattern that it searched."""


def note(folder: Path) -> None:
    """Add a run's folder, or a pattern such as `ROOT/**/NAME`, to `folders`."""
    folders.add(folder.absolute())
