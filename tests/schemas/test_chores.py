"""The two chores refuse to break what was recorded or released."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.check_schemas import main, record, release


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "examples" / "events.cart.v1").mkdir(parents=True)
    (tmp_path / "examples" / "events.cart.v1" / "one.json").write_text("{}")
    (tmp_path / "events.cart.v1.json").write_text(json.dumps({"$id": "x", "maxLength": 10}))
    return tmp_path


def test_recording_adds_new_examples_and_keeps_the_old_lines(folder: Path) -> None:
    assert record(folder) == []
    before = (folder / "examples" / "SHA256SUMS").read_text()
    (folder / "examples" / "events.cart.v1" / "two.json").write_text("[]")
    assert record(folder) == []
    after = (folder / "examples" / "SHA256SUMS").read_text()
    assert before in after
    assert after.endswith("  events.cart.v1/two.json\n")


@pytest.mark.parametrize("edited", ["{ }", None])
def test_recording_refuses_an_edited_or_removed_example(folder: Path, edited: str | None) -> None:
    record(folder)
    before = (folder / "examples" / "SHA256SUMS").read_text()
    example = folder / "examples" / "events.cart.v1" / "one.json"
    example.unlink() if edited is None else example.write_text(edited)
    assert record(folder) == ["events.cart.v1/one.json"]
    assert (folder / "examples" / "SHA256SUMS").read_text() == before


def test_releasing_copies_a_compatible_schema_and_refuses_a_breaking_one(folder: Path) -> None:
    schema, released = folder / "events.cart.v1.json", folder / "baseline" / "events.cart.v1.json"
    assert release(folder) == []
    schema.write_text(json.dumps({"$id": "x", "maxLength": 20}))
    assert release(folder) == []
    assert json.loads(released.read_text())["maxLength"] == 20
    schema.write_text(json.dumps({"$id": "x", "maxLength": 19}))
    assert release(folder) == ["events.cart.v1.json/: maxLength became tighter: 20 -> 19"]
    assert json.loads(released.read_text())["maxLength"] == 20
    schema.unlink()
    assert release(folder) == ["events.cart.v1.json: removed"]


def test_an_unknown_chore_is_a_mistake_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tidy"]) == 2
    assert "record|release" in capsys.readouterr().err
