"""Starting something: a folder with the files that a story begins with."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from benchmark.commands import spell_command
from benchmark.documents import BLANK
from benchmark.errors import DocumentError, NameNotFound
from benchmark.storage import write_text

Story = Literal["build", "host", "analyse", "leaderboard"]

OWN_TEXTS = ("welcome.md", "consent.md", "debriefing.md")
"""Pages that nearly every laboratory writes anew."""

_WHO = {
    "en": f"""**Who we are.** {BLANK}: the laboratory and the people who run this study.

**Before you use this page.** {BLANK}: replace this line once your ethics committee has approved the text.

""",
    "de": f"""**Wer wir sind.** {BLANK}: das Labor und die Personen, die diese Studie durchführen.

**Bevor Sie diese Seite verwenden.** {BLANK}: Ersetzen Sie diese Zeile, sobald die Ethikkommission zugestimmt hat.

""",
}
"""By language, what only the laboratory knows of a consent text; vimi refuses to show it to participants as it is."""

_SUFFIX_OF_CODE = ".txt"
"""What is behind the name of a file of code here, so that no tool takes it for a part of vimi."""


@dataclass(frozen=True)
class Started:
    """A folder that was started.

    Attributes
    ----------
    folder
        The folder.
    files
        Its files, relative to it.
    fill_in
        Those that have blanks or empty fields, with what is missing.
    next
        Commands to run in the folder.
    """

    folder: Path
    files: tuple[Path, ...]
    fill_in: dict[str, str]
    next: tuple[str, ...]


_FILL_IN: dict[Story, dict[str, str]] = {
    "build": {"experiment.toml": "models and pictures of your own"},
    "host": {
        "experiment.toml": "the five empty fields of [recruitment]",
        "texts/LANGUAGE/consent.md": f'every "{BLANK}"; vimi serve refuses to show them to participants',
    },
    "analyse": {"mapping.toml": "the columns of your own table"},
    "leaderboard": {"my_model.py": "your network, its weights, and what it was trained on"},
}

_NEXT: dict[Story, tuple[tuple[str, ...], ...]] = {
    "build": (
        ("build", "experiment.toml", "--out", "study", "--dry-run"),
        ("build", "experiment.toml", "--out", "study"),
    ),
    "host": (("build", "experiment.toml", "--out", "study"), ("serve", "study", "--preview")),
    "analyse": (
        ("import-csv", "answers.csv", "--mapping", "mapping.toml", "--out", "imported"),
        ("analyze", "imported", "--quick"),
    ),
    "leaderboard": (
        ("models", "check", "my_model:make", "--weights", "random"),
        ("models", "check", "my_model:make"),
    ),
}


def start(folder: Path | str, story: str = "build", language: str = "en") -> Started:
    """Write the files that a story begins with into a new folder; they work as they are.

    Parameters
    ----------
    folder
        The folder; it must not exist yet, or be empty.
    story
        ``build`` a study, ``host`` an experiment, ``analyse`` a table of answers, or add a model to the
        ``leaderboard``.
    language
        Language of the texts for participants, which only the story ``host`` has: ``en`` or ``de``.

    Raises
    ------
    NameNotFound
        If there is no such story, or vimi ships no texts in the language.
    DocumentError
        If the folder holds something: nothing is overwritten. Or if a story without texts is given a language.
    StorageError
        If it can't be written.
    """
    stories: tuple[Story, ...] = get_args(Story)
    chosen = next((name for name in stories if name == story), None)
    if chosen is None:
        raise NameNotFound("story", story, stories)
    if language not in _WHO:
        raise NameNotFound("language of texts for participants", language, _WHO)
    if chosen != "host" and language != "en":
        raise DocumentError(
            f"The story {chosen!r} has no texts for participants. Leave the language out, or use 'host'."
        )
    root = Path(folder)
    if root.is_file():
        raise DocumentError(f"{root} is a file. Choose another name for the new folder.")
    if root.is_dir() and any(root.iterdir()):
        raise DocumentError(f"{root} is not empty, and vimi overwrites nothing. Choose another name.")
    contents = _contents(chosen, language)
    for name, text in contents.items():
        write_text(root / name, text)
    return Started(
        root, tuple(map(Path, sorted(contents))),
        {name.replace("LANGUAGE", language): what for name, what in _FILL_IN[chosen].items()},
        tuple(spell_command(*words) for words in _NEXT[chosen]),
    )  # fmt: skip


def _contents(story: Story, language: str) -> dict[str, str]:
    """Return the text of every file of a story."""
    folder = resources.files("benchmark") / "starters" / story
    files = {
        entry.name.removesuffix(_SUFFIX_OF_CODE): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.is_file()
    }
    if story == "host":
        from webapp.wording import ENGLISH, SHIPPED

        for name in ("README.md", "experiment.toml"):
            files[name] = files[name].replace(f"texts/{ENGLISH}", f"texts/{language}")
        files["experiment.toml"] = files["experiment.toml"].replace(
            f'language = "{ENGLISH}"', f'language = "{language}"'
        )
        for name in OWN_TEXTS:
            files[f"texts/{language}/{name}"] = (SHIPPED / language / name).read_text(encoding="utf-8")
        consent = f"texts/{language}/consent.md"
        title, _, rest = files[consent].partition("\n\n")
        files[consent] = f"{title}\n\n{_WHO[language]}{rest}"
    return files
