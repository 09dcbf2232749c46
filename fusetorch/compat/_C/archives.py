"""``torch._C.PyTorchFileReader``: the records of a file that ``torch.save`` wrote, by name."""
from __future__ import annotations

import zipfile
from typing import Any

__all__ = ["PyTorchFileReader"]


class PyTorchFileReader:
    """The records of a checkpoint, such as ``"data.pkl"`` and ``"data/0"``. ``RuntimeError`` for a file that is no such archive.

    Args:
        name_or_buffer: a path or a binary file.
    """

    def __init__(self, name_or_buffer: Any) -> None:
        try:
            self._zip = zipfile.ZipFile(name_or_buffer)
        except FileNotFoundError:
            raise RuntimeError(f"open file failed, file path: {name_or_buffer}") from None
        except zipfile.BadZipFile as error:
            raise RuntimeError(f"PytorchStreamReader failed reading zip archive: {error}") from None
        self._folder = self._zip.namelist()[0].partition("/")[0]

    def get_all_records(self) -> list[str]:
        """The names of the records."""
        return [name.partition("/")[2] for name in self._zip.namelist()]

    def has_record(self, name: str) -> bool:
        """Whether there is a record of this name."""
        return name in self.get_all_records()

    def get_record(self, name: str) -> bytes:
        """The bytes of a record. Raises ``RuntimeError`` if there is none of this name."""
        if not self.has_record(name):
            raise RuntimeError(f"PytorchStreamReader failed locating file {name}: file not found")
        return self._zip.read(f"{self._folder}/{name}")

    def get_record_size(self, name: str) -> int:
        """How many bytes a record has."""
        return len(self.get_record(name))

    def serialization_id(self) -> str:
        """What identifies the contents, or an empty string."""
        name = ".data/serialization_id"
        return self.get_record(name).decode() if self.has_record(name) else ""
