"""Decisions and fragments of the changelog have the form that readers and tools expect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, name_of, text_of

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
FRAGMENTS = sorted((ROOT / "changelog.d").glob("*.md"))
SECTIONS = ["Context", "Decision", "Consequences", "Rejected alternatives", "History"]


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_a_status_a_date_and_all_its_sections(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.match(
        rf"# {page.name[:4]}: \S.*\n\nStatus: (proposed|accepted|superseded by .+), 20\d\d-\d\d-\d\d\n", text
    )
    assert re.findall(r"^## (.+)$", text, re.M) == SECTIONS


def test_decisions_are_numbered_without_holes_and_listed() -> None:
    assert [page.name[:4] for page in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", text_of("docs/decisions/README.md"))
    assert listed == [page.name for page in DECISIONS]


@pytest.mark.parametrize("page", FRAGMENTS, ids=name_of)
def test_a_fragment_says_in_its_name_what_kind_of_change_it_is(page: Path) -> None:
    assert re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed|removed|state)\.md", page.name)
    assert page.read_text(encoding="utf-8").strip()
