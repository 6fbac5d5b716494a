"""Figures as files and as markup: PNG for slides, SVG for pages. The same figure gives the same bytes."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures.style import HALO, drawing
from benchmark.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200


def figure_of(axes: Any) -> Figure:
    """Return the figure that axes, one or several, belong to."""
    figure: Figure = np.ravel(axes)[0].figure.get_figure(root=True)
    return figure


def save_figure(axes: Any, path: Path) -> None:
    """Write the figure that axes belong to as PNG.

    Raises
    ------
    StorageError
        If it can't be written; what was there before is then untouched.
    """
    figure = figure_of(axes)
    with drawing():
        write_atomically(
            path, lambda target: figure.savefig(target, format="png", dpi=DPI, metadata={"Software": None})
        )


def figure_as_svg(axes: Any, name: str = "", description: str = "") -> str:
    """Return the figure that axes belong to as an ``<svg>`` element to put into a page.

    It needs nothing from outside: letters are shapes. Identifiers, and the one rule of style, hold within this element
    alone, so that a page can hold several. Same figure, same text.

    Parameters
    ----------
    axes
        The axes, one or several.
    name
        Sets this element's identifiers apart from those of an equal figure on the same page.
    description
        What the figure shows, for those who can't see it.
    """
    figure = figure_of(axes)
    buffer = io.StringIO()
    with drawing(), _without_halos(figure) as halos:
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    # Comments repeat the text of the figure: nothing in them may be taken for markup below.
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    for halo in halos:
        text = _with_halo(text, halo)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<metadata/>", "", text, flags=re.DOTALL)
    prefix = "f" + hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()[:10]
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'\bxlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = text.replace("xlink:href=", "href=")
    text = text.replace("*{stroke-linejoin", f"#{prefix} *{{stroke-linejoin")
    width, height = (round(float(inches) * 96) for inches in figure.get_size_inches())
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{prefix}" class="figure" role="img" viewBox="{box[1]}" '
        f'width="{width}" height="{height}"'
    )
    label = html.escape(description, quote=True)
    head += f' aria-label="{label}">\n<title>{label}</title>' if description else ' aria-hidden="true">'
    text = head + text[text.index(">") + 1 :]
    return re.sub(r"\n\s*\n+", "\n", text).strip() + "\n"


@contextmanager
def _without_halos(figure: Figure) -> Iterator[list[str]]:
    """Take the halos off a figure's texts for a while; yields the names that these texts have meanwhile.

    matplotlib writes a text that has a halo as the outlines of whole words, twice over: most of a figure's bytes.
    """
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_path_effects()]
    effects = [text.get_path_effects() for text in texts]
    names = [f"halo_{number}" for number in range(len(texts))]
    for text, name in zip(texts, names):
        text.set_path_effects([])
        text.set_gid(name)
    try:
        yield names
    finally:
        for text, own in zip(texts, effects):
            text.set_path_effects(own)
            text.set_gid(None)


_LETTERS = re.compile(r'<g(?: style="[^"]*")? (transform="[^"]*scale\(([\d.]+) [^"]*")>(.*?)</g>', re.DOTALL)
"""A line of text as matplotlib writes it: how large it is, and its letters, each a use of a shape."""

_UNITS = 64
"""Units of a letter's shape in one point of its size 1."""


def _with_halo(text: str, name: str) -> str:
    """Put a halo behind a text: the same letters once more, as broad strokes."""

    def with_strokes(line: re.Match[str]) -> str:
        letters = re.sub(r"<defs>.*?</defs>\s*", "", line[3], flags=re.DOTALL)
        style = (
            f"fill: none; stroke: {HALO['foreground']}; stroke-width: {HALO['linewidth'] * _UNITS / float(line[2]):.6g}"
        )
        return f'<g style="{style}" {line[1]}>{letters}</g>\n{line[0]}'

    begin = text.index(f'<g id="{name}">') + 1
    end = text.find("<g id=", begin)
    own = text[begin:] if end < 0 else text[begin:end]
    return text[:begin] + _LETTERS.sub(with_strokes, own) + text[begin + len(own) :]
