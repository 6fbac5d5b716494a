"""The notebooks on simulated studies still print what is stored."""

from __future__ import annotations

import pytest

from tests.notebooks import complaints, execute, printed, read


@pytest.mark.parametrize("name", ["04_design_and_power", "05_machine_observers"])
def test_a_notebook_prints_what_is_stored(name: str) -> None:
    done = execute(name)
    assert complaints(done) == []
    assert printed(done) == printed(read(name))
