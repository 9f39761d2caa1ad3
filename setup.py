"""Builds the package; with ``JOURNEY_COMPILE=1`` the modules every event passes become C extensions, by mypyc.

The sources stay what they are and run as they are where nothing was compiled;
both give the same bytes, and a test compares them. ``streams/compiled.json``
tells which sources were compiled, so that a build older than they is refused.
"""

import json
import os
from hashlib import sha256
from pathlib import Path

from setuptools import setup

MODULES = [
    *(f"journey/{name}.py" for name in (
        "aggregates", "engine", "entries", "events", "ids", "journeys", "learning", "stages", "state", "timers",
        "triggers", "models/base", "models/progress",
    )),
    "streams/arrivals.py",
    "streams/plain.py",
]  # fmt: skip

extensions = []
if os.environ.get("JOURNEY_COMPILE") == "1":
    from mypyc.build import mypycify

    extensions = mypycify(MODULES, opt_level="3")
    told = {name: sha256(Path(name).read_bytes()).hexdigest() for name in MODULES}
    Path("streams/compiled.json").write_text(json.dumps(told, indent=1) + "\n")

setup(ext_modules=extensions)
