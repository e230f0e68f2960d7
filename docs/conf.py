"""Builds the documentation: python -m sphinx docs DIR."""

import re
from importlib.metadata import version as installed

import parity

project = "refnet"
author = "The refnet maintainers"
release = version = installed("refnet")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
pygments_dark_style = "monokai"
html_title = "refnet"
html_static_path = ["static"]
html_css_files = ["narrow.css"]
html_extra_path = ["worked-example.html"]
html_show_sourcelink = False
html_show_copyright = False
exclude_patterns = ["_build"]
suppress_warnings = ["misc.highlighting_failure"]  # examples of JSON with parts left out
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Example|Examples):$")


def _inline(text):
    """Plain text as reStructuredText: `code` stays code, and no other character has a meaning."""
    parts = re.split(r"(`[^`\n]+`)", text)
    marked = [f"`{p}`" if p.startswith("`") else re.sub(r"([\\*|_`])", r"\\\1", p) for p in parts]
    return "".join(marked).replace("``` ", "`` ")


def _depth(line):
    return len(line) - len(line.lstrip())


def plain_docstring(app, what, name, obj, options, lines):
    """Docstrings are plain text: paragraphs, indented equations, and sections of `name: what it is`."""
    made, inside, within_section = [], False, False
    for line in lines:
        text, depth = line.strip(), _depth(line)
        if not text:
            made.append("")
            inside = False
            continue
        if depth == 0 and (match := SECTION.fullmatch(text)):
            made += [f"**{match[1]}**", ""]
            within_section = True
            continue
        within_section = within_section and depth > 0
        if within_section:
            entry = re.match(r"([\w*., `]+?): (.*)", text) if depth == 4 else None
            if entry:
                made += ["", f"- {_inline(entry[1])}: {_inline(entry[2])}"]
            else:
                made.append(f"  {_inline(text)}" if made and made[-1] else _inline(text))
        elif depth >= 4:
            if not inside:
                made += ["", "::", ""]
                inside = True
            made.append(f"    {line}")
        else:
            if inside:
                made.append("")
                inside = False
            made.append(("  " if re.match(r"- ", text) is None and depth else "") + _inline(text))
    lines[:] = made


def default_of_a_field(app, what, name, obj, skip, options):
    """A dataclass's default that is a class, such as `tuple`, is no member of the class: leave it out."""
    return True if what == "class" and obj in (tuple, list, dict) else None


def import_names():
    """The names that parity imports when they are first used: autodoc lists what a module holds already."""
    for name in parity.__all__:
        setattr(parity, name, getattr(parity, name))


def setup(app):
    import_names()
    app.connect("autodoc-process-docstring", plain_docstring)
    app.connect("autodoc-skip-member", default_of_a_field)
