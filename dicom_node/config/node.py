"""The whole settings file: its sections, and what they must be to each other."""

from typing import Self

from pydantic import model_validator

from dicom_node.config.destinations import DeliverySettings, DestinationSettings, PriorsSettings
from dicom_node.config.keeping import BrokerSettings, RetentionSettings, StorageSettings
from dicom_node.config.reception import (
    CompletionSettings,
    ListenerSettings,
    QuerySettings,
    Service,
    SourceSettings,
    TlsSettings,
)
from dicom_node.config.supervision import (
    AlarmSettings,
    AuditSettings,
    ConsoleSettings,
    LogSettings,
    MetricsSettings,
)
from dicom_node.config.values import Section
from dicom_node.config.work import (
    MeasurementSettings,
    RulesSettings,
    ShadowSettings,
    WorkerSettings,
)


class NodeSettings(Section):
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
        for query in [source.query for source in self.sources if source.query is not None]:
            if query.tls:
                raise ValueError(f"query of {query.ae_title} has tls, but there is no [tls]")
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
