"""The tables of the ledger."""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from typing_extensions import override

_UID = String(64)  # PS3.5 9.1
_AE_TITLE = String(16)
_WORD = String(32)
_MODEL = String(128)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time; SQLite keeps none of the zone, so it is always UTC in the file."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

SERIES: Final = Table(
    "series",
    METADATA,
    Column("series_instance_uid", _UID, primary_key=True),
    Column("study_instance_uid", _UID, nullable=False),
    Column("state", _WORD, nullable=False),
    Column("reason_code", _WORD),
    Column("reason_message", Text),
    Column("revision", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    # Counts every task that was sent, so that the news of one is not taken for another's.
    Column("order_number", Integer, nullable=False, server_default="0"),
    Column("instance_count", Integer, nullable=False),
    Column("source_ae_title", _AE_TITLE, nullable=False),
    Column("patient_key", String(64), nullable=False),
    Column("first_received_at", UtcDateTime, nullable=False),
    Column("last_received_at", UtcDateTime, nullable=False),
    Column("revision_started_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime),
    Column("queued_at", UtcDateTime),
    Column("updated_at", UtcDateTime, nullable=False),
    # Of the first image; series from before these columns have none.
    Column("accession_key", String(64)),
    Column("patient_id_key", String(64)),
    Column("released_at", UtcDateTime),
    Column("route", Text),
    # A model that somebody asked for, in place of the active one.
    Column("model", _MODEL),
    Index(None, "state", "due_at"),
    Index(None, "last_received_at"),
    Index(None, "study_instance_uid"),
    Index(None, "accession_key"),
    Index(None, "patient_id_key"),
    # Pages go by the first image: that time never changes, so an image costs no index entry.
    Index(None, "first_received_at", "series_instance_uid"),
    Index("ix_series_state_first", "state", "first_received_at", "series_instance_uid"),
    Index("ix_series_reason_first", "reason_code", "first_received_at", "series_instance_uid"),
    Index("ix_series_source_first", "source_ae_title", "first_received_at", "series_instance_uid"),
)

INSTANCE: Final = Table(
    "instance",
    METADATA,
    # Other bytes under the same SOP Instance UID are a conflict, and both are kept.
    Column("sop_instance_uid", _UID, primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("sop_class_uid", _UID, nullable=False),
    Column("series_instance_uid", _UID, ForeignKey(SERIES.c.series_instance_uid), nullable=False),
    Column("study_instance_uid", _UID, nullable=False),
    Column("transfer_syntax_uid", _UID, nullable=False),
    Column("calling_ae_title", _AE_TITLE, nullable=False),
    Column("sender_address", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("patient_key", String(64), nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Index(None, "series_instance_uid"),
)

HISTORY: Final = Table(
    "history",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("series_instance_uid", _UID, ForeignKey(SERIES.c.series_instance_uid), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("event", _WORD, nullable=False),
    Column("state", _WORD, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("reason_code", _WORD),
    Column("reason_message", Text),
    Index(None, "series_instance_uid"),
)

DELIVERY: Final = Table(
    "delivery",
    METADATA,
    Column("sop_instance_uid", _UID, primary_key=True),
    Column("destination", _WORD, primary_key=True),
    Column("sop_class_uid", _UID, nullable=False),
    Column("transfer_syntax_uid", _UID, nullable=False),
    Column("path", Text, nullable=False),
    Column("series_instance_uid", _UID, ForeignKey(SERIES.c.series_instance_uid), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("state", _WORD, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("status", Integer),
    Column("detail", Text, nullable=False),
    # Of the storage commitment that was asked for last (PS3.4 J.3.2).
    Column("transaction_uid", _UID),
    Index(None, "series_instance_uid"),
    Index(None, "state", "next_attempt_at"),
)

COMMITMENT: Final = Table(
    "commitment",
    METADATA,
    # Every request, so that a report that comes late still proves what it proves.
    Column("transaction_uid", _UID, primary_key=True),
    Column("sop_instance_uid", _UID, primary_key=True),
    Column("destination", _WORD, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Index(None, "sop_instance_uid"),
)

PROOF: Final = Table(
    "proof",
    METADATA,
    Column("series_instance_uid", _UID, ForeignKey(SERIES.c.series_instance_uid), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("settled", Boolean, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
)

ANNOUNCEMENT: Final = Table(
    "announcement",
    METADATA,
    # Of a series that may not have arrived yet, so it refers to none.
    Column("series_instance_uid", _UID, primary_key=True),
    Column("kind", _WORD, nullable=False),
    Column("said_by", String(16), nullable=False),
    Column("said_at", UtcDateTime, nullable=False),
    Column("image_count", Integer, nullable=False),
    Column("sop_instance_uids", Text, nullable=False),
)

ALARM: Final = Table(
    "alarm",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("code", _WORD, nullable=False),
    Column("subject", _UID, nullable=False),
    Column("message", Text, nullable=False),
    Column("raised_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("occurrences", Integer, nullable=False),
    Column("cleared_at", UtcDateTime),
    Index(None, "cleared_at"),
)

SWITCH: Final = Table(
    "switch",
    METADATA,
    Column("name", _WORD, primary_key=True),
    Column("set_at", UtcDateTime, nullable=False),
    Column("set_by", String(64), nullable=False),
)

MEASUREMENT: Final = Table(
    "measurement",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    # No foreign key: what was measured outlives what is kept of a series.
    Column("series_instance_uid", _UID, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("source_series_uid", _UID, nullable=False),
    Column("study_instance_uid", _UID, nullable=False),
    Column("study_date", Date),
    Column("patient_key", String(64), nullable=False),
    Column("by_reader", Boolean, nullable=False),
    Column("measurement", Text, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Index(None, "series_instance_uid", "revision", "version", unique=True),
    Index(None, "source_series_uid"),
    Index(None, "patient_key"),
)

RESULT: Final = Table(
    "result",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", _UID, nullable=False),
    Column("sop_class_uid", _UID, nullable=False),
    Column("series_instance_uid", _UID, nullable=False),
    Column("name", _WORD, nullable=False),
    # The measurement that it states, by what tells that from every other one.
    Column("origin_series_uid", _UID, nullable=False),
    Column("origin_revision", Integer, nullable=False),
    Column("origin_version", String(64), nullable=False),
    Index(None, "sop_instance_uid", unique=True),
    Index(None, "origin_series_uid"),
)

CAPABILITY: Final = Table(
    "capability",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("destination", _WORD, nullable=False),
    Column("name", _WORD, nullable=False),
    Column("sop_class_uid", _UID, nullable=False),
    Column("transfer_syntax_uid", _UID, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Index(None, "destination"),
)

PRIOR_SEARCH: Final = Table(
    "prior_search",
    METADATA,
    Column("series_instance_uid", _UID, ForeignKey(SERIES.c.series_instance_uid), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("settled", Boolean, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    # What was found, as JSON.
    Column("found", Text, nullable=False),
)

MODEL_USE: Final = Table(
    "model_use",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("kind", _WORD, nullable=False),
    Column("model", _MODEL, nullable=False),
    Column("used_at", UtcDateTime, nullable=False),
    Column("used_by", String(64), nullable=False),
    Column("because", Text, nullable=False),
    Column("withdrawn_at", UtcDateTime),
    Column("withdrawn_by", String(64)),
)

SHADOW: Final = Table(
    "shadow",
    METADATA,
    # No foreign key: what was measured outlives what is kept of a series.
    Column("series_instance_uid", _UID, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("model", _MODEL, primary_key=True),
    Column("state", _WORD, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("asked_by", String(64), nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("reason_code", _WORD),
    Column("reason_message", Text),
    Column("measurement", Text),
    Index("ix_shadow_state", "state", "asked_at"),
    Index(None, "model"),
)

FINDING: Final = Table(
    "finding",
    METADATA,
    # No foreign key: trends outlive series that retention has let go.
    Column("series_instance_uid", _UID, primary_key=True),
    Column("month", String(7), nullable=False),
    Column("source_ae_title", _AE_TITLE, nullable=False),
    Column("kind", _WORD, nullable=False),
    Column("code", _WORD),
    Column("muscle_cm2", Float),
    # Holds all that trends ask for, so that they read no row.
    Index(None, "month", "source_ae_title", "kind", "muscle_cm2"),
)

ECHO: Final = Table(
    "echo",
    METADATA,
    Column("peer", _WORD, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("complaint", Text, nullable=False),
)
