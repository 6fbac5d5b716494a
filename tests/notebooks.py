"""Running the notebooks, for their tests; ``python -m tests.notebooks`` runs all of them and stores what they print."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "analysis" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""Without the version of Python, which says nothing about the notebook."""


def read(name: str) -> Any:
    """Return a notebook as it is stored."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def execute(name: str, settings: Mapping[str, str] | None = None) -> Any:
    """Run a notebook in an empty folder, and return it with what it printed; a cell that raises, raises here."""
    from nbclient import NotebookClient

    notebook = read(name)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VIMI_")}
    environment = {**kept, **threads, "PYTHONPATH": str(ROOT), **(settings or {})}
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            store_widget_state=False,
        )
        client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran, to the microsecond
    notebook.metadata = METADATA
    return notebook


def printed(notebook: Any) -> list[str]:
    """Return all text that a notebook printed, figures left out."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" not in data:
                texts.append(data.get("text/markdown") or data.get("text/plain") or output.get("text", ""))
    return texts


def complaints(notebook: Any) -> list[str]:
    """Return warnings, and whatever else a notebook wrote to its stream of errors."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output["text"] for output in outputs if output.get("name") == "stderr"]


if __name__ == "__main__":
    for chosen in sys.argv[1:] or NAMES:
        done = execute(chosen)
        assert not complaints(done), complaints(done)
        nbformat.write(done, FOLDER / f"{chosen}.ipynb")
        print(f"stored {chosen}")
