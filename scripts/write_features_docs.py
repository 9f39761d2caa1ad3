"""Write ``docs/features.md`` from the feature catalogue: ``python -m scripts.write_features_docs``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from journey.features import CATALOGUE

PAGE: Final = Path(__file__).parents[1] / "docs" / "features.md"

_BEGIN: Final = """\
# Features

Named numbers read from a customer's record at a moment of journal time. Written from `journey/features.py` by
`python -m scripts.write_features_docs`; edit the catalogue, not this page.

Fractions are rounded half up to four decimals. No data is `null`, never a made-up number. Money is in minor units.

| feature | meaning | unit | range | late and out-of-order events |
|---|---|---|---|---|
"""
_LAWS: Final = """
The last column is a law number: what the order in which a customer's events arrive does to the feature.

"""


def page() -> str:
    """Return the page as the catalogue has it now."""
    laws = {law: number for number, law in enumerate(dict.fromkeys(one.order for one in CATALOGUE.values()), 1)}
    rows = [
        f"| `{name}` | {one.meaning} | {one.unit} | {one.range} | {laws[one.order]} |\n"
        for name, one in CATALOGUE.items()
    ]
    return _BEGIN + "".join(rows) + _LAWS + "".join(f"{number}. {law}\n" for law, number in laws.items())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
