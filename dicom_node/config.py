"""The settings of a node: frozen, from one TOML file, an unknown key is an error."""

import os
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self
from zoneinfo import available_timezones

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from dicom_node.errors import SettingsError
from dicom_node.secret_files import (
    credentials_folder,
    read_secret,
    require_password,
    with_files_found,
    with_password,
)

# PS3.5 table 6.2-1: at most 16 characters of the default repertoire without backslash; spaces at
# either end mean nothing.
AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[\x20-\x5b\x5d-\x7e]{1,16}$")
]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Days = Annotated[float, Field(ge=0)]
ObjectName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Service(StrEnum):
    """What a peer may ask for."""

    STORE = "store"
    """Storage of images."""
    ECHO = "echo"
    """Verification."""
    NOTIFY = "notify"
    """News: reports of storage commitment and whatever else is no image."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ListenerSettings(_Section):
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


class TlsSettings(_Section):
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


class CompletionSettings(_Section):
    """When a series counts as complete. Association release is only a hint (PS3.4 B.4)."""

    quiet_after_release_s: Seconds = 10.0
    """Quiet time after the last image once its association was released."""
    quiet_s: Seconds = 60.0
    """Quiet time after the last image while the association is open or was aborted."""
    cap_s: Seconds = 900.0
    """A series that never falls quiet is closed this long after its first image."""


class WebSettings(_Section):
    """A PACS that is reached over DICOMweb (PS3.18)."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]
    """Root of the services, such as https://pacs/dicom-web."""
    user: str | None = None
    """For basic authentication, with `secret_file`."""
    secret_file: Path | None = None
    """File with the password of `user`; without `user`, with a bearer token."""
    ca_file: Path | None = None
    """Certificates that the server's must stem from; the system's when absent."""


class FetchBy(StrEnum):
    """How a PACS hands over images that are missing here."""

    MOVE = "move"
    """C-MOVE: it stores them at our AE title, which it must know, and must be a source."""
    GET = "get"
    """C-GET: over the association that we open, past the door."""


class QuerySettings(_Section):
    """The PACS of a source, which is asked whether a series is complete (C-FIND or QIDO-RS)."""

    ae_title: AETitle
    """Called AE title, and how the record names it."""
    host: str = ""
    """Host name or address."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """TCP port."""
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


class SourceSettings(_Section):
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


class CommitmentSettings(_Section):
    """Storage commitment: results count as delivered when the PACS has taken responsibility."""

    ae_title: AETitle | None = None
    """Called AE title for the request; that of the destination when absent."""
    host: str | None = None
    """Host name or address for the request; that of the destination when absent."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """TCP port for the request; that of the destination when absent."""
    timeout_s: Seconds = 3600.0
    """Without a report after so long the results are stored and asked about again."""


class DestinationSettings(_Section):
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


class PriorsSettings(_Section):
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


class DeliverySettings(_Section):
    """How often a PACS that does not answer is tried again."""

    first_wait_s: Seconds = 30.0
    """Wait after the first failure; doubles with each further one."""
    longest_wait_s: Seconds = 1800.0
    """The doubling stops here."""
    give_up_after_s: Seconds = 86400.0
    """Age of a delivery at which it is given up."""
    timeout_s: Seconds = 30.0
    """How long a PACS may take to answer."""


class WorkerSettings(_Section):
    """The process that measures."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Compute device; `auto` takes a GPU when there is one."""
    segmenter: Path | None = None
    """Folder of the segmentation model; the shipped one when absent."""
    level_finder: Path | None = None
    """Folder of the model that finds L3; the shipped one when absent."""
    classifier: Path | None = None
    """Folder of the classifier for a second opinion; none when absent."""
    time_limit_s: Annotated[float, Field(gt=1)] = 600.0
    """A series that takes longer is stopped and tried again."""
    memory_limit_mib: int = Field(default=16384, ge=0)
    """A series that needs more fails for lack of memory and is tried again; 0 for no limit."""
    attempts: int = Field(default=3, ge=1)
    """After this many lost attempts a series is quarantined."""
    queue_ahead: int = Field(default=4, ge=1)
    """Series that wait at the workers' door; the others wait where urgent ones overtake them."""
    events: bool = False
    """Tell Celery's monitors, such as `psoas flower`, of workers and tasks; by UIDs only."""


class ShadowSettings(_Section):
    """Models that measure silently beside the active one, for comparison."""

    models: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")], ...] = ()
    """Keys of installed models (`psoas model list`); their results are never delivered."""
    at_once: int = Field(default=1, ge=1)
    """Silent measurements that are handed to workers while no series waits for one."""


class RulesSettings(_Section):
    """Which series are analysed."""

    file: Path | None = None
    """Rule file, relative to the settings file; without one every eligible series is analysed."""


class MeasurementSettings(_Section):
    """What muscle is compared with; the profiles stand in `pipeline/cutoffs.toml`."""

    cutoffs: str = "paper"
    """Profile of the area or the index: `paper` (144 and 92 cm2), `derstine2018_sma`, ..."""
    attenuation_cutoffs: str | None = None
    """Profile of the mean attenuation, such as `derstine2018_attenuation`; none when absent."""
    cutoff_file: Path | None = None
    """A file of the site's own profiles, in the form of the shipped one."""


class StorageSettings(_Section):
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


class RetentionSettings(_Section):
    """How long images and records are kept after everything is done with them."""

    images_days: Days = 30.0
    """Images of a delivered (and committed, where it must be) series are deleted after so long."""
    skipped_days: Days = 30.0
    """The same for a series that is not one for us."""
    records_days: Days = 365.0
    """Results and records are deleted so long after the images."""


class BrokerSettings(_Section):
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


class OidcSettings(_Section):
    """Log in at the hospital's identity provider (OpenID Connect)."""

    issuer: Annotated[str, Field(pattern=r"^https?://")]
    """URL of the provider, without `/.well-known/openid-configuration`."""
    client_id: str
    """Name of this console at the provider."""
    client_secret_file: Path | None = None
    """File with the secret of this console; a public client with PKCE when absent."""
    role_claim: str = "groups"
    """Claim of the ID token with the groups of a person."""
    operators: tuple[str, ...] = ()
    """Groups whose people may act."""
    viewers: tuple[str, ...] = ()
    """Groups whose people may look."""


class ConsoleSettings(_Section):
    """The web page for administrators."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs TLS here or an https `url`."""
    port: Port = 8080
    """TCP port."""
    url: Annotated[str, Field(pattern=r"^https?://[^/]+$")] | None = None
    """How browsers reach it through a proxy, as `https://psoas.example.org`."""
    tls_certificate: Path | None = None
    """Certificate chain in PEM."""
    tls_key: Path | None = None
    """Its key in PEM."""
    session_idle_s: Seconds = 1800.0
    """Whoever does nothing for so long is logged out."""
    session_longest_s: Seconds = 36000.0
    """Everybody logs in again after so long."""
    oidc: OidcSettings | None = None
    """Log in at an identity provider too; with names and passwords alone when absent."""

    @property
    def reached_at(self) -> str:
        """How browsers reach it."""
        scheme = "http" if self.tls_certificate is None else "https"
        return self.url or f"{scheme}://{self.host}:{self.port}"

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> Self:
        loopback = self.host in {"127.0.0.1", "::1", "localhost"}
        if not loopback and not self.reached_at.startswith("https://"):
            raise ValueError(
                f"console.host {self.host} is open to the network, so passwords need TLS: set "
                "tls_certificate and tls_key, or url when a proxy speaks https"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("console.tls_certificate and tls_key belong together")
        return self


class MetricsSettings(_Section):
    """Where Prometheus reads metrics, and whoever starts us again reads health."""

    host: str = "127.0.0.1"
    """Address to listen on. Metrics name AE titles and destinations, never patients."""
    port: Port | None = None
    """TCP port of `psoas serve`; no metrics when absent."""
    worker_port: Port | None = None
    """TCP port of `psoas worker --queue gpu`: disk and GPU of its host; none when absent."""
    node_worker_port: Port | None = None
    """TCP port of `psoas worker --queue node`: whether it works; none when absent."""


class AlarmSettings(_Section):
    """What is worth an alarm, and who is told."""

    webhook: SecretStr | None = None
    """Address that takes alarms as JSON; it often holds a secret."""
    webhook_file: Path | None = None
    """Holds that address instead."""
    mail_to: tuple[str, ...] = ()
    """Addresses that get alarms by e-mail."""
    mail_from: str = "psoas@localhost"
    """Sender of the e-mails."""
    smtp_host: str = "localhost"
    """Mail server."""
    smtp_port: Port = 25
    """Its TCP port."""
    smtp_tls: bool = False
    """Encrypt with STARTTLS."""
    working_hours: Annotated[
        str,
        Field(
            pattern=r"^(?i:(mon|tue|wed|thu|fri|sat|sun)-(mon|tue|wed|thu|fri|sat|sun)) "
            r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
        ),
    ] = "Mon-Fri 08:00-17:00"
    """When scanners are expected to send."""
    time_zone: str = "UTC"
    """Of the working hours, as `Europe/Berlin`."""
    silence_s: Seconds = 14400.0
    """A source that sends nothing for so long in working hours is silent."""
    delivery_age_s: Seconds = 1800.0
    """A destination refuses when a result has waited for it so long."""
    free_space_mib: int = Field(default=10240, ge=0)
    """The disk is nearly full below this much free space."""
    certificate_days: int = Field(default=21, ge=1)
    """A certificate is about to expire so many days before it does."""

    @field_validator("webhook")
    @classmethod
    def _webhook_is_an_address(cls, webhook: SecretStr | None) -> SecretStr | None:
        if webhook and not webhook.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("an address begins with https:// or http://")
        return webhook

    @field_validator("time_zone")
    @classmethod
    def _time_zone_is_known(cls, time_zone: str) -> str:
        if time_zone not in available_timezones():
            raise ValueError(f"there is no time zone {time_zone}")
        return time_zone


class AuditSettings(_Section):
    """The audit trail (PS3.15 A.5)."""

    source_id: Annotated[str, Field(min_length=1, max_length=64)] = "psoas"
    """How the audit repository names this node (AuditSourceID)."""
    keep_days: int = Field(default=365, ge=1)
    """Daily files of the trail are deleted after so many days."""
    repository: str | None = None
    """Host of a syslog server with TLS (RFC 5425) that gets the trail instead; needs `[tls]`."""
    repository_port: Annotated[int, Field(ge=1, le=65535)] = 6514
    """Its TCP port."""


class LogSettings(_Section):
    """What is logged; never patient data."""

    level: Annotated[str, Field(pattern=r"^(debug|info|warning|error)$")] = "info"
    """Least important level that is written."""
    json_lines: bool = False
    """One JSON object a line instead of text."""


class NodeSettings(_Section):
    """The whole settings file."""

    storage: StorageSettings
    listener: ListenerSettings = ListenerSettings()
    tls: TlsSettings | None = None
    completion: CompletionSettings = CompletionSettings()
    sources: tuple[SourceSettings, ...] = ()
    destinations: tuple[DestinationSettings, ...] = ()
    delivery: DeliverySettings = DeliverySettings()
    priors: PriorsSettings | None = None
    rules: RulesSettings = RulesSettings()
    worker: WorkerSettings = WorkerSettings()
    shadow: ShadowSettings = ShadowSettings()
    measurement: MeasurementSettings = MeasurementSettings()
    retention: RetentionSettings = RetentionSettings()
    broker: BrokerSettings = BrokerSettings()
    log: LogSettings = LogSettings()
    console: ConsoleSettings = ConsoleSettings()
    metrics: MetricsSettings = MetricsSettings()
    alarms: AlarmSettings = AlarmSettings()
    audit: AuditSettings = AuditSettings()

    @model_validator(mode="after")
    def _closed_outside_loopback(self) -> Self:
        if not self.sources and self.listener.host not in {"127.0.0.1", "::1", "localhost"}:
            raise ValueError(
                f"listener.host {self.listener.host} is open to the network, "
                "so [[sources]] must name who may send"
            )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [destination.name for destination in self.destinations]
        if len(set(names)) < len(names):
            raise ValueError("two [[destinations]] have the same name")
        return self

    @model_validator(mode="after")
    def _priors_come_from_a_destination(self) -> Self:
        names = {destination.name for destination in self.destinations}
        if self.priors is not None and self.priors.destination not in names:
            raise ValueError(f"priors.destination {self.priors.destination} is no destination")
        return self

    @model_validator(mode="after")
    def _tls_is_there_for_those_who_need_it(self) -> Self:
        if self.tls is not None:
            return self
        for destination in self.destinations:
            if destination.tls:
                raise ValueError(f"destination {destination.name} has tls, but there is no [tls]")
        if self.audit.repository is not None:
            raise ValueError("audit.repository is reached by TLS only, but there is no [tls]")
        return self

    @property
    def ledger_url(self) -> str:
        """URL of the ledger, the default filled in."""
        return self.storage.ledger_url or f"sqlite:///{self.storage.folder / 'ledger.sqlite'}"

    @property
    def reporting_ae_titles(self) -> frozenset[str]:
        """Calling AE titles that may bring reports of storage commitment."""
        asked = [d for d in self.destinations if d.commitment is not None]
        titles = {destination.ae_title for destination in asked}
        return frozenset(
            titles | {d.commitment.ae_title or d.ae_title for d in asked if d.commitment}
        )

    @property
    def callers(self) -> tuple[SourceSettings, ...]:
        """Who may associate: sources, and destinations that bring reports.

        Without sources this host alone may, whatever its AE title.
        """
        if not self.sources:
            return ()
        news = (Service.ECHO, Service.NOTIFY)
        reporting = tuple(
            SourceSettings(ae_title=title, services=news)
            for title in sorted(self.reporting_ae_titles)
        )
        return self.sources + reporting

    @property
    def storing_ae_titles(self) -> frozenset[str]:
        """Calling AE titles that may store images."""
        return frozenset(source.ae_title for source in self.sources)

    def query_for(self, calling_ae_title: str) -> QuerySettings | None:
        """Whom to ask whether a series of one source is complete."""
        for source in self.sources:
            if source.ae_title == calling_ae_title and source.query is not None:
                return source.query
        return None

    def completion_for(self, calling_ae_title: str) -> CompletionSettings:
        """Completion rule for one source."""
        for source in self.sources:
            if source.ae_title == calling_ae_title and source.completion is not None:
                return source.completion
        return self.completion


def load_settings(path: Path) -> NodeSettings:
    """Read a settings file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    NodeSettings
        With absolute paths, relative ones starting at the file, and with the secrets of its files.

    Raises
    ------
    SettingsError
        With every fault of the file, one sentence each.
    UnguardedError
        Others can reach the broker without a password.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        settings = NodeSettings.model_validate(data)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        faults = "; ".join(_fault(detail) for detail in error.errors())
        raise SettingsError(f"{path}: {faults}") from None
    folder = path.resolve().parent
    found = with_files_found(settings, folder, credentials_folder(os.environ))
    complete = _with_secrets(found, path)
    if complete.broker.url is not None:
        require_password(complete.broker.url)
    return complete


def _with_secrets(settings: NodeSettings, path: Path) -> NodeSettings:
    storage, broker, alarms = settings.storage, settings.broker, settings.alarms
    if (file := storage.ledger_password_file) is not None:
        secret = read_secret(file, f"{path}: storage.ledger_password_file")
        url = with_password(storage.ledger_url or "", secret)
        storage = storage.model_copy(update={"ledger_url": url})
    if (file := broker.password_file) is not None:
        secret = read_secret(file, f"{path}: broker.password_file")
        broker = broker.model_copy(update={"url": with_password(broker.url or "", secret)})
    if (file := alarms.webhook_file) is not None:
        address = read_secret(file, f"{path}: alarms.webhook_file")
        alarms = _with_webhook(alarms, address, file)
    return settings.model_copy(update={"storage": storage, "broker": broker, "alarms": alarms})


def _with_webhook(alarms: AlarmSettings, address: str, file: Path) -> AlarmSettings:
    if not address.startswith(("https://", "http://")):
        raise SettingsError(f"alarms.webhook_file: {file} holds no address of http or https")
    return alarms.model_copy(update={"webhook": SecretStr(address)})


def _fault(detail: ErrorDetails) -> str:
    place = ".".join(str(part) for part in detail["loc"]) or "settings"
    return f"{place}: {detail['msg']}"
