"""Orders the series of a study by how well they suit the measurement."""

from collections.abc import Mapping, Sequence

from pydicom.dataset import Dataset

from pipeline.errors import UnsupportedSeriesError
from pipeline.objects.eligibility import check_eligibility


def preferred_order(
    series: Mapping[str, Sequence[Dataset]],
) -> list[tuple[str, Sequence[Dataset]]]:
    """Order series, the most suitable first.

    Series that headers alone rule out come last; among the others, the one with more images covers
    more of the body or has thinner slices.

    Parameters
    ----------
    series : Mapping
        Objects by Series Instance UID.

    Returns
    -------
    list of (Series Instance UID, objects)
    """
    return sorted(series.items(), key=lambda item: (_ruled_out(item[1]), -len(item[1]), item[0]))


def _ruled_out(datasets: Sequence[Dataset]) -> bool:
    try:
        check_eligibility(datasets, fewest_slices=1)
    except UnsupportedSeriesError:
        return True
    return False
