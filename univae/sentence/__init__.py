"""RoFormer-Sim: sentence vectors, generation of similar sentences, ranking, retrieval."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = ["Ranked", "RoFormerSim", "RoFormerSimConfig"]

if TYPE_CHECKING:
    from univae.sentence.config import RoFormerSimConfig
    from univae.sentence.model import RoFormerSim
    from univae.sentence.ranking import Ranked
else:
    __getattr__, __dir__ = lazy_exports(
        __name__, {"config": ["RoFormerSimConfig"], "model": ["RoFormerSim"], "ranking": ["Ranked"]}
    )
