"""What settings sections are made of: kinds of values, and the section itself."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# PS3.5 table 6.2-1: at most 16 characters of the default repertoire without backslash; spaces at
# either end mean nothing.
AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[\x20-\x5b\x5d-\x7e]{1,16}$")
]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Days = Annotated[float, Field(ge=0)]
ObjectName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Section(BaseModel):
    """A frozen part of the settings; the string below a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
