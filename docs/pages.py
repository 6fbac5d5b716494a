"""Pages of the website that lie elsewhere in the repository, or follow from the code: a hook of mkdocs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {
    "index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "architecture.md": "ARCHITECTURE.md",
    "changelog.md": "CHANGELOG.md",
}  # fmt: skip
"""By page of the site, the file at the top of the repository that it shows."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List notebooks and chapters of the reference in the navigation."""
    for part in config.nav:
        if "Notebooks" in part:
            part["Notebooks"] = [f"notebooks/{path.name}" for path in notebooks()]
        if "Reference" in part:
            part["Reference"] = ["public_names.md", *(f"reference/{name}.md" for name in chapters())]
    return config


@event_priority(100)  # before mkdocs-jupyter, which renders the notebooks that it finds
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/, with their links turned to pages of the site."""
    for page, source in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=turn_links(text)))
    for path in notebooks():
        files.append(File(f"notebooks/{path.name}", str(ROOT / "analysis"), config.site_dir, use_directory_urls=False))
    for name, members in chapters().items():
        text = f"# {name.replace('_', ' ').capitalize()}\n\n" + "\n".join(f"::: {member}\n" for member in members)
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turn links of docs/ that lead out of it."""
    return turn_links(markdown)


def turn_links(text: str) -> str:
    """Return Markdown whose links to files of the repository lead to their pages."""
    names = {source: page for page, source in ELSEWHERE.items()}
    text = re.sub(r"\]\((?:\.\./)?docs/", "](", text)
    text = re.sub(r"\]\((?:\.\./)?analysis/notebooks/?\)", f"](notebooks/{notebooks()[0].name})", text)
    return re.sub(r"\]\((?:\.\./)*([A-Z]+\.md)", lambda found: f"]({names.get(found[1], found[1])}", text)


def notebooks() -> list[Path]:
    """Return the notebooks, in their order."""
    return sorted((ROOT / "analysis" / "notebooks").glob("*.ipynb"))


def chapters() -> dict[str, list[str]]:
    """Return, by chapter of the reference, the names that its page shows: modules of `analysis` with an ``__all__``."""
    found = {}
    for path in sorted((ROOT / "analysis").iterdir()):
        source = path / "__init__.py" if path.is_dir() else path
        if path.name == "__init__.py" or source.suffix != ".py" or not source.exists():
            continue
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found[path.stem] = [f"analysis.{path.stem}.{name}" for name in ast.literal_eval(node.value)]
    return found
