"""A ledger with very many series, written by the database itself within a second."""

from typing import Final

from sqlalchemy import Connection, text

from dicom_node.ledger import Ledger
from tests.dicom_node.factories import START

MANY: Final = 100_000

_FILL: Final = """
WITH RECURSIVE counted(n, at) AS (
    SELECT 0, datetime(:start) || '.000000'
    UNION ALL
    SELECT n + 1, datetime(:start, '+' || (n + 1) || ' seconds') || '.000000'
    FROM counted WHERE n < :last)
INSERT INTO series (
    series_instance_uid, study_instance_uid, state, reason_code, reason_message, revision, attempt,
    instance_count, source_ae_title, patient_key, accession_key, patient_id_key,
    first_received_at, last_received_at, revision_started_at, updated_at)
SELECT
    '1.2.3.' || n, '1.2.' || (n / 3),
    CASE n % 100 WHEN 0 THEN 'failed' ELSE 'delivered' END,
    CASE n % 100 WHEN 0 THEN 'L3_UNCERTAIN' END,
    CASE n % 100 WHEN 0 THEN 'which vertebra is L3 cannot be told' END,
    1, 1, 300, 'CT' || (n % 5), 'p', printf('%064x', n / 3), printf('%064x', :last + 1 + n / 30),
    at, at, at, at
FROM counted
"""


def fill(ledger: Ledger) -> None:
    """Write ``MANY`` series of five scanners, one a second; every hundredth failed.

    Series number n is ``1.2.3.n`` of study ``1.2.(n // 3)``.
    """
    values = {"start": START.strftime("%Y-%m-%d %H:%M:%S"), "last": MANY - 1}

    def write(connection: Connection) -> None:
        connection.execute(text(_FILL), values)
        connection.execute(text("ANALYZE"))

    ledger._database.write(write)
