"""Settings of who may send, how images come in, and when a series is complete."""

from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from dicom_node.config.destinations import WebSettings
from dicom_node.config.values import AETitle, Port, Seconds, Section


class Service(StrEnum):
    """What a peer may ask for."""

    STORE = "store"
    """Storage of images."""
    ECHO = "echo"
    """Verification."""
    NOTIFY = "notify"
    """News: reports of storage commitment and whatever else is no image."""


class ListenerSettings(Section):
    """The application entity that receives images."""

    ae_title: AETitle = "PSOAS"
    """Called AE title that peers must use."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `[[sources]]`."""
    port: Port = 11112
    """TCP port; 0 lets the system choose one."""
    maximum_associations: int = Field(default=25, ge=1)
    """Associations served at the same time."""
    association_timeout_s: Seconds = 5.0
    """How long a peer may take to send its A-ASSOCIATE-RQ."""
    network_timeout_s: Seconds = 60.0
    """How long a peer may stay silent within an association, and how long one PDU may take."""
    association_lifetime_s: Seconds = 14400.0
    """An association is aborted after this long, whatever it does."""
    connections_per_address: int = Field(default=16, ge=1)
    """Of one address, without an association request yet; one more ends the oldest."""
    largest_instance_mib: int = Field(default=1024, ge=1)
    """A longer message ends its association."""
    stop_grace_s: Seconds = 5.0
    """How long open associations may go on after the order to stop."""


class TlsSettings(Section):
    """TLS by BCP 195 (PS3.15 B.12); relative paths start at the settings file."""

    certificate: Path
    """Our certificate, with those between it and its authority (PEM)."""
    private_key: Path
    """Its key (PEM)."""
    password_file: Path | None = None
    """Holds the password of the key; a key without one when absent."""
    authorities: Path
    """Authorities that the certificates of peers must come from (PEM)."""
    port: Port = 2762
    """TCP port for secure associations; another than `listener.port`."""
    only: bool = False
    """Serve no port in the clear."""
    warn_days: int = Field(default=30, ge=0)
    """`psoas check` and the log warn so many days before our certificate expires."""


class CompletionSettings(Section):
    """When a series counts as complete. Association release is only a hint (PS3.4 B.4)."""

    quiet_after_release_s: Seconds = 10.0
    """Quiet time after the last image once its association was released."""
    quiet_s: Seconds = 60.0
    """Quiet time after the last image while the association is open or was aborted."""
    cap_s: Seconds = 900.0
    """A series that never falls quiet is closed this long after its first image."""


class FetchBy(StrEnum):
    """How a PACS hands over images that are missing here."""

    MOVE = "move"
    """C-MOVE: it stores them at our AE title, which it must know, and must be a source."""
    GET = "get"
    """C-GET: over the association that we open, past the door."""


class QuerySettings(Section):
    """The PACS of a source, which is asked whether a series is complete (C-FIND or QIDO-RS)."""

    ae_title: AETitle
    """Called AE title, and how the record names it."""
    host: str = ""
    """Host name or address."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """TCP port."""
    tls: bool = False
    """Ask with TLS; needs `[tls]`."""
    tls_name: str | None = None
    """Name that its certificate must show; `host` when absent."""
    web: WebSettings | None = None
    """Ask by QIDO-RS there, in place of C-FIND."""
    fetch_missing: bool = False
    """Fetch images that it has and that are missing here; needs `host` and `port`."""
    fetch_by: FetchBy = FetchBy.MOVE
    """`move` or `get`."""
    patience_s: Seconds = 60.0
    """A series whose PACS is not heard within so long goes on without its word."""

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        by_dimse = bool(self.host and self.port)
        if not by_dimse and (self.web is None or self.fetch_missing):
            raise ValueError(f"query of {self.ae_title} needs host and port")
        return self


class SourceSettings(Section):
    """A peer that may send images."""

    ae_title: AETitle
    """Calling AE title."""
    host: str | None = None
    """IP address or network (192.0.2.0/24) that it must call from; any address when absent."""
    services: tuple[Service, ...] = (Service.STORE, Service.ECHO)
    """What it may ask for: `store`, `echo`, `notify`."""
    maximum_associations: int = Field(default=10, ge=1)
    """Of this source from one address at the same time."""
    associations_per_minute: int = Field(default=600, ge=1)
    """Some scanners open one for each image."""
    completion: CompletionSettings | None = None
    """Replaces `[completion]` for this source."""
    query: QuerySettings | None = None
    """Who confirms that a series is complete; the quiet period alone decides when absent."""

    @field_validator("host")
    @classmethod
    def _host_is_an_address(cls, host: str | None) -> str | None:
        if host is not None:
            ip_network(host, strict=False)
        return host
