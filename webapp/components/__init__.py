"""The parts of a page that Streamlit does not have: the trial, and the check of the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

_FOLDER = Path(__file__).parent


@cache
def _source(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _register(name: str, **sources: str) -> Callable[..., Any]:
    """Register a component with this server; Streamlit wants that done in a script's run."""
    return st.components.v2.component(name, **sources)  # type: ignore[no-any-return]


def mount_trial(data: dict[str, Any], key: str, on_finished: Callable[[], None]) -> None:
    """Draw trials until their block is finished.

    Parameters
    ----------
    data
        What ``trial.js`` needs: tokens, the first presentation, labels and times.
    key
        Name of this element.
    on_finished
        Called when the block has no further trial.
    """
    source = _source("pictures.js") + _source("trial.js")
    render = _register("vimi_trial", html='<div class="task"></div>', css=_source("trial.css"), js=source)
    render(key=key, data=data, on_finished_change=on_finished)


def prefetch_pictures(pictures: dict[str, Any], trials: Sequence[Sequence[str]], key: str) -> None:
    """Load the pictures of the next trials while somebody reads a page.

    Parameters
    ----------
    pictures
        What ``pictures.js`` needs to know of how they are sent.
    trials
        Names of the pictures, trial by trial.
    key
        Name of this element.
    """
    render = _register("vimi_prefetch", js=_source("pictures.js") + _source("prefetch.js"))
    render(key=key, data={"pictures": pictures, "trials": [list(names) for names in trials]})


def show_code(code: str, labels: dict[str, str], key: str) -> None:
    """Show a code with a button that copies it.

    Parameters
    ----------
    code
        The code.
    labels
        ``copy`` and ``copied``: what the button says before and after.
    key
        Name of this element.
    """
    source = '<div class="code" translate="no"><code></code><button type="button"></button></div>'
    render = _register("vimi_code", html=source, css=_source("code.css"), js=_source("code.js"))
    render(key=key, data={"code": code, **labels})


def watch_writing(participant: str, key: str) -> None:
    """Count keys and pastes in the page's field for text; neither the text nor the keys are read.

    Parameters
    ----------
    participant
        Token of the participant.
    key
        Name of this element.
    """
    render = _register("vimi_writing", js=_source("writing.js"))
    render(key=key, data={"participant": participant, "root": "/"})


def check_device(again: int, key: str) -> dict[str, Any] | None:
    """Check the browser and its window; returns the result, or None until the browser has answered.

    Parameters
    ----------
    again
        Counts up to have another look.
    key
        Name of this element.
    """
    render = _register("vimi_device", js=_source("device.js"))
    result = render(key=key, data={"again": again, "root": "/"}, on_checked_change=lambda: None)
    return dict(result.checked) if result.checked else None
