"""Print what hosting a study needs of the requirements in pyproject.toml: all but the networks and their pictures."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

NOT_HOSTED = re.compile(
    r"(torch|torchvision|timm|torch-lucent|kornia|safetensors|huggingface-hub|efficientnet-.*|scikit-.*)(?![\w-])"
)
"""Requirements of building a study: a test proves that nothing of the host imports torch."""


def hosted_requirements(pyproject: Path) -> list[str]:
    """Return the requirements of the host, with the driver of PostgreSQL."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    needed = [line for line in project["dependencies"] if not NOT_HOSTED.match(line)]
    return [*needed, *project["optional-dependencies"]["postgresql"]]


if __name__ == "__main__":
    print("\n".join(hosted_requirements(Path("pyproject.toml"))))
