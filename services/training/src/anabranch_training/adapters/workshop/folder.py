"""A run's folder: the order that goes in, and what comes out. Every file is there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["REFUSED", "RunFolder"]

REFUSED: Final = 3
"""Exit code of a process whose material teaches nothing: `problem` says why, and trying again does not help."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Names of what is in it."""

    path: Path

    @property
    def judgments(self) -> Path:
        """One JSON object a line: what a data set is made of."""
        return self.path / "judgments.jsonl"

    @property
    def opinions(self) -> Path:
        """As above, for a data set of words."""
        return self.path / "opinions.jsonl"

    @property
    def dataset(self) -> Path:
        """The files of the data set."""
        return self.path / "dataset"

    @property
    def model(self) -> Path:
        """The files of the model."""
        return self.path / "model"

    @property
    def log(self) -> Path:
        """What the process said."""
        return self.path / "log.txt"

    def read(self, name: str) -> dict[str, Any] | None:
        """Returns a JSON file: `order`, `progress`, `dataset`, `model` or `problem`; None when it is not there."""
        try:
            found: dict[str, Any] = json.loads((self.path / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file."""
        self.write_lines(self.path / f"{name}.json", [json.dumps(content, sort_keys=True)])

    def write_lines(self, path: Path, lines: Iterable[str]) -> None:
        """Writes a file of lines."""
        draft = path.with_name(f".{path.name}.draft")
        with draft.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def fresh(self, folder: Path) -> Path:
        """Returns an empty folder to fill; `place` gives it its name."""
        draft = folder.with_name(f".{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        return draft

    def place(self, draft: Path, folder: Path) -> None:
        """Puts a filled folder in its place."""
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
