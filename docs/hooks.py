"""The front page is the README; its links point into the pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    if page.file.src_uri != "index.md":
        return markdown
    text = (ROOT / "README.md").read_text().replace("](docs/", "](")
    for name, target in ELSEWHERE.items():
        text = text.replace(f"]({name})", f"]({target})")
    return re.sub(r"\[([^\]]*)\]\((examples/[^)]*)\)", r"`\1`", text)  # no page of the site
