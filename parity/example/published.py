"""The figures of the worked example that were printed, digit for digit, and where."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Published:
    """A figure in print.

    Attributes:
        key: the figure that it is said to be. text: digit for digit. source: where it is printed, a key of SOURCES.
    """

    key: str
    text: str
    source: str

    @property
    def unit(self) -> Fraction:
        """One in its last digit."""
        return Fraction(10) ** -len(self.text.partition(".")[2])

    @property
    def value(self) -> Fraction:
        return Fraction(self.text)


SOURCES = {
    "article": 'the article, "Backpropagation Algorithm in Neural Network", whose printed formulas are missing',
    "original": 'what it retells: M. Mazur, "A Step by Step Backpropagation Example", mattmazur.com, 2015',
    "copies": "other copies of the original",
}

PUBLISHED = tuple(
    Published(key, text, source)
    for source, figures in (
        (
            "article",
            (
                ("out_h2", "0.596884378"),
                ("out_o1", "0.75136507"),
                ("out_o2", "0.772928465"),
                ("E_o1", "0.27481108"),
                ("E_o1", "0.274811083"),
                ("E_o2", "0.023560026"),
                ("E", "0.298371109"),
                ("E@1", "0.291027924"),
                ("E@10000", "0.0000351085"),
                ("out_o1@10000", "0.015912196"),
                ("out_o2@10000", "0.984065734"),
            ),
        ),
        (
            "original",
            (
                ("net_h1", "0.3775"),
                ("out_h1", "0.593269992"),
                ("net_o1", "1.105905967"),
                ("dE/dout_o1", "0.74136507"),
                ("dout_o1/dnet_o1", "0.186815602"),
                ("dE/dnet_o1", "0.138498562"),
                ("dnet_o1/dw5", "0.593269992"),
                ("dE/dw5", "0.082167041"),
                ("dnet_o1/dout_h1", "0.40"),
                ("dE_o1/dout_h1", "0.055399425"),
                ("dE_o2/dout_h1", "-0.019049119"),
                ("dE/dout_h1", "0.036350306"),
                ("dout_h1/dnet_h1", "0.241300709"),
                ("dnet_h1/dw1", "0.05"),
                ("dE/dw1", "0.000438568"),
                ("w1@1", "0.149780716"),
                ("w2@1", "0.19956143"),
                ("w3@1", "0.24975114"),
                ("w4@1", "0.29950229"),
                ("w5@1", "0.35891648"),
                ("w6@1", "0.408666186"),
                ("w7@1", "0.511301270"),
                ("w8@1", "0.561370121"),
            ),
        ),
        ("copies", (("E@10000", "0.000035085"),)),
    )
    for key, text in figures
)
"""Printed figures, digit for digit."""
