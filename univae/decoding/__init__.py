"""Generation: sampling, beam search, decoders with key/value caches."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = ["Sampling", "Stepper", "beam_search", "generate"]

if TYPE_CHECKING:
    from univae.decoding.beam import beam_search
    from univae.decoding.sampling import Sampling, Stepper, generate
else:
    __getattr__, __dir__ = lazy_exports(
        __name__, {"beam": ["beam_search"], "sampling": ["Sampling", "Stepper", "generate"]}
    )
