"""README, CONTRIBUTING and CHANGELOG are pages of the site; their links point into the pages, and are checked as those of any page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = "<!-- settings -->"  # on docs/commands.md; the tables are made from the classes that declare the settings
VARIANT_TABLES = "<!-- variants -->"  # on docs/variants.md; made from the parts
PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def settings_tables() -> str:
    """A table for each command whose settings are declared in a class, group by group."""
    from data.settings import Settings, declared, in_words
    from nas.search.request import SearchRequest
    from strategies.paper.settings import PaperSettings
    from strategies.walkforward.config import GROUPS, RunConfig, of_preset
    from strategies.walkforward.options import Options

    def rows(models: tuple[type[Settings], ...], group: str | None, preset: dict[str, Any]) -> list[str]:
        found = [one for model in models for one in declared(model) if one[2].group == group]
        return [
            f"| `{name}` | {'flag' if shown.flag else 'file'} | {in_words(preset.get(name, field.default))} | "
            + str(field.description).replace("|", "\\|") + " |"
            for name, field, shown in found
        ]  # fmt: skip

    text = []
    for command, models, preset in (
        ("strategies.walkforward", (RunConfig, Options), of_preset("default")),
        ("nas.search", (SearchRequest,), {}),
        ("strategies.paper", (PaperSettings,), {}),
    ):
        groups = dict.fromkeys(shown.group for model in models for *_, shown in declared(model))
        for group in sorted(groups, key=lambda name: GROUPS.index(name) if name in GROUPS else -1):
            head = [f"### {command}: {group or 'every command has these, or most'}", ""]
            text += [*head, "| setting | given by | default | |", "|---|---|---|---|", *rows(models, group, preset), ""]
    return "\n".join(text)


def variant_tables() -> str:
    """The named variants and the parts that they are made of; which pairs of parts are refused, and why."""
    from nas.search.parts import KINDS, PARTS, REFUSED, SEVERAL
    from nas.search.rivals import RIVALS
    from nas.search.variants import VARIANTS

    text = [
        "Variants with a name, and the parts they are made of:",
        "",
        "| name | parts | | from |",
        "|---|---|---|---|",
    ]
    for variant in VARIANTS.values():
        parts = " ".join(f"`{part}`" for part in variant.parts)
        text.append(f"| `{variant.name}` | {parts} | {variant.title} | {variant.source} |")
    text += ["", f"Kinds of parts. A variant has at most one of a kind, but several of {', '.join(SEVERAL)}:", ""]
    text += ["| kind | what it says | parts |", "|---|---|---|"]
    for kind, what in KINDS.items():
        text.append(
            f"| {kind} | {what} | {' '.join(f'`{part.name}`' for part in PARTS.values() if part.kind == kind)} |"
        )
    text += ["", "The parts:", "", "| part | kind | what it does | from |", "|---|---|---|---|"]
    text += [f"| `{part.name}` | {part.kind} | {part.what} | {part.source} |" for part in PARTS.values()]
    text += ["", "What does not go together:", ""]
    text += ["| part | with | because |", "|---|---|---|"]
    text += [f"| `{a}` | `{b}`{' (all of them)' if b in KINDS else ''} | {why} |" for (a, b), why in REFUSED.items()]
    scratch = ", ".join(f"`{name}`" for name in RIVALS)
    text += [
        f"| {scratch} | everything else | they train cells from scratch: there is no supernet that anything could change |"
    ]
    return "\n".join(text)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    if page.file.src_uri == "commands.md":
        return markdown.replace(SETTINGS, settings_tables())
    if page.file.src_uri == "variants.md":
        return markdown.replace(VARIANT_TABLES, variant_tables())
    if page.file.src_uri not in PAGES:
        return markdown
    text = (ROOT / PAGES[page.file.src_uri]).read_text().replace("](docs/", "](")
    for target, name in PAGES.items():
        text = text.replace(f"]({name})", f"]({target})")
    return re.sub(r"\[([^\]]*)\]\((examples/[^)]*)\)", r"`\1`", text)  # no page of the site


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Error messages are long lines of prose: on their page they wrap."""
    return f'<div class="messages">{html}</div>' if page.file.src_uri == "troubleshooting.md" else html
