"""The settings of a node: frozen, from one TOML file, an unknown key is an error."""

from dicom_node.config.destinations import (
    CommitmentSettings,
    DeliverySettings,
    DestinationSettings,
    PriorsSettings,
    WebSettings,
)
from dicom_node.config.keeping import BrokerSettings, RetentionSettings, StorageSettings
from dicom_node.config.node import NodeSettings
from dicom_node.config.reading import load_settings
from dicom_node.config.reception import (
    CompletionSettings,
    FetchBy,
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
    OidcSettings,
)
from dicom_node.config.work import (
    MeasurementSettings,
    RulesSettings,
    ShadowSettings,
    WorkerSettings,
)

__all__ = [
    "AlarmSettings",
    "AuditSettings",
    "BrokerSettings",
    "CommitmentSettings",
    "CompletionSettings",
    "ConsoleSettings",
    "DeliverySettings",
    "DestinationSettings",
    "FetchBy",
    "ListenerSettings",
    "LogSettings",
    "MeasurementSettings",
    "MetricsSettings",
    "NodeSettings",
    "OidcSettings",
    "PriorsSettings",
    "QuerySettings",
    "RetentionSettings",
    "RulesSettings",
    "Service",
    "ShadowSettings",
    "SourceSettings",
    "StorageSettings",
    "TlsSettings",
    "WebSettings",
    "WorkerSettings",
    "load_settings",
]
