"""Nothing a page names is missing: links, files, tests, make targets, commands and their options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from streams.cli import app
from tests.docs.pages import ROOT, anchors, blocks, name_of, pages, spans, text_of, without_blocks

FOLDERS = "benchmarks|docs|examples|journey|schemas|scripts|streams|tests|changelog\\.d|\\.ci"
FILE = re.compile(rf"^(?:{FOLDERS})/[\w./*-]*(?:::\w+)?$")
every_page = pytest.mark.parametrize("page", pages(), ids=name_of)


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text)):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


@every_page
def test_every_file_and_test_that_is_named_exists(page: Path) -> None:
    for named in spans(page.read_text(encoding="utf-8")):
        if not FILE.match(named):
            continue
        name, _, test = named.partition("::")
        found = [path for folder in (ROOT, page.parent) for path in folder.glob(name.rstrip("/"))]
        assert found, named
        if test:
            assert re.search(rf"^\s*(?:async )?def {test}\(", found[0].read_text(encoding="utf-8"), re.M), named


@every_page
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.M))
    text = page.read_text(encoding="utf-8")
    named = [line for block in blocks(text, "sh", "") for line in block.splitlines()] + spans(text)
    for line in named:
        if found := re.match(r"make ([a-z-]+)", line):
            assert found.group(1) in targets, line


def commands() -> dict[str, Any]:
    """Return every command by its words, such as ``topics check``."""
    found: dict[str, Any] = {}

    def note(words: str, command: Any) -> None:
        found[words] = command
        if isinstance(command, TyperGroup):
            for name, child in command.commands.items():
                note(f"{words} {name}".strip(), child)

    note("", get_command(app))
    return found


def journey_lines(text: str) -> list[str]:
    """Return every call of the command line on a page, in blocks for the shell and in the prose."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()] + spans(text)
    calls = [re.split(r"[|;&<>#]", line)[0] for line in lines]
    return [call.strip() for call in calls if re.match(r"^\s*journey( |$)", call)]


@every_page
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    known = commands()
    for line in journey_lines(page.read_text(encoding="utf-8")):
        words = shlex.split(line)[1:]
        names = [word for word in words if not word.startswith("-")]
        two, one = " ".join(names[:2]), " ".join(names[:1])
        command = known.get(two) or known.get(one)
        assert command is not None, line
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("page", [page for page in pages() if name_of(page) != "docs/features.md"], ids=name_of)
def test_lines_are_short_enough_to_read(page: Path) -> None:
    long = [line for line in without_blocks(page.read_text(encoding="utf-8")).splitlines() if len(line) > 120]
    assert long == []
