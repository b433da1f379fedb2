"""What every finder of a level can do."""

from typing import Protocol

from pipeline.types import AnatomicLevel, CTVolume, ModelIdentity


class LevelFinder(Protocol):
    """Finds the slice of one anatomic level."""

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The weights that the answer rests on; empty when a person chose the slice."""
        ...

    def find(self, volume: CTVolume) -> AnatomicLevel:
        """Find the level in ``volume``.

        Parameters
        ----------
        volume : CTVolume

        Raises
        ------
        LevelNotCoveredError
            The level lies outside the volume.
        LevelUncertainError
            The volume may contain the level, but which vertebra it is remains open.
        SliceNotInSeriesError
            A slice that a person chose is not in the volume.
        """
        ...
