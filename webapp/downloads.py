"""Files that the experimenter's page offers, kept where every process of a server finds them.

Streamlit keeps such a file in the memory of the process that drew the page. The browser asks for it by a connection of
its own, which another process may answer.
"""

from __future__ import annotations

import json
from pathlib import Path

from streamlit.runtime import memory_media_file_storage
from streamlit.runtime.media_file_storage import MediaFileKind, MediaFileStorageError
from streamlit.runtime.memory_media_file_storage import MemoryFile, MemoryMediaFileStorage

from benchmark.storage import write_atomically


class SharedDownloads(MemoryMediaFileStorage):  # type: ignore[misc]
    """Files in a private folder that all processes of a server share, deleted when the server ends.

    Attributes
    ----------
    folder
        The folder.
    """

    folder: Path

    def load_and_get_id(
        self, path_or_data: str | bytes, mimetype: str, kind: MediaFileKind, filename: str | None = None
    ) -> str:
        """Add a file; returns its name here."""
        name: str = super().load_and_get_id(path_or_data, mimetype, kind, filename)
        held = self._files_by_id[name]
        place = self._place(name)
        if not place.exists():
            head = json.dumps([held.mimetype, held.kind.value, held.filename]).encode()

            def write(path: Path) -> None:
                path.write_bytes(head + b"\n" + held.content)

            write_atomically(place, write, durable=False, mode=0o600)
        return name

    def get_file(self, filename: str) -> MemoryFile:
        """Return a file, whichever process has added it.

        Raises
        ------
        MediaFileStorageError
            If none has.
        """
        name = Path(filename).stem
        if name in self._files_by_id:
            return self._files_by_id[name]
        try:
            head, _, content = self._place(name).read_bytes().partition(b"\n")
        except OSError as error:
            raise MediaFileStorageError(f"The file {filename!r} no longer exists.") from error
        mimetype, kind, called = json.loads(head)
        return MemoryFile(content, mimetype, MediaFileKind(kind), called)

    def delete_file(self, file_id: str) -> None:
        """Delete a file that no page offers any more."""
        super().delete_file(file_id)
        self._place(file_id).unlink(missing_ok=True)

    def _place(self, name: str) -> Path:
        if not name.isalnum():
            raise MediaFileStorageError(f"{name!r} is not the name of a file.")
        return self.folder / name


def share_downloads(folder: Path) -> None:
    """Let Streamlit keep what its pages offer in a folder that other processes read."""
    SharedDownloads.folder = folder
    memory_media_file_storage.MemoryMediaFileStorage = SharedDownloads
