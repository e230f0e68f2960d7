"""The shell that every HTML page of the project shares: its head, its stylesheet, and what it may load.

A page is one file. It asks for nothing from anywhere, follows the reader's choice of light or dark, and can be printed.
The stylesheet holds the colours, the type, cards, tables and boxes that scroll; a page adds what only it has.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path

ASSETS = Path(__file__).parent


def html_page(title: str, body: str, style: str = "", scripts: bool = False) -> str:
    """A whole HTML document.

    Args:
        title: the title, as text.
        body: what goes between `<body>` and `</body>`, as HTML.
        style: rules of this page's own; they follow those of the shell.
        scripts: whether the page's own script elements may run. Nothing else ever does.
    """
    allowed = {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        **({"script-src": "'unsafe-inline'"} if scripts else {}),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    shell = (ASSETS / "shell.css").read_text(encoding="utf-8")
    parts = {
        "policy": "; ".join(f"{what} {source}" for what, source in allowed.items()),
        "title": html.escape(title),
        "style": "\n".join(rules.strip() for rules in (shell, style) if rules.strip()),
        "body": body.strip(),
    }
    return fill((ASSETS / "shell.html").read_text(encoding="utf-8"), parts)


def fill(template: str, parts: Mapping[str, str]) -> str:
    """`template` with each {{name}} replaced by the part of that name.

    A part is taken as it is: braces inside it are not looked at.

    Raises:
        KeyError: the template names a part that is not given.
    """
    return re.sub(r"\{\{([\w.-]+)\}\}", lambda match: parts[match[1]], template)
