"""Compiled or not, the fold is the same to the byte: what is compiled here is run from its sources too."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streams import compiled
from streams.compiled import ROOT, TOLD
from streams.errors import StaleBuildError
from tests.properties.shop_journal import small_shop

only_compiled = pytest.mark.skipif(not compiled.is_compiled(), reason="nothing is compiled on this machine")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project that has nothing but sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("journey", "streams", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "compiled.json"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def run(sources: Path, *arguments: str) -> str:
    environment = {"PYTHONPATH": str(sources), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=sources, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@only_compiled
def test_compiled_and_plain_give_the_same_bytes(sources: Path) -> None:
    assert run(sources, "-c", "from streams import compiled; print(compiled.is_compiled())") == "False"
    assert run(sources, "-m", "tests.properties.shop_journal") == small_shop()


@only_compiled
def test_the_examples_of_compiled_modules_hold(sources: Path) -> None:
    told = run(sources, "-m", "pytest", "-q", "-p", "no:cacheprovider", "journey", "streams/arrivals.py")
    assert " passed" in told


def test_a_build_of_other_sources_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journey").mkdir()
    (tmp_path / "streams").mkdir()
    (tmp_path / "journey/engine.py").write_text("today = 1\n")
    (tmp_path / TOLD).write_text('{"journey/engine.py": "00"}')
    with pytest.raises(StaleBuildError, match=r"journey/engine\.py has changed since it was compiled"):
        compiled.check(tmp_path)


def test_where_nothing_is_compiled_nothing_is_checked(tmp_path: Path) -> None:
    compiled.check(tmp_path)


def test_the_command_runs_anywhere(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("journey")
    done = subprocess.run([command, "--help"], cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
