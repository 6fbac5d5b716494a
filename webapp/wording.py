"""The texts that participants read: Markdown files by language, those of a study before the shipped ones.

Pages are Markdown files (``consent.md``, ``instructions-1.md``, ...); short labels of buttons and messages stand in
``labels.toml``, the questions of the comprehension quiz in ``quiz.toml``. A study may replace any of them in
``STUDY/texts/LANGUAGE/``; a numbered page that is empty there is left out. ``{name}`` stands for a value. A text can't
bring HTML or scripts with it, since Streamlit shows Markdown only, and a value brings not even Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from benchmark.documents import BLANK, Document, parse, read_toml
from benchmark.errors import DocumentError, HostingError, suggest
from benchmark.hashing import hash_bytes

SHIPPED = Path(__file__).parent / "texts"
LABELS = "labels.toml"
QUIZ = "quiz.toml"
ENGLISH = "en"
"""The language that stands in for what a translation lacks."""

FROM_THE_RIGHT = ("ar", "arc", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi")
"""Languages that are written from the right."""

FIELDS: dict[str, tuple[str, ...]] = {
    "welcome": ("minutes", "trials", "payment", "megabytes"),
    "consent": (
        "ethics_approval", "controller", "contact", "retention", "pool_licence", "minutes", "payment", "trials",
        "megabytes",
    ),
    "start": ("trials",),
    "debriefing": ("right", "answered"),
    "too-slow": ("megabits", "needed", "megabytes"),
    "too-small": ("width", "height", "needed_width", "needed_height"),
}  # fmt: skip
"""Values that a page may speak of; other pages have none."""

_FIELD = re.compile(r"\{([a-z_]+)\}")
_MARKS = re.compile(r"([\\`*_{}\[\]<>()#+!|~$:&=^-])")
_NUMBERED = re.compile(r"(.+)-(\d+)")


class Question(Document):
    """A question of the comprehension quiz.

    Attributes
    ----------
    text
        The question.
    options
        Answers to choose from.
    right
        Which of them is right, counted from 1.
    """

    text: Annotated[str, Field(min_length=1, max_length=1000)]
    options: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=500)], ...], Field(min_length=2)]
    right: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _answerable(self) -> Question:
        if self.right > len(self.options):
            raise ValueError(f"right is {self.right}, but there are only {len(self.options)} options")
        if len(set(self.options)) != len(self.options):
            raise ValueError("an option appears twice")
        return self

    @property
    def answer(self) -> str:
        """The right option."""
        return self.options[self.right - 1]


class Quiz(Document):
    """The comprehension quiz, as in its file."""

    questions: Annotated[tuple[Question, ...], Field(min_length=1)]


def shipped_languages() -> list[str]:
    """Return the languages whose texts ship with vimi."""
    return sorted(path.name for path in SHIPPED.iterdir() if (path / LABELS).is_file())


class Wording:
    """All texts of one language.

    Parameters
    ----------
    language
        Its two-letter name; ``de-CH`` falls back on ``de``.
    own
        Folder of a study's own texts, with one folder a language; it need not exist.

    Raises
    ------
    HostingError
        If the language has no texts, or an own text can't be read or speaks of something that does not exist.
    """

    def __init__(self, language: str, own: Path) -> None:
        self.language = language
        names = dict.fromkeys((language, language.partition("-")[0]))
        self._own = own / language
        known = [folder / name for name in names for folder in (own, SHIPPED)]
        if not any(folder.is_dir() for folder in known):
            raise HostingError(
                f"There are no texts in the language {language!r}. Shipped: {', '.join(shipped_languages())}. Put your "
                f"own into {self._own}: copies of {SHIPPED / ENGLISH}, translated."
            )
        self._folders = [folder for folder in [*known, SHIPPED / ENGLISH] if folder.is_dir()]
        for folder in self._folders:
            if not folder.is_relative_to(SHIPPED):
                _check_own(folder)

    def _find(self, name: str) -> Path:
        for folder in self._folders:
            if (folder / name).is_file():
                return folder / name
        raise HostingError(f"There is no text {name}; it should be in {self._own}.")

    def page(self, name: str, **values: object) -> str:
        """Return a page, ``consent`` for example, with values filled in.

        Values are shown as they are: marks of Markdown in them are escaped.
        """
        return fill(_read(self._find(f"{name}.md")), values)

    def pages(self, stem: str) -> list[str]:
        """Return the names of the pages ``stem-1``, ``stem-2``, ..., in order; those that are empty are left out."""
        found = {path.stem for folder in self._folders for path in folder.glob(f"{stem}-*.md")}
        numbers = [int(match[2]) for name in found if (match := _NUMBERED.fullmatch(name)) and match[1] == stem]
        names = [f"{stem}-{number}" for number in sorted(numbers)]
        return [name for name in names if _read(self._find(f"{name}.md")).strip()]

    def quiz(self) -> tuple[Question, ...]:
        """Return the questions of the comprehension quiz.

        Raises
        ------
        HostingError
            If its file can't be read, or a question has no right answer.
        """
        return _read_quiz(self._find(QUIZ))

    @property
    def direction(self) -> str:
        """Direction in which the language is written: ``rtl`` from the right, or ``ltr``."""
        return "rtl" if self.language.partition("-")[0].lower() in FROM_THE_RIGHT else "ltr"

    @cached_property
    def labels(self) -> dict[str, str]:
        """Labels of buttons and messages; those missing in a translation stay English."""
        labels: dict[str, str] = {}
        for folder in reversed(self._folders):
            if (folder / LABELS).is_file():
                labels.update(_read_labels(folder / LABELS))
        return labels

    def label(self, name: str, **values: object) -> str:
        """Return a label with values filled in."""
        return fill(self.labels[name], values, escape=False)

    def blanks(self) -> list[str]:
        """Return where a study's own texts still have a blank: ``texts/en/consent.md, line 3``."""
        return [
            f"{path}, line {number}"
            for folder in self._folders
            if not folder.is_relative_to(SHIPPED)
            for path in sorted(folder.iterdir())
            if path.suffix in (".md", ".toml")
            for number, line in enumerate(_read(path).splitlines(), start=1)
            if BLANK in line
        ]

    def consent_hash(self, **values: object) -> str:
        """Return the hash of the consent text, as it is shown."""
        return hash_bytes(self.page("consent", **values).encode())


def fill(text: str, values: Mapping[str, object], escape: bool = True) -> str:
    """Fill ``{name}`` with values; names that are not given stay as they are.

    A value is one line, whatever it holds: a new line could begin a heading or a list.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            return match[0]
        line = " ".join(str(values[match[1]]).split())
        return _MARKS.sub(r"\\\1", line) if escape else line

    return _FIELD.sub(value, text)


def fields(text: str) -> set[str]:
    """Return the placeholders of a text."""
    return set(_FIELD.findall(text))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise HostingError(f"{path} is not UTF-8 text; save it as UTF-8.") from None


def _read_labels(path: Path) -> dict[str, str]:
    try:
        labels: Any = read_toml(path).get("labels")
    except DocumentError as error:
        raise HostingError(str(error)) from None
    if not isinstance(labels, dict):
        raise HostingError(f"{path} has no table [labels]; begin it with that line.")
    wrong = [name for name, text in labels.items() if not isinstance(text, str)]
    if wrong:
        raise HostingError(f"{path}: {wrong[0]} must be text in quotation marks.")
    return labels


def _read_quiz(path: Path) -> tuple[Question, ...]:
    try:
        return parse(Quiz, read_toml(path), str(path)).questions
    except DocumentError as error:
        raise HostingError(str(error)) from None


def _check_own(folder: Path) -> None:
    """Check own texts before anybody sees them: a misspelt name or value would show in the middle of a study."""
    shipped = _read_labels(SHIPPED / ENGLISH / LABELS)
    pages = {path.stem for path in (SHIPPED / ENGLISH).glob("*.md")}
    for path in sorted(folder.glob("*.md")):
        numbered = _NUMBERED.fullmatch(path.stem)
        if path.stem not in pages and not (numbered and numbered[1] == "instructions"):
            raise HostingError(f"{path} does not belong to any page. {suggest(path.stem, pages)} Rename or remove it.")
        _check_fields(str(path), fields(_read(path)), FIELDS.get(path.stem, ()))
    if (folder / LABELS).is_file():
        for name, text in _read_labels(folder / LABELS).items():
            if name not in shipped:
                raise HostingError(f"{folder / LABELS}: there is no label {name}. {suggest(name, shipped)}")
            _check_fields(f"{folder / LABELS}: {name}", fields(text), fields(shipped[name]))
    if (folder / QUIZ).is_file():
        _read_quiz(folder / QUIZ)


def _check_fields(where: str, used: set[str], known: tuple[str, ...] | set[str]) -> None:
    for name in sorted(used - set(known)):
        hint = suggest(name, known) if known else "This text knows no values."
        raise HostingError(f"{where}: unknown placeholder {{{name}}}. {hint}")
