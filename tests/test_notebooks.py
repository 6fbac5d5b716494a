"""The notebooks: valid, readable as they are stored, and still printing what is stored. The longer two are run in
``test_notebooks_simulated.py``, so that both halves can run side by side.
"""

from __future__ import annotations

import ast
import base64
import importlib
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

import analysis
from analysis import published_models, simulate_dataset
from analysis.power import Layout, Population
from analysis.simulated_dataset import SimulatedObserver
from tests.notebooks import FOLDER, NAMES, complaints, execute, printed, read

WANTED = [
    "01_reproduce_2023",
    "02_your_study",
    "03_scaling_and_equivalence",
    "04_design_and_power",
    "05_machine_observers",
]


def code_of(notebook: Any) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_the_notebooks_are_there() -> None:
    assert NAMES == WANTED


# ---------------------------------------------------------------- as they are stored


@pytest.mark.parametrize("name", WANTED)
def test_a_notebook_is_valid_and_begins_with_its_title(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    assert words > 300, "An article needs words between its figures."


@pytest.mark.parametrize("name", WANTED)
def test_a_notebook_is_stored_as_it_was_run_from_top_to_bottom(name: str) -> None:
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert complaints(read(name)) == []
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@pytest.mark.parametrize("name", WANTED)
def test_a_notebook_is_small_and_knows_no_machine(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < 300_000
    pictures = [
        output.data["image/png"]
        for cell in read(name).cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    assert max(len(base64.b64decode(picture)) for picture in pictures) < 100_000
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
    assert not re.findall(r"/(?:home|tmp|root|work|Users|var)/|ipykernel_|0x[0-9a-f]{6}", text)


@pytest.mark.parametrize("name", WANTED)
def test_a_notebook_uses_public_names_only(name: str) -> None:
    own = {"analysis", "benchmark", "stimuli", "webapp", "tests"}
    for node in ast.walk(ast.parse(code_of(read(name)))):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & own
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in own:
            module = importlib.import_module(str(node.module))
            assert node.module == "analysis" or str(node.module).removeprefix("analysis.") in analysis.__all__
            assert {alias.name for alias in node.names} <= set(module.__all__)


@pytest.mark.parametrize("name", WANTED)
def test_every_setting_of_a_notebook_is_said_at_its_top(name: str) -> None:
    notebook = read(name)
    used = set(re.findall(r'environ\.get\("(VIMI_\w+)"', code_of(notebook)))
    assert used
    assert used <= set(re.findall(r"VIMI_\w+", notebook.cells[0].source))


# ---------------------------------------------------------------- as they are run


@pytest.mark.parametrize("name", WANTED[:3])
def test_a_notebook_prints_what_is_stored(name: str) -> None:
    done = execute(name)
    assert complaints(done) == []
    assert printed(done) == printed(read(name))


@pytest.fixture(scope="module")
def own_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of somebody's own: two models, so that nothing can be said about scale."""
    known = published_models()
    dataset = simulate_dataset(
        Layout(models=2, units=20, tasks=2, sessions=8, trials=20, catch_trials=5),
        Population(),
        models=known[known["model"].isin(["googlenet", "resnet50"])].reset_index(drop=True),
        observers=[SimulatedObserver("similarity")],
        seed=11,
    )
    return dataset.write(tmp_path_factory.mktemp("own") / "study")


@pytest.mark.parametrize("name", ["02_your_study"])
def test_a_notebook_takes_another_study(name: str, own_study: Path) -> None:
    done = execute(name, {"VIMI_STUDY": str(own_study)})
    assert complaints(done) == []
    text = "\n".join(printed(done))
    assert "googlenet" in text
    assert "wide_resnet50" not in text
