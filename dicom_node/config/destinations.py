"""Settings of where results go, and how often a PACS that does not answer is tried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from dicom_node.config.values import AETitle, ObjectName, Seconds, Section


class WebSettings(Section):
    """A PACS that is reached over DICOMweb (PS3.18)."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]
    """Root of the services, such as https://pacs/dicom-web."""
    user: str | None = None
    """For basic authentication, with `secret_file`."""
    secret_file: Path | None = None
    """File with the password of `user`; without `user`, with a bearer token."""
    ca_file: Path | None = None
    """Certificates that the server's must stem from; the system's when absent."""


class CommitmentSettings(Section):
    """Storage commitment: results count as delivered when the PACS has taken responsibility."""

    ae_title: AETitle | None = None
    """Called AE title for the request; that of the destination when absent."""
    host: str | None = None
    """Host name or address for the request; that of the destination when absent."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """TCP port for the request; that of the destination when absent."""
    timeout_s: Seconds = 3600.0
    """Without a report after so long the results are stored and asked about again."""


class DestinationSettings(Section):
    """A PACS that gets the results, by C-STORE or, when `web` is given, by STOW-RS."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    """Short name for the ledger and the command line."""
    ae_title: AETitle = ""
    """Called AE title."""
    host: str = ""
    """Host name or address."""
    port: Annotated[int, Field(ge=1, le=65535)] = 0
    """TCP port."""
    tls: bool = False
    """Connect with TLS; needs `[tls]`."""
    tls_name: str | None = None
    """Name that its certificate must show; `host` when absent."""
    web: WebSettings | None = None
    """Takes the place of AE title, host and port."""
    objects: tuple[ObjectName, ...] = ("seg", "sr", "key_image")
    """Result objects that it gets."""
    instead: Mapping[ObjectName, ObjectName] = Field(default_factory=dict)
    """What it gets instead of an object that it refused."""
    commitment: CommitmentSettings | None = None
    """Ask for storage commitment; acceptance is enough when absent."""

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        dimse = bool(self.ae_title and self.host and self.port)
        if dimse == (self.web is not None) or (self.web and (self.ae_title or self.host)):
            raise ValueError(
                f"destination {self.name} needs ae_title, host and port, or web, and not both"
            )
        if self.web is not None and self.commitment is not None:
            raise ValueError(f"destination {self.name}: DICOMweb knows no storage commitment")
        return self


class PriorsSettings(Section):
    """A PACS that is asked for earlier results of a patient."""

    destination: str
    """One of `[[destinations]]`, which is asked in the way that it gets results."""
    ae_title: AETitle | None = None
    """Called AE title for queries; that of the destination when absent."""
    host: str | None = None
    """Host name or address for queries; that of the destination when absent."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """TCP port for queries; that of the destination when absent."""
    patience_s: Seconds = 60.0
    """A series goes on without earlier results when the PACS has not answered within so long."""


class DeliverySettings(Section):
    """How often a PACS that does not answer is tried again."""

    first_wait_s: Seconds = 30.0
    """Wait after the first failure; doubles with each further one."""
    longest_wait_s: Seconds = 1800.0
    """The doubling stops here."""
    give_up_after_s: Seconds = 86400.0
    """Age of a delivery at which it is given up."""
    timeout_s: Seconds = 30.0
    """How long a PACS may take to answer."""
