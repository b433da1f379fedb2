import numpy as np
import pytest

from pipeline.errors import SliceNotInSeriesError
from pipeline.level.given import GivenSlice
from pipeline.types import CTVolume, SliceSource


def _volume(sources: tuple[SliceSource, ...]) -> CTVolume:
    return CTVolume(np.zeros((len(sources), 2, 2), np.int16), np.eye(4), sources, "1.2.3")


def test_chosen_slice_is_taken_with_full_confidence() -> None:
    level = GivenSlice("1.5").find(_volume((SliceSource("1.4"), SliceSource("1.5"))))
    assert (level.name, level.slice_index, level.confidence) == ("L3", 1, 1.0)
    assert level.evidence == ("the slice was chosen by a person",)


def test_frame_of_a_multiframe_image_can_be_chosen() -> None:
    volume = _volume((SliceSource("1.4", 2), SliceSource("1.4", 1)))
    assert GivenSlice("1.4", 1).find(volume).slice_index == 1


def test_slice_of_another_series_is_refused_with_its_uid() -> None:
    with pytest.raises(SliceNotInSeriesError, match=r"1\.2\.3 is SOP instance 1\.9"):
        GivenSlice("1.9").find(_volume((SliceSource("1.4"),)))


def test_no_model_took_part() -> None:
    assert GivenSlice("1.4").models == ()
