"""The shell of every page: what it loads, and that its colours can be read."""

import itertools
import re

import pytest

from parity.report.shell import ASSETS, fill, html_page

STYLE = (ASSETS / "shell.css").read_text(encoding="utf-8")
INKS = ("ink", "soft", "accent", "good", "warn", "bad")
GROUNDS = ("ground", "card", "tint")


def colours(scheme):
    """The colours of the stylesheet by name, in light, in dark or on paper."""
    starts = {"light": ":root", "dark": "@media screen and (prefers-color-scheme: dark)", "print": "@media print"}

    def block(start):
        inside = STYLE[STYLE.index(start) :]
        return dict(re.findall(r"--(\w+): (#[0-9a-f]+);", inside[: inside.index("}")]))

    return block(starts["light"]) | block(starts[scheme])


def luminance(colour):
    """Relative luminance as the Web Content Accessibility Guidelines define it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_black_and_white():
    assert contrast("#000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_every_ink_can_be_read_on_every_ground(scheme):
    found = colours(scheme)
    for ink, ground in itertools.product(INKS, GROUNDS):
        assert contrast(found[ink], found[ground]) >= 4.5, (ink, ground)
    assert contrast(found["ink"], found["mark"]) >= 4.5


def test_a_page_may_load_nothing():
    page = html_page("A title", "<p>Words</p>")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert "script-src" not in rules
    assert not re.search(r"@import|url\(|https?:", page)


def test_scripts_run_where_they_are_asked_for():
    assert "script-src 'unsafe-inline'" in html_page("A title", "", scripts=True)


def test_a_title_is_text():
    assert "<title>1 &lt; 2 &amp; so on</title>" in html_page("1 < 2 & so on", "")


def test_the_rules_of_a_page_follow_those_of_the_shell():
    page = html_page("A title", "<p>Words</p>", "p { color: red }")
    style = page[page.index("<style>") : page.index("</style>")]
    assert style.index("box-sizing") < style.index("p { color: red }")
    assert page.index("</style>") < page.index("<p>Words</p>")


def test_braces_in_a_part_are_left_alone():
    assert fill("{{a}} {{b.js}}", {"a": "{{b.js}}", "b.js": "{{a}}"}) == "{{b.js}} {{a}}"
    assert "<p>{{title}}</p>" in html_page("A title", "<p>{{title}}</p>")


def test_a_part_that_is_missing():
    with pytest.raises(KeyError, match=r"b\.js"):
        fill("{{a}} {{b.js}}", {"a": ""})
