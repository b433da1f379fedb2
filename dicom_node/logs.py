"""Shape the log: text or one JSON object a line, on standard error, never patient data."""

import logging
import sys
import warnings
from typing import Final

import structlog
from structlog.typing import Processor

from dicom_node.config import LogSettings

# Below these levels the libraries tell what peers send, patients' names included.
_LIBRARY_LEVELS: Final = {
    "pydicom": logging.ERROR,
    "pynetdicom": logging.WARNING,
    "alembic": logging.WARNING,
    "sqlalchemy": logging.WARNING,
}


def configure_logs(settings: LogSettings) -> None:
    """Send the log of this process to standard error; called once, by a command.

    Parameters
    ----------
    settings : LogSettings
    """
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(settings),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name, least in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(level, least))
    # Their warnings quote values that cannot be understood.
    warnings.filterwarnings("ignore", module=r"pydicom|pynetdicom")


def _renderer(settings: LogSettings) -> Processor:
    if settings.json_lines:
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
