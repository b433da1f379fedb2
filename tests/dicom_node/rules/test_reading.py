import os
from pathlib import Path

import pytest

from dicom_node.config import NodeSettings
from dicom_node.errors import RulesError
from dicom_node.rules.reading import RuleFile, load_rules
from tests.dicom_node.factories import node_settings

GOOD = '[[rules]]\nname = "all"\n'


def settings(folder: Path, **more: object) -> NodeSettings:
    destination = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 104}
    source = {"ae_title": "CT1"}
    return node_settings(folder, destinations=[destination], sources=[source], **more)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[rules]]\nname = "a"\nwhenn = []\n', "line 3: rules.whenn"),
        ('[[rules]]\nname = "a"\naction = "skip"\n', "line 1: rules: a rule that skips says why"),
        (
            '[[rules]]\nname = "a"\nwhen = [\n  {attribute = "BodyPart", equals = "X"},\n]\n',
            "line 4: rules.when.attribute: BodyPart is not the keyword",
        ),
        (
            '[[rules]]\nname = "a"\nwhen = [{attribute = "PatientName", contains = "X"}]\n',
            "PatientName identifies a patient",
        ),
        (
            '[[rules]]\nname = "a"\nwhen = [{attribute = "AccessionNumber", present = true}]\n',
            "AccessionNumber identifies a patient",
        ),
        (
            '[[rules]]\nname = "a"\nwhen = [{attribute = "Modality", matches = "("}]\n',
            "not a regular expression",
        ),
        ('[[rules]]\nname = "a"\nwhen = [{attribute = "Modality"}]\n', "say what must hold"),
        (
            '[[rules]]\nname = "a"\nwhen = [{geometry = "slices", contains = "1"}]\n',
            "slices is a number",
        ),
        (
            '[[rules]]\nname = "a"\n[[rules]]\nname = "b"\ndestinations = ["pacs", "mars"]\n',
            "line 5: rule b: there is no destination mars",
        ),
        ('[[rules]]\nname = "a"\n\nsources = ["MR*"]\n', "line 4: rule a: no source is called MR*"),
        ('[[rules]]\nname = "a"\nchoose = "chosen"\n', "line 3: rules.choose: choose is every or"),
        ('[[rules]]\nname = "a"\n[[rules]]\nname = "a"\n', "two rules are called a"),
        ('[[rules]]\nname = "a\n', "at line 2"),
    ],
)
def test_fault_is_told_with_its_line(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(RulesError) as caught:
        load_rules(path, settings(tmp_path))
    assert fault in str(caught.value)


def test_edited_rules_are_in_force_at_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD)
    rules = RuleFile(settings(tmp_path, rules={"file": path}))
    assert [rule.name for rule in rules.current().rules] == ["all"]
    replace(path, GOOD + '[[rules]]\nname = "more"\n')
    assert [rule.name for rule in rules.current().rules] == ["all", "more"]


def test_wrong_rules_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD)
    rules = RuleFile(settings(tmp_path, rules={"file": path}))
    replace(path, "[[rules]]\n")
    assert [rule.name for rule in rules.current().rules] == ["all"]
    path.unlink()
    assert [rule.name for rule in rules.current().rules] == ["all"]


def test_node_does_not_start_with_wrong_rules(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="cannot be read"):
        RuleFile(settings(tmp_path, rules={"file": tmp_path / "none.toml"}))


def replace(path: Path, text: str) -> None:
    """As editors do: a new file takes the name."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)  # noqa: PTH105 - the point of it


def test_example_is_valid(repository: Path, tmp_path: Path) -> None:
    book = load_rules(repository / "deploy" / "rules.example.toml", settings(tmp_path))
    assert len(book.rules) == 4
