"""A slice that a person chose."""

from dataclasses import dataclass

from pipeline.errors import SliceNotInSeriesError
from pipeline.types import AnatomicLevel, CTVolume, ModelIdentity


@dataclass(frozen=True, slots=True)
class GivenSlice:
    """Takes the slice with a given SOP Instance UID as L3.

    Parameters
    ----------
    sop_instance_uid : str
        Of the stored image.
    frame_number : int or None
        One-based, of a multi-frame image; ``None`` takes the first slice of that image.
    """

    sop_instance_uid: str
    frame_number: int | None = None

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """No model took part."""
        return ()

    def find(self, volume: CTVolume) -> AnatomicLevel:
        """Look the slice up.

        Parameters
        ----------
        volume : CTVolume

        Raises
        ------
        SliceNotInSeriesError
            No slice of ``volume`` comes from that image and frame.
        """
        for index, source in enumerate(volume.sources):
            same_frame = self.frame_number in {None, source.frame_number}
            if source.sop_instance_uid == self.sop_instance_uid and same_frame:
                return AnatomicLevel(
                    "L3", index, confidence=1.0, evidence=("the slice was chosen by a person",)
                )
        raise SliceNotInSeriesError(
            f"no slice of series {volume.series_instance_uid} is SOP instance "
            f"{self.sop_instance_uid}"
            + ("" if self.frame_number is None else f", frame {self.frame_number}")
        )
