"""Read a rule file, name the lines that are wrong, read it again when it changes."""

import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from dicom_node.config import NodeSettings
from dicom_node.errors import RulesError
from dicom_node.rules import toml_lines
from dicom_node.rules.book import RuleBook

logger = structlog.get_logger(__name__)


def load_rules(path: Path, settings: NodeSettings) -> RuleBook:
    """Read a rule file.

    Parameters
    ----------
    path : Path
    settings : NodeSettings
        Rules may name only sources and destinations that stand there.

    Raises
    ------
    RulesError
        With every fault, each with the number of its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise RulesError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RulesError(f"{path} is not TOML: {error}") from None
    faults = list(_faults(data, settings))
    if faults:
        lines = toml_lines.lines_of(text)
        said = "; ".join(
            f"line {toml_lines.line_of(place, lines) or 1}: {sentence}"
            for place, sentence in faults
        )
        raise RulesError(f"{path}: {said}")
    return RuleBook.model_validate(data)


def _faults(data: dict[str, Any], settings: NodeSettings) -> Iterator[tuple[toml_lines.Path, str]]:
    try:
        book = RuleBook.model_validate(data)
    except ValidationError as error:
        for detail in error.errors():
            name = ".".join(str(part) for part in detail["loc"] if isinstance(part, str))
            message = detail["msg"].removeprefix("Value error, ")
            yield detail["loc"], f"{name}: {message}" if name else message
        return
    destinations = {destination.name for destination in settings.destinations}
    for index, rule in enumerate(book.rules):
        for number, name in enumerate(rule.destinations or ()):
            if name not in destinations:
                place = ("rules", index, "destinations", number)
                yield place, f"rule {rule.name}: there is no destination {name}"
        for number, pattern in enumerate(rule.sources):
            if settings.sources and not _fits_a_source(pattern, settings):
                place = ("rules", index, "sources", number)
                yield place, f"rule {rule.name}: no source is called {pattern}"


def _fits_a_source(pattern: str, settings: NodeSettings) -> bool:
    return any(fnmatchcase(source.ae_title, pattern) for source in settings.sources)


class RuleFile:
    """The rules in force; an edited file is in force at the next look, if it is valid.

    Parameters
    ----------
    settings : NodeSettings

    Raises
    ------
    RulesError
        The file is wrong at the very start.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._path = settings.rules.file
        self._stamp = self._look()
        self._book = load_rules(self._path, settings) if self._path else RuleBook()

    def current(self) -> RuleBook:
        """Return the rules of the file, the last valid ones when it is wrong now."""
        stamp = self._look()
        if self._path is None or stamp == self._stamp:
            return self._book
        self._stamp = stamp
        try:
            self._book = load_rules(self._path, self._settings)
            logger.info("rules reloaded", rules=len(self._book.rules))
        except RulesError as error:
            logger.warning("the edited rules are not used", code=error.code, error=str(error))
        return self._book

    def _look(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
