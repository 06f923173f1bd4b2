"""The scores of data: arrays with an entry for each datum, means with errors, tables and files."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from density.estimation.mean_errors import error_of_estimates, error_over_data
from univae.atomic_files import replacing_file
from univae.errors import InputError
from univae.trained import Scoring

__all__ = ["Scores"]

Frame: TypeAlias = Any  # of pandas, which is optional
Index: TypeAlias = Any
Rates: TypeAlias = Mapping[str, float | None]

DIGITS = 4  # of a rate in the small table
LABELS = {
    "bits_per_token": "bits per token",
    "bits_per_char": "bits per character",
    "bits_per_dim": "bits per dimension",
    "perplexity_per_word": "perplexity per word",
}


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """Estimates of the log-likelihood of data, in nats; arrays (N,) in the order of the data.

    A datum that is not ``reliable`` has an estimate that is no more than a lower bound.
    """

    log_likelihood: np.ndarray  # estimate of log p(x), in expectation a lower bound
    elbo: np.ndarray  # a bound: with "auto" that of the model's posterior, else of the proposal
    standard_errors: np.ndarray  # of each log_likelihood, to first order
    effective_samples: np.ndarray
    samples: np.ndarray  # importance samples of each
    khat: np.ndarray | None  # Pareto tail index; None below 21 samples, which have none
    reliable: np.ndarray | None  # None where there is no khat
    unit: str  # what a datum is: text, image, row, datum
    proposal: str
    rates: Rates  # bits per token, character or dimension, ...; None where not known
    notes: tuple[str, ...] = ()  # what was assumed, and why a rate is None
    index: Index = None  # that of the Series or DataFrame that was scored
    datum: np.ndarray | None = None  # a number of each, the same for equal data; None: all differ

    @classmethod
    def of(
        cls, columns: Mapping[str, np.ndarray], scoring: Scoring, proposal: str, index: Index
    ) -> "Scores":
        """Return the scores of ``columns`` with the rates of the data."""
        log_likelihood = columns["log_likelihood"]
        has_khat = "reliable" in columns
        return cls(
            log_likelihood=log_likelihood,
            elbo=columns["elbo"],
            standard_errors=columns["standard_error"],
            effective_samples=columns["effective_samples"],
            samples=columns["samples"],
            khat=columns["khat"] if has_khat else None,
            reliable=columns["reliable"] if has_khat else None,
            unit=scoring.unit,
            proposal=proposal,
            rates=scoring.rates(float(log_likelihood.mean())),
            notes=(*scoring.notes(), *_notes(columns)),
            index=index,
            datum=columns["datum"],
        )

    def __len__(self) -> int:
        return len(self.log_likelihood)

    @property
    def count(self) -> int:
        """The number of data."""
        return len(self)

    @property
    def mean(self) -> float:
        """The mean log-likelihood in nats; not finite where a datum has no probability."""
        return float(self.log_likelihood.mean())

    @property
    def standard_error(self) -> float:
        """The standard error of :attr:`mean`, as an estimate for data like these.

        It is the deviation of the estimates over the square root of their number, which holds the
        spread between data and the errors of the estimates, which equal data share
        (:mod:`density.estimation.mean_errors`); at least the error of the estimates alone, which is
        all that is known of a single datum.
        """
        errors = torch.as_tensor(self.standard_errors)
        datum = torch.arange(self.count) if self.datum is None else torch.as_tensor(self.datum)
        of_estimates = error_of_estimates(errors, datum)
        if self.count == 1 or not np.isfinite(self.log_likelihood).all():
            return of_estimates
        values = torch.as_tensor(self.log_likelihood)
        return max(error_over_data(values, errors, datum), of_estimates)

    @property
    def bits(self) -> Rates:
        """The rates in bits: per token and character of texts, per dimension of images and rows."""
        return {name: value for name, value in self.rates.items() if name.startswith("bits")}

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The arrays by the names of the columns in tables, with their units."""
        columns = {
            "log_likelihood_nats": self.log_likelihood,
            "standard_error_nats": self.standard_errors,
            "elbo_nats": self.elbo,
            "effective_samples": self.effective_samples,
            "samples": self.samples,
        }
        if self.khat is not None and self.reliable is not None:
            columns |= {"khat": self.khat, "reliable": self.reliable}
        return columns

    def to_pandas(self) -> Frame:
        """Return a DataFrame with a row for each datum, and the index of the data if they had one.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError(
                "to_pandas: needs pandas; pip install 'univae[tables]', or use .columns"
            ) from error
        return pd.DataFrame(self.columns, index=self.index)

    def to_csv(self, path: str | Path) -> None:
        """Write a .csv file with a row for each datum; it replaces an existing file as a whole.

        Raises:
            InputError: the folder of the file does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise InputError(
                f"to_csv: {path.parent} is no folder to write {path.name} into; create it first"
            )
        index = range(self.count) if self.index is None else list(self.index)
        names = self.columns
        rows = zip(index, *(column.tolist() for column in names.values()), strict=True)
        with (
            replacing_file(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(("index", *names))
            writer.writerows(rows)

    def __repr__(self) -> str:
        """Return a small table: mean log-likelihood, bound, rates and diagnostics."""
        lines = [
            ("log-likelihood", f"{self.mean:.2f} ± {self.standard_error:.2g}", self._per_datum()),
            ("bound (ELBO)", f"{self.elbo.mean():.2f}", self._per_datum()),
        ]
        for name, value in self.rates.items():
            shown = "not known" if value is None else f"{value:,.{DIGITS}g}"
            lines.append((LABELS.get(name, name), shown, ""))
        effective = f"{np.median(self.effective_samples):.1f}"
        lines.append(("effective samples", effective, f"median, of {self._samples()}"))
        if self.reliable is not None:
            doubtful = int((~self.reliable).sum())
            lines.append(("unreliable", str(doubtful), f"of {self.count}: bounds only"))
        title = f"Scores of {self.count} {self._plural()}, proposal {self.proposal}"
        return "\n".join([title, *_aligned(lines)])

    def _per_datum(self) -> str:
        return f"nats/{self.unit}"

    def _plural(self) -> str:
        if self.count == 1:
            return self.unit
        return {"datum": "data"}.get(self.unit, f"{self.unit}s")

    def _samples(self) -> str:
        low = self.samples.min()
        high = self.samples.max()
        return f"{low}" if low == high else f"{low} to {high}"


def _notes(columns: Mapping[str, np.ndarray]) -> list[str]:
    """Return notes on data without a finite estimate."""
    notes = []
    rows = np.flatnonzero(~np.isfinite(columns["log_likelihood"]))
    if len(rows):
        notes.append(
            f"{len(rows)} of {len(columns['log_likelihood'])} data have no finite log-likelihood "
            f"(the first is datum {rows[0]}, from 0): the model gives them no probability"
        )
    if "reliable" not in columns:
        notes.append("khat and reliable are None: they need at least 21 samples")
    return notes


def _aligned(lines: list[tuple[str, str, str]]) -> list[str]:
    first, second, _ = (max(map(len, cells)) for cells in zip(*lines, strict=True))
    return [f"  {a:<{first}}  {b:>{second}}  {c}".rstrip() for a, b, c in lines]
