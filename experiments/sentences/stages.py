"""The stages of a sentence model's training, and what each of them reads."""

from dataclasses import dataclass

from univae.errors import InputError

__all__ = ["STAGES", "Stage"]


@dataclass(frozen=True)
class Stage:
    """What a stage of training needs."""

    name: str
    summary: str
    reads_labels: bool  # pairs with labels, instead of groups of similar texts
    has_teacher: bool  # cosines are those of a teacher's vectors
    smallest_group: int  # texts on a line of --pairs

    def check(self, chunk_size: int, gather: bool, teacher: object) -> None:
        """Refuse options that the stage has no use for.

        Raises:
            InputError: a teacher is missing or not wanted, or labelled pairs are to be chunked.
        """
        if self.reads_labels and (chunk_size or gather):
            others = " and ".join(stage.name for stage in STAGES.values() if not stage.reads_labels)
            raise InputError(
                f"--chunk-size and --gather are of {others}; "
                f"got chunk_size={chunk_size}, gather={gather}; leave them out"
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
        Stage("pretrain", "write and contrast the texts of a group", False, False, 2),
        Stage("distil", "write, and imitate the cosines of a teacher", False, True, 1),
        Stage("finetune", "learn from labelled pairs", True, False, 2),
    )
}
