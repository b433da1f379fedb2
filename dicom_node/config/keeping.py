"""Settings of where everything lies, for how long, and of the queue between processes."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from dicom_node.config.values import Days, Section


class StorageSettings(Section):
    """Where everything lies on disk."""

    folder: Path
    """Spool, ledger and embedded broker; relative paths start at the settings file."""
    ledger_url: str | None = Field(default=None, repr=False)
    """SQLAlchemy URL; an SQLite file in `folder` when absent."""
    ledger_password_file: Path | None = None
    """Holds the password that `ledger_url` lacks."""
    free_space_watermark_mib: int = Field(default=1024, ge=0)
    """Below this much free space images are refused with status A700."""

    @model_validator(mode="after")
    def _password_has_a_url(self) -> Self:
        if self.ledger_password_file is not None and self.ledger_url is None:
            raise ValueError("ledger_password_file needs ledger_url")
        return self


class RetentionSettings(Section):
    """How long images and records are kept after everything is done with them."""

    images_days: Days = 30.0
    """Images of a delivered (and committed, where it must be) series are deleted after so long."""
    skipped_days: Days = 30.0
    """The same for a series that is not one for us."""
    records_days: Days = 365.0
    """Results and records are deleted so long after the images."""


class BrokerSettings(Section):
    """The queue between the listener and the workers."""

    url: Annotated[str, Field(pattern=r"^(rediss?|redis\+socket|sentinel)://")] | None = Field(
        default=None, repr=False
    )
    """Redis URL; absent: the listener starts an embedded server in `storage.folder`."""
    password_file: Path | None = None
    """Holds the password that `url` lacks."""
    sentinel_master: str | None = None
    """Name of the master that the Sentinels of a `sentinel://` URL watch."""

    @model_validator(mode="after")
    def _sentinels_watch_a_master(self) -> Self:
        by_sentinel = self.url is not None and self.url.startswith("sentinel://")
        if by_sentinel != (self.sentinel_master is not None):
            raise ValueError("a sentinel:// URL and sentinel_master need each other")
        return self

    @model_validator(mode="after")
    def _password_has_a_url(self) -> Self:
        if self.password_file is not None and self.url is None:
            raise ValueError("password_file needs url")
        return self
