"""README, CONTRIBUTING and CHANGELOG are pages of the site; their links point into the pages, and are checked as those of any page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    if page.file.src_uri not in PAGES:
        return markdown
    text = (ROOT / PAGES[page.file.src_uri]).read_text().replace("](docs/", "](")
    for target, name in PAGES.items():
        text = text.replace(f"]({name})", f"]({target})")
    return re.sub(r"\[([^\]]*)\]\((examples/[^)]*)\)", r"`\1`", text)  # no page of the site


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Error messages are long lines of prose: on their page they wrap."""
    return f'<div class="messages">{html}</div>' if page.file.src_uri == "troubleshooting.md" else html
