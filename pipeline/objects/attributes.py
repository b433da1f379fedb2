"""Reads single attributes from headers that may be damaged.

pydicom converts a value when it is asked for, so a damaged value raises far from the file.
"""

import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from pipeline.errors import MissingAttributeError

DAMAGE: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom and the decoders raise on bytes that are not what they claim to be."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom from warning and logging about odd values: it quotes them.

    A patient's data must not reach a log; what matters is raised or checked.
    """
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def text(dataset: Dataset, keyword: str) -> str:
    """Return a value as text without padding, empty when absent or unreadable."""
    try:
        with quiet():
            value = dataset.get(keyword)
    except DAMAGE:
        return ""
    return "" if value is None else str(value).strip(" \0")


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return all values of an attribute as text without padding."""
    try:
        with quiet():
            value = dataset.get(keyword)
    except DAMAGE:
        return ()
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value.strip(" \0"),)
    try:
        return tuple(str(one).strip(" \0") for one in value)
    except TypeError:
        return (str(value).strip(" \0"),)


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return a finite value, ``None`` when absent, multiple or unreadable."""
    values = texts(dataset, keyword)
    if len(values) != 1:
        return None
    try:
        value = float(values[0])
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def required_numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """Return exactly ``count`` values.

    Raises
    ------
    MissingAttributeError
        The attribute is absent, has another number of values, or one that is no number.
    """
    values = texts(dataset, keyword)
    try:
        found = tuple(float(value) for value in values)
    except ValueError:
        found = ()
    if len(found) != count:
        raise MissingAttributeError(
            f"{keyword} must hold {count} numbers and holds {len(found)}"
            if found or not values
            else f"{keyword} holds a value that is no number"
        )
    return found


def required_number(dataset: Dataset, keyword: str) -> float:
    """Return the only value of an attribute.

    Raises
    ------
    MissingAttributeError
    """
    return required_numbers(dataset, keyword, 1)[0]


def required_text(dataset: Dataset, keyword: str) -> str:
    """Return a value that is not empty.

    Raises
    ------
    MissingAttributeError
    """
    value = text(dataset, keyword)
    if not value:
        raise MissingAttributeError(f"{keyword} is absent or empty")
    return value
