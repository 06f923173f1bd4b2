"""The methods of estimating log p(x), and their options.

A new method is an :class:`experiments.evaluation.estimators.Estimator`, a function that builds it
from the options, and one row of :data:`METHODS` with the options that it reads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from typing_extensions import Doc

from density.estimation.annealing_path import Start
from experiments.evaluation.annealing import Annealing
from experiments.evaluation.automatic import Automatic
from experiments.evaluation.estimators import Estimator, Importance
from experiments.evaluation.proposals import PROPOSALS, ProposalName, proposal
from experiments.evaluation.simulated import Simulation
from experiments.evaluation.until_precise import FEWEST_FIRST, UntilPrecise
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import Rule, above, at_least, check

__all__ = ["METHODS", "Estimation", "Method", "MethodName"]


@dataclass(frozen=True)
class Method:
    """A row of :data:`METHODS`."""

    summary: str
    options: tuple[str, ...]  # of Estimation that it reads
    estimator: Callable[["Estimation"], Estimator]


def _importance(options: "Estimation") -> Estimator:
    if PROPOSALS[options.proposal].decides:
        return Automatic(options.samples, options.standard_error, options.limit_samples)
    settings = {"width": options.width, "degrees": options.degrees}
    if options.standard_error is None:
        return Importance(options.samples, options.proposal, settings)
    return UntilPrecise(
        options.samples,
        options.standard_error,
        options.limit_samples,
        options.proposal,
        settings,
    )


def _annealing(options: "Estimation") -> Estimator:
    return Annealing(options.annealing_steps, options.chains, options.start)


CHAINS = ("annealing_steps", "chains", "start")  # options that --sandwich reads, too
METHODS: Mapping[str, Method] = {
    "importance": Method(
        "independent samples, fast",
        ("samples", "proposal", "width", "degrees", "standard_error", "limit_samples"),
        _importance,
    ),
    "annealed": Method(
        "chains along a path of densities, for posteriors that fit badly (Gaussian latents)",
        CHAINS,
        _annealing,
    ),
}

if TYPE_CHECKING:
    MethodName: TypeAlias = str
else:
    MethodName = Literal[tuple(METHODS)]


@dataclass(frozen=True, kw_only=True)
class Estimation:
    """The options of an estimate of log p(x)."""

    method: Annotated[MethodName, Doc(choices_help("method of estimation", METHODS))] = "importance"
    samples: int = 128  # importance samples per datum; more lower the standard error
    proposal: Annotated[ProposalName, Doc(choices_help("proposal distribution", PROPOSALS))] = (
        "auto"
    )
    # with --proposal widened, student, sobol, refined, newton: factor of the posterior's spread; by
    # default 1.2 for widened and sobol, 1.1 for newton, 1 for student and refined
    width: float | None = None
    degrees: float | None = None  # with --proposal student: degrees of freedom; by default 5
    # nats per datum: as many samples as each datum needs for this error, from --samples up to
    # --limit-samples
    standard_error: float | None = None
    limit_samples: int = 65536  # with --standard-error: most importance samples per datum
    annealing_steps: int = 50  # with --method annealed or --sandwich: densities from start to end
    chains: int = 16  # with --method annealed or --sandwich: chains per datum
    # with --method annealed or --sandwich: first density of the chains, prior or posterior
    start: Start = "posterior"
    sandwich: int = 0  # data to simulate from the model and bound from below and above; 0: none

    RULES: ClassVar[Mapping[str, Rule]] = {
        "samples": at_least(1, 10**8),
        "width": above(0, 1e6),
        "degrees": above(0, 1e6),
        "standard_error": above(0, 1e6),
        "limit_samples": at_least(1, 10**8),
        "annealing_steps": at_least(2, 10**6),
        "chains": at_least(2, 4096),
        "sandwich": at_least(0, 10**6, "0 (none) or more"),
    }

    def __post_init__(self) -> None:
        check(self)
        self._refuse_unread()
        proposal(self.proposal, {"width": self.width, "degrees": self.degrees})
        error = self.standard_error
        if error is None and self.limit_samples != Estimation.limit_samples:
            raise InputError(
                f"--limit-samples is for --standard-error; got --limit-samples "
                f"{self.limit_samples} alone; leave it out"
            )
        if error is not None and not FEWEST_FIRST <= self.samples <= self.limit_samples:
            raise InputError(
                f"--standard-error starts from --samples, which must lie between {FEWEST_FIRST} "
                f"(fewer have no k-hat) and --limit-samples {self.limit_samples}; "
                f"got --samples {self.samples}"
            )

    @property
    def estimator(self) -> Estimator:
        """The method with its settings."""
        return METHODS[self.method].estimator(self)

    @property
    def simulation(self) -> Simulation | None:
        """The sandwich of ``--sandwich``, if it is asked for."""
        if not self.sandwich:
            return None
        return Simulation(self.sandwich, self.annealing_steps, self.chains, self.start)

    def _refuse_unread(self) -> None:
        """Raise InputError for an option of another method that is not at its default."""
        readers: dict[str, list[str]] = {}
        for name, method in METHODS.items():
            for option in method.options:
                readers.setdefault(option, []).append(f"--method {name}")
        for option in CHAINS:
            readers[option].append("--sandwich")

        chosen = {f"--method {self.method}"} | ({"--sandwich"} if self.sandwich else set())
        for field in fields(Estimation):
            value = getattr(self, field.name)
            owners = readers.get(field.name, [*chosen])
            if value != field.default and chosen.isdisjoint(owners):
                option = f"--{field.name.replace('_', '-')}"
                raise InputError(
                    f"{option} is for {' or '.join(owners)}; got {option} {value} "
                    f"with --method {self.method}; leave it out"
                )
