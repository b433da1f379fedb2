"""Find the lines of a TOML text that its values stand on; the standard parser does not tell."""

import re
import tomllib
from collections.abc import Iterator
from typing import Final

Path = tuple[str | int, ...]

_SKIPPED: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY: Final = re.compile(r"""\s*(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)\s*""")
_SCALAR: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[^,\]}#\n]+',
    re.DOTALL,
)


def lines_of(text: str) -> dict[Path, int]:
    """Lines of all keys and array items.

    Parameters
    ----------
    text : str
        Valid TOML.

    Returns
    -------
    dict
        From the path of a value, such as ``("rules", 0, "when", 1, "attribute")``, to its line,
        counted from 1.
    """
    return dict(_Scanner(text).statements())


def line_of(path: Path, lines: dict[Path, int]) -> int | None:
    """Line of a value, or of the closest thing around it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._tables: dict[Path, int] = {}

    def statements(self) -> Iterator[tuple[Path, int]]:
        table: Path = ()
        self._skip()
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                line = self._line()
                table = self._header()
                yield table, line
            else:
                yield from self._pair(table)
            self._skip()

    def _header(self) -> Path:
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        path = self._indexed(self._dotted())
        self._at += 2 if is_array else 1
        if is_array:
            self._tables[path] = self._tables.get(path, -1) + 1
            return (*path, self._tables[path])
        return path

    def _indexed(self, names: list[str]) -> Path:
        """Path of a header: a table below an array of tables belongs to its last one."""
        path: Path = ()
        for name in names[:-1]:
            path = (*path, name)
            if path in self._tables:
                path = (*path, self._tables[path])
        return (*path, names[-1])

    def _pair(self, table: Path) -> Iterator[tuple[Path, int]]:
        line = self._line()
        path = (*table, *self._dotted())
        yield path, line
        self._at += 1  # the equals sign
        self._skip()
        yield from self._value(path)

    def _value(self, path: Path) -> Iterator[tuple[Path, int]]:
        opening = self._text[self._at]
        if opening == "[":
            yield from self._array(path)
        elif opening == "{":
            yield from self._inline_table(path)
        else:
            self._at = _matched(_SCALAR, self._text, self._at).end()

    def _array(self, path: Path) -> Iterator[tuple[Path, int]]:
        self._at += 1
        index = 0
        while not self._closed("]"):
            yield (*path, index), self._line()
            yield from self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> Iterator[tuple[Path, int]]:
        self._at += 1
        while not self._closed("}"):
            yield from self._pair(path)

    def _closed(self, bracket: str) -> bool:
        """Step over a comma, and over the closing bracket if it follows."""
        self._skip()
        if self._text[self._at] == ",":
            self._at += 1
            self._skip()
        closed = self._text[self._at] == bracket
        self._at += closed
        return closed

    def _dotted(self) -> list[str]:
        names = []
        while True:
            found = _matched(_KEY, self._text, self._at)
            self._at = found.end()
            names.append(_plain(found.group().strip()))
            if not self._text.startswith(".", self._at):
                return names
            self._at += 1

    def _skip(self) -> None:
        self._at = _matched(_SKIPPED, self._text, self._at).end()

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1


def _matched(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise ValueError(f"no TOML at character {at}")
    return found


def _plain(key: str) -> str:
    return next(iter(tomllib.loads(f"{key} = 0"))) if key[0] in "\"'" else key
