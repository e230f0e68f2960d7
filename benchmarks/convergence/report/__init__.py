"""The study's figures and its page, from the tables alone."""

from __future__ import annotations

from pathlib import Path

from refnet.files import write_bytes


def write(folder: Path) -> None:
    """Draw `folder`/figures/*.png and *.svg and write `folder`/report.html, from what `folder`/tables holds.

    The page is one file that asks for nothing from anywhere. Every file appears whole or not at all, and equal tables
    give equal bytes.

    Raises:
        ValueError: a table is missing, damaged or empty where each study has rows, or has other columns.
    """
    from benchmarks.convergence import recorded_study, study_tables
    from benchmarks.convergence.figures import figures, style
    from benchmarks.convergence.report import study_page

    study = recorded_study.read(folder / "tables")
    (folder / "figures").mkdir(exist_ok=True)
    drawn, absent = [], []
    for figure in figures(study):
        if isinstance(figure, style.Absent):
            absent.append(figure)
        else:
            drawn.append(style.save(figure, folder / "figures"))
    files = {name: study_tables.file(folder / "tables", name).name for name in study_tables.COLUMNS}
    write_bytes(folder / "report.html", study_page.build(study, drawn, absent, files).encode())
