"""Takes single- and multi-frame images apart into one flat header for each image plane."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.config import IGNORE
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from pipeline.objects.attributes import DAMAGE, number, text, texts

CT_SOP_CLASSES: Final = frozenset(
    {CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
)

_MAX_FRAMES: Final = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image plane.

    Parameters
    ----------
    dataset : Dataset
        The object that holds it.
    header : Dataset
        Its attributes in one level: of a multi-frame object, the functional groups are merged
        (PS3.3 C.7.6.16), those of the frame over those shared by all.
    index : int or None
        Zero-based position in a multi-frame object.
    """

    dataset: Dataset
    header: Dataset
    index: int | None

    @property
    def image_type(self) -> tuple[str, ...]:
        """Image Type of the object with what Frame Type says of this frame, in capitals."""
        # An enhanced object as a whole may be MIXED; its frames know better.
        keyword = "FrameType" if "FrameType" in self.header else "ImageType"
        return tuple(value.upper() for value in texts(self.header, keyword))


def sop_class_uid(dataset: Dataset) -> UID:
    """Return SOP Class UID, from the file meta information where the object left it empty."""
    found = text(dataset, "SOPClassUID") or _meta(dataset, "MediaStorageSOPClassUID")
    return UID(found, validation_mode=IGNORE)


def sop_instance_uid(dataset: Dataset) -> str:
    """Return SOP Instance UID, from the file meta information where the object left it empty."""
    return text(dataset, "SOPInstanceUID") or _meta(dataset, "MediaStorageSOPInstanceUID")


def frames_of(datasets: Iterable[Dataset]) -> list[Frame]:
    """List every image plane of the objects; headers are enough.

    A plane whose functional groups cannot be read keeps what could be read.
    """
    return [frame for dataset in datasets for frame in _frames(dataset)]


def _frames(dataset: Dataset) -> list[Frame]:
    groups = _items(dataset, "PerFrameFunctionalGroupsSequence")
    if not groups:
        return [Frame(dataset, dataset, None)]
    shared = Dataset()
    for keyword in ("ImageType", "Rows", "Columns", "AcquisitionNumber", "FrameOfReferenceUID"):
        if keyword in dataset:
            shared[keyword] = dataset[keyword]
    for item in _items(dataset, "SharedFunctionalGroupsSequence")[:1]:
        _merge(shared, item)
    count = int(number(dataset, "NumberOfFrames") or len(groups))
    frames = []
    for index, group in enumerate(groups[: min(count, _MAX_FRAMES)]):
        header = Dataset()
        header.update(shared)
        _merge(header, group)
        frames.append(Frame(dataset, header, index))
    return frames


def _merge(header: Dataset, group: Dataset) -> None:
    try:
        for macro in group:
            if macro.VR == "SQ" and macro.value:
                header.update(macro.value[0])
    except DAMAGE:
        return  # what is missing now is asked for by name later


def _items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    try:
        return dataset.get(keyword) or ()
    except DAMAGE:
        return ()


def _meta(dataset: Dataset, keyword: str) -> str:
    meta = getattr(dataset, "file_meta", None)
    return "" if meta is None else text(meta, keyword)
