"""The pages a reader finds, and what stands in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FENCE: Final = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)


def pages() -> list[Path]:
    """Return every page, the README first."""
    folders = ("docs", "changelog.d", "schemas", "examples")
    return [*sorted(ROOT.glob("*.md")), *sorted(page for name in folders for page in (ROOT / name).rglob("*.md"))]


def name_of(page: Path) -> str:
    """Return a page's name, for the id of a test."""
    return str(page.relative_to(ROOT))


def text_of(name: str) -> str:
    """Return the text of a page or another file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    """Return the fenced blocks of some languages."""
    return [body for _, language, body in FENCE.findall(text) if language in languages]


def without_blocks(text: str) -> str:
    """Return the prose and tables, without fenced blocks; the lines keep their numbers."""
    return FENCE.sub(lambda found: "\n" * found.group().count("\n"), text)


def spans(text: str) -> list[str]:
    """Return what stands between single backticks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", without_blocks(text))


def marked(text: str, name: str) -> str:
    """Return what stands between ``<!-- name -->`` and ``<!-- /name -->``."""
    return text.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]


def section(text: str, heading: str) -> str:
    """Return what stands under a heading, up to the next one of any level."""
    return re.split(r"^#+ ", text.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub forms them."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(text), re.M)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "")).strip().lower().replace(" ", "-") for title in titles}
