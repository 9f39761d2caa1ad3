"""What the README of ``schemas/`` shows is run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap

import yaml

from tests.schemas.catalogue import FOLDER, SCHEMAS, validator

TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return [textwrap.dedent(code) for code in re.findall(rf"^ *```{language}\n(.*?)^ *```$", TEXT, re.M | re.S)]


def test_the_event_it_shows_is_accepted() -> None:
    (event,) = map(json.loads, blocks("json"))
    validator("events.cart.v1").validate(event)


def test_the_program_it_shows_runs() -> None:
    (program,) = blocks("python")
    subprocess.run([sys.executable, "-c", program], cwd=FOLDER.parent, check=True, timeout=60)


def test_its_table_names_every_schema_and_the_topic_it_belongs_to() -> None:
    rows = re.findall(r"^\| [^|]+ \| (?:`(\S+)`)? ?\| `(\S+)\.json` \|$", TEXT, re.M)
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    assert {schema for _, schema in rows} == set(SCHEMAS)
    assert {topic for topic, _ in rows if topic} == {channel["address"] for channel in document["channels"].values()}
