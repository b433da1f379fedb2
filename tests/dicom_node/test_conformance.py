"""The Conformance Statement says what the code does."""

from pathlib import Path

from dicom_node.conformance import statement
from dicom_node.contexts import RESULT_SOP_CLASSES, STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES
from pipeline.objects.results import RESULT_BUILDERS


def test_the_statement_in_deploy_is_the_one_of_this_code(repository: Path) -> None:
    committed = (repository / "deploy" / "conformance.md").read_text(encoding="utf-8")
    assert committed == statement(RESULT_BUILDERS), (
        "stale: psoas conformance --out deploy/conformance.md"
    )


def test_every_result_object_has_its_sop_class() -> None:
    assert set(RESULT_BUILDERS) <= set(RESULT_SOP_CLASSES)


def test_every_context_stands_in_it() -> None:
    text = statement(RESULT_BUILDERS)
    results = [RESULT_SOP_CLASSES[name] for name in RESULT_BUILDERS]
    for uid in (*STORAGE_SOP_CLASSES, *(syntax.uid for syntax in TRANSFER_SYNTAXES), *results):
        assert f"| {uid} |" in text


def test_every_status_has_the_reaction_of_the_outbox() -> None:
    text = statement(RESULT_BUILDERS)
    assert "| 0111 | duplicate SOP instance | delivered |" in text
    assert "| A700 | out of resources | tried again" in text
    assert "| A900 | data set does not match SOP class | refused for good" in text
