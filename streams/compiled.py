"""Whether the modules every event passes are compiled, and of today's sources. See ``setup.py``."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

import orjson

from journey import engine
from streams.errors import StaleBuildError

ROOT: Final = Path(__file__).parents[1]
TOLD: Final = "streams/compiled.json"


def is_compiled() -> bool:
    """Tell whether the fold runs compiled."""
    return not str(engine.__file__).endswith(".py")


def check(root: Path = ROOT) -> None:
    """Refuse a build whose sources have changed since.

    Raises
    ------
    StaleBuildError
        A source is not the one that was compiled.
    """
    told = root / TOLD
    sources: dict[str, str] = orjson.loads(told.read_bytes()) if told.exists() else {}
    for name, hashed in sources.items():
        source = root / name
        if source.exists() and sha256(source.read_bytes()).hexdigest() != hashed:
            msg = f"{name} has changed since it was compiled: run make setup, or scripts/compile"
            raise StaleBuildError(msg)
