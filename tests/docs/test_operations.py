"""An operator finds every error, exit status and reason of a dead letter on the page for operators."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TypeVar

import pytest

import streams
from journey.errors import EventError, JourneyError
from streams.cli import FAILED, INTERRUPTED
from streams.errors import ShellError
from streams.faust_fixes import STOPPED
from tests.docs.pages import text_of

AnyError = TypeVar("AnyError", bound=Exception)
PAGE = text_of("docs/operations.md")


def family(base: type[AnyError]) -> set[type[AnyError]]:
    """Return the subclasses of a class, at any depth."""
    return {one for child in base.__subclasses__() for one in {child} | family(child)}


def errors() -> list[type[Exception]]:
    """Return every error of the domain and the shell."""
    for module in pkgutil.walk_packages(streams.__path__, "streams."):
        importlib.import_module(module.name)
    return sorted(family(JourneyError) | family(ShellError), key=lambda one: one.__name__)


def for_operators() -> list[type[Exception]]:
    """Return the errors that say what an operator does."""
    return [one for one in errors() if "Operator:" in (inspect.getdoc(one) or "")]


@pytest.mark.parametrize("error", for_operators(), ids=lambda one: one.__name__)
def test_every_error_with_words_for_the_operator_has_its_heading(error: type[Exception]) -> None:
    assert f"\n### {error.__name__}\n" in PAGE


def test_no_heading_is_left_of_an_error_that_is_gone() -> None:
    headings = {line[4:] for line in PAGE.splitlines() if line.startswith("### ") and line.endswith("Error")}
    assert headings == {one.__name__ for one in for_operators()}


def test_the_exit_statuses_are_those_of_the_code() -> None:
    rows = {line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| `")}
    assert {f"`{status}`" for status in (0, 1, FAILED, STOPPED, INTERRUPTED)} <= rows


@pytest.mark.parametrize("reason", sorted({one.reason for one in family(EventError)} | {"poison"}))
def test_every_reason_of_a_dead_letter_is_explained(reason: str) -> None:
    assert f"\n| `{reason}` |" in PAGE
