"""The page about the architecture knows every module, and no other."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT, text_of

PAGE = text_of("docs/architecture.md")


def test_every_module_has_its_row_and_no_other() -> None:
    rows = set(re.findall(r"^\| `((?:journey|streams)/[\w/]+\.py)` \|", PAGE, re.M))
    files = {
        str(path.relative_to(ROOT))
        for package in ("journey", "streams")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert rows == files
