"""The registry of stages of a sentence model's training, for ``--stage``."""

from dataclasses import dataclass

from univae.errors import InputError

__all__ = ["STAGES", "Stage"]


@dataclass(frozen=True)
class Stage:
    """A row of :data:`STAGES`."""

    name: str
    summary: str
    reads_labels: bool  # pairs with labels, instead of groups of similar texts
    has_teacher: bool  # the target cosines are those of a teacher's vectors
    smallest_group: int  # fewest texts on a line of --pairs

    def check(self, chunk_size: int, teacher: object) -> None:
        """Check the options that only some stages use.

        Raises:
            InputError: --teacher is missing or not used, or --chunk-size is not used.
        """
        if self.reads_labels and chunk_size:
            stages = " and ".join(stage.name for stage in STAGES.values() if not stage.reads_labels)
            raise InputError(
                f"--chunk-size is an option of {stages}; got chunk_size={chunk_size} with "
                f"--stage {self.name}; leave it out"
            )
        if self.has_teacher != (teacher is not None):
            (one,) = (stage.name for stage in STAGES.values() if stage.has_teacher)
            raise InputError(
                f"--stage {one} needs a --teacher, and no other stage has one; "
                f"got stage={self.name}, teacher={teacher}"
            )


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            name="pretrain",
            summary="generate and contrast the texts of a group",
            reads_labels=False,
            has_teacher=False,
            smallest_group=2,
        ),
        Stage(
            name="distil",
            summary="generate, and fit the cosines of a teacher",
            reads_labels=False,
            has_teacher=True,
            smallest_group=1,
        ),
        Stage(
            name="finetune",
            summary="fit the labels of pairs",
            reads_labels=True,
            has_teacher=False,
            smallest_group=2,
        ),
    )
}
