"""What all tasks have in common: their log lines name the series that they are about."""

from typing import Any

import structlog
from celery import Task
from typing_extensions import override


class SeriesTask(Task):  # type: ignore[type-arg]  # the class takes no parameters while it runs
    """A task whose first argument is the Series Instance UID."""

    @override
    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with structlog.contextvars.bound_contextvars(series=arguments[0]):
            return self.run(*arguments, **named)
