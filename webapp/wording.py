"""The texts that participants read: Markdown files by language, those of a study before the shipped ones.

Pages are Markdown files (``consent.md``, ``instructions-1.md``, ...); short labels of buttons and messages stand in
``labels.toml``. A study may replace any of them in ``STUDY/texts/LANGUAGE/``. ``{name}`` stands for a value; a
text can't bring HTML or scripts with it, since Streamlit shows Markdown only.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from benchmark.errors import HostingError
from benchmark.hashing import hash_bytes

SHIPPED = Path(__file__).parent / "texts"
LABELS = "labels.toml"

_FIELD = re.compile(r"\{([a-z_]+)\}")
_MARKS = re.compile(r"([\\`*_{}\[\]<>()#+!|~$:-])")


def shipped_languages() -> list[str]:
    """Return the languages whose texts ship with vimi."""
    return sorted(path.name for path in SHIPPED.iterdir() if (path / LABELS).is_file())


class Wording:
    """All texts of one language.

    Parameters
    ----------
    language
        Its two-letter name.
    own
        Folder of a study's own texts, with one folder a language; it need not exist.

    Raises
    ------
    HostingError
        If the language has no texts, or one of them is no UTF-8.
    """

    def __init__(self, language: str, own: Path) -> None:
        self.language = language
        self._folders = [folder for folder in (own / language, SHIPPED / language) if folder.is_dir()]
        if not self._folders:
            raise HostingError(
                f"There are no texts in the language {language!r}. Shipped: {', '.join(shipped_languages())}. Put your "
                f"own into {own / language}: copies of {SHIPPED / 'en'}, translated."
            )

    def _read(self, name: str) -> str:
        for folder in [*self._folders, SHIPPED / "en"]:
            path = folder / name
            if path.is_file():
                try:
                    return path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    raise HostingError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
        raise HostingError(f"There is no text {name}; it should stand in {self._folders[0]}.")

    def page(self, name: str, **values: object) -> str:
        """Return a page, ``consent`` for example, with values filled in.

        Values are shown as they are: marks of Markdown in them are escaped.
        """
        return fill(self._read(f"{name}.md"), values)

    def pages(self, stem: str) -> list[str]:
        """Return the names of the pages ``stem-1``, ``stem-2``, ..., in order."""
        found = {path.stem for folder in [*self._folders, SHIPPED / "en"] for path in folder.glob(f"{stem}-*.md")}
        return sorted(name for name in found if name.removeprefix(f"{stem}-").isdigit())

    @cached_property
    def labels(self) -> dict[str, str]:
        """Labels of buttons and messages; those missing in a translation stay English."""
        labels: dict[str, str] = {}
        for folder in [SHIPPED / "en", *reversed(self._folders)]:
            path = folder / LABELS
            if path.is_file():
                try:
                    labels.update(tomllib.loads(path.read_text(encoding="utf-8"))["labels"])
                except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
                    raise HostingError(f"{path} can't be read: {error}.") from None
        return labels

    def label(self, name: str, **values: object) -> str:
        """Return a label with values filled in."""
        return fill(self.labels[name], values, escape=False)

    def consent_hash(self, **values: object) -> str:
        """Return the hash of the consent text, as it is shown."""
        return hash_bytes(self.page("consent", **values).encode())


def fill(text: str, values: Mapping[str, object], escape: bool = True) -> str:
    """Fill ``{name}`` with values; names that are not given stay as they are."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            return match[0]
        return _MARKS.sub(r"\\\1", str(values[match[1]])) if escape else str(values[match[1]])

    return _FIELD.sub(value, text)
