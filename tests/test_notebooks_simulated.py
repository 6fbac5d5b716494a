"""The notebooks on simulated studies still print what is stored, and the first one takes the release of 2023."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.imported import imi_table, write_imi
from tests.notebooks import complaints, execute, printed, read


@pytest.mark.parametrize("name", ["04_design_and_power", "05_machine_observers"])
def test_a_notebook_prints_what_is_stored(name: str) -> None:
    done = execute(name)
    assert complaints(done) == []
    assert printed(done) == printed(read(name))


def test_the_first_notebook_goes_on_from_a_release(tmp_path: Path) -> None:
    write_imi(tmp_path, imi_table(96))
    done = execute("01_reproduce_2023", {"VIMI_IMI": str(tmp_path)})
    assert complaints(done) == []
    text = "\n".join(printed(done))
    assert "sessions" in text
    assert "means** lie within .01 of the published ones" in text
    assert "names no release" not in text
