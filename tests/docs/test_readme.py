"""What the README promises is run or compared with the code."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path
from typing import Any

import pytest

from streams.demo import SHOP_CUSTOMERS, SHOP_DAYS
from streams.settings import PREFIX, Settings
from streams.shop import open_shop
from tests.docs.pages import blocks, marked, name_of, pages, text_of
from tests.docs.test_links import commands

README = text_of("README.md")


@pytest.mark.parametrize("page", [page for page in pages() if ">>> " in page.read_text(encoding="utf-8")], ids=name_of)
def test_what_a_page_shows_of_python_gives_what_it_shows(page: Path) -> None:
    said: list[str] = []
    examples = "\n".join(blocks(page.read_text(encoding="utf-8"), "python"))
    test = doctest.DocTestParser().get_doctest(examples, {}, name_of(page), str(page), 0)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test, out=said.append).failed == 0, "".join(said)


def settings_table() -> str:
    """Return the table of settings as the code has them."""
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = {None: "none", "": "empty"}.get(field.default, f"`{field.default}`")
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description or ''} |")
    return "\n".join(rows) + "\n"


def test_the_settings_are_those_of_the_code() -> None:
    assert marked(README, "settings") == settings_table()


def runs(command: Any) -> bool:
    """Tell whether a command does something by itself: it is no group, or one that may stand without a subcommand."""
    return not hasattr(command, "commands") or bool(command.invoke_without_command)


def test_every_command_has_its_row_and_no_other() -> None:
    rows = re.findall(r"^\| `journey ([a-z -]+?)(?: [A-Z-][^`]*)?` \|", marked(README, "commands"), re.M)
    assert sorted(rows) == sorted(name for name, command in commands().items() if name and runs(command))


def test_the_last_line_of_the_demo_adds_up_and_is_that_of_this_shop() -> None:
    (line,) = [line for block in blocks(README, "text") for line in block.splitlines() if line.startswith('{"events"')]
    told = json.loads(line)
    shop = open_shop(seed=1, customers=SHOP_CUSTOMERS, days=SHOP_DAYS).summary
    assert told["events"] == told["accepted"] + told["dead_lettered"] + told["duplicates"] == shop.published
    assert (told["accepted"], told["duplicates"]) == (shop.accepted, shop.duplicates)
    assert told["dead_lettered"] == sum(shop.bad.values())
    assert told["replay"] == "identical"


def test_there_is_a_place_for_the_measurements() -> None:
    assert marked(README, "bench").strip()
