"""A comparison as a file for programs and papers: CSV, JSON or LaTeX."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from experiments.reports.comparison import Compared

__all__ = ["WRITERS"]

# Characters that LaTeX reads as commands -> how they are written.
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "·": r"$\cdot$",
    "−": "$-$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
EXPONENT = re.compile(r"e([-+]?\d+)")
SPECIAL = re.compile("|".join(map(re.escape, LATEX)))


def csv_text(values: Sequence[Compared]) -> str:
    """Return a line for each metric of each group, with the names of the columns above."""
    file = io.StringIO(newline="")
    names = [field.name for field in fields(Compared)]
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    for value in values:
        row = value.to_json()
        row["best"] = str(value.best).lower()
        writer.writerow(row)
    return file.getvalue()


def json_text(values: Sequence[Compared]) -> str:
    """Return a list of objects, one for each metric of each group."""
    rows = [value.to_json() for value in values]
    return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"


def latex_text(values: Sequence[Compared]) -> str:
    """Return a ``tabular``: a line for each metric, a column for each group, the best in bold."""
    groups = list(dict.fromkeys(value.group for value in values))
    counts = {group: max(v.count for v in values if v.group == group) for group in groups}
    heads = [f"{_latex(group)} ({counts[group]})" for group in groups]
    lines = [
        f"\\begin{{tabular}}{{l{'r' * len(groups)}}}",
        "\\hline",
        " & ".join(["metric (number of runs)", *heads]) + " \\\\",
        "\\hline",
    ]
    for key in dict.fromkeys(value.metric for value in values):
        of_group = {value.group: value for value in values if value.metric == key}
        label = next(iter(of_group.values())).row.titled
        cells = [_latex_cell(of_group.get(group)) for group in groups]
        lines.append(" & ".join([_latex(label), *cells]) + " \\\\")
    return "\n".join([*lines, "\\hline", "\\end{tabular}", ""])


# Option of ``univae compare`` -> the text of its file.
WRITERS: Mapping[str, Callable[[Sequence[Compared]], str]] = {
    "csv": csv_text,
    "latex": latex_text,
    "json": json_text,
}


def _latex_cell(value: Compared | None) -> str:
    if value is None:
        return ""
    number = EXPONENT.sub(r" \\cdot 10^{\1}", value.text)
    number = number.replace(",", "{,}").replace("±", "\\pm")
    return f"$\\mathbf{{{number}}}$" if value.best else f"${number}$"


def _latex(text: str) -> str:
    return SPECIAL.sub(lambda match: LATEX[match.group()], text)
