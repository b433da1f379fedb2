"""Let series be found by accession number and patient ID, and be listed page by page."""

import sqlalchemy as sa
from alembic import op

revision = "m0003_search_and_pages"
down_revision = "m0002_custody"

_KEYS = ("accession_key", "patient_id_key")
_INDEXES = {
    "ix_series_study_instance_uid": ["study_instance_uid"],
    "ix_series_accession_key": ["accession_key"],
    "ix_series_patient_id_key": ["patient_id_key"],
    "ix_series_first_received_at": ["first_received_at", "series_instance_uid"],
    "ix_series_state_first": ["state", "first_received_at", "series_instance_uid"],
    "ix_series_reason_first": ["reason_code", "first_received_at", "series_instance_uid"],
    "ix_series_source_first": ["source_ae_title", "first_received_at", "series_instance_uid"],
}


def upgrade() -> None:
    """Add the digests, empty for the series that are there, and the indexes."""
    for name in _KEYS:
        op.add_column("series", sa.Column(name, sa.String(64)))
    for name, columns in _INDEXES.items():
        op.create_index(name, "series", columns)


def downgrade() -> None:
    """Drop them."""
    for name in _INDEXES:
        op.drop_index(name, "series")
    for name in _KEYS:
        op.drop_column("series", name)
