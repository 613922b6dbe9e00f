"""Draws docs/images/first-hour.svg from the terminal that tests/hosts/test_first_hour.py recorded in first-hour.txt.

.venv/bin/python scripts/draw_screens.py
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
RECORDED, PICTURE = IMAGES / "first-hour.txt", IMAGES / "first-hour.svg"
_COLUMNS = 100
_FROM_ELSEWHERE = re.compile(r"@font-face \{.*?\}|<!--.*?-->", re.DOTALL)
"""What would load fonts from the internet, or names a site."""


def drawn(recorded: str) -> str:
    """Return the picture of a terminal with this text. Lines that begin with `$ ` are what the user typed."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    for line in recorded.splitlines():
        console.print(Text(line, style="bold green" if line.startswith("$ ") else ""), soft_wrap=True)
    svg = console.export_svg(title="the first hour with nqr", unique_id="first-hour")
    return "".join(f"{line.rstrip()}\n" for line in _FROM_ELSEWHERE.sub("", svg).splitlines())


if __name__ == "__main__":
    PICTURE.write_text(drawn(RECORDED.read_text(encoding="utf-8")), encoding="utf-8")
