import tomllib

import pytest

from dicom_node.rules.toml_lines import Path, line_of, lines_of

TEXT = '''\
# a comment with = and [brackets]
title = "a # no comment"
long = """
[[rules]]
not = "a key"
"""
[a.b]
"c d".e = 1  # dotted
[[rules]]
when = [
    {x = 1, y = [2, 3]},  # first
    # between
    {x = "}]", y = [
        4,
    ]},
]
[rules.inner]
k = 2026-01-02
[[rules]]
when = []
name = 'last'
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("long",), 3),
        (("a", "b", "c d", "e"), 8),
        (("rules", 0), 9),
        (("rules", 0, "when", 0, "x"), 11),
        (("rules", 0, "when", 0, "y", 1), 11),
        (("rules", 0, "when", 1), 13),
        (("rules", 0, "when", 1, "y", 0), 14),
        (("rules", 0, "inner", "k"), 18),
        (("rules", 1, "when"), 20),
        (("rules", 1, "name"), 21),
    ],
)
def test_line_of_a_value(path: Path, line: int) -> None:
    assert lines_of(TEXT)[path] == line


def test_what_is_absent_is_placed_at_what_surrounds_it() -> None:
    lines = lines_of(TEXT)
    assert line_of(("rules", 0, "when", 1, "absent"), lines) == 13
    assert line_of(("nowhere",), lines) is None


def test_every_value_has_a_line() -> None:
    def paths(value: object, here: Path = ()) -> list[Path]:
        items = value.items() if isinstance(value, dict) else []
        items = [*items, *(enumerate(value) if isinstance(value, list) else [])]
        return [here] + [path for key, below in items for path in paths(below, (*here, key))]

    lines = lines_of(TEXT)
    missing = [p for p in paths(tomllib.loads(TEXT)) if p and p not in lines]
    # Tables that only the path of a header names have no line of their own.
    assert missing == [("a",), ("a", "b", "c d"), ("rules",)]
