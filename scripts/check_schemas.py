"""Two chores of ``schemas/``, run from the project's root.

``python -m scripts.check_schemas record`` adds the SHA-256 of new examples to
``examples/SHA256SUMS``: from then on they may not change.
``python -m scripts.check_schemas release`` copies today's schemas to
``baseline/``: from then on they may only change compatibly.

Both refuse, with exit status 1, when something recorded or released before
would be broken.
"""

from __future__ import annotations

import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.schemas.compatibility import incompatibilities

FOLDER: Final = Path(__file__).parents[1] / "schemas"


def record(folder: Path) -> list[str]:
    """Add the sums of new examples; return the recorded ones that were edited or removed, then nothing is written."""
    examples = folder / "examples"
    sums = examples / "SHA256SUMS"
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.exists() else []
    known = {path: digest for digest, path in (line.split("  ", 1) for line in lines)}
    today = {
        path.relative_to(examples).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in examples.glob("*/*.json")
    }
    broken = [path for path, digest in known.items() if today.get(path) != digest]
    if not broken:
        sums.write_text("".join(f"{today[path]}  {path}\n" for path in sorted(today)), encoding="utf-8")
    return broken


def release(folder: Path) -> list[str]:
    """Copy the schemas to the baseline; return what would break a released one, then nothing is copied."""
    baseline = folder / "baseline"
    broken = []
    for path in sorted(baseline.glob("*.json")):
        if not (folder / path.name).exists():
            broken.append(f"{path.name}: removed")
            continue
        old, new = (json.loads(file.read_text(encoding="utf-8")) for file in (path, folder / path.name))
        broken += [f"{path.name}{found}" for found in incompatibilities(old, new)]
    if not broken:
        baseline.mkdir(exist_ok=True)
        for path in folder.glob("*.json"):
            shutil.copyfile(path, baseline / path.name)
    return broken


def main(arguments: list[str]) -> int:
    """Run one chore; return the exit status."""
    chores = {"record": record, "release": release}
    if len(arguments) != 1 or arguments[0] not in chores:
        sys.stderr.write(f"usage: python -m scripts.check_schemas {'|'.join(chores)}\n")
        return 2
    broken = chores[arguments[0]](FOLDER)
    sys.stderr.write("".join(f"{line}\n" for line in broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
