"""Each part of Psoas runs with the packages of its own extra and nothing else."""

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distribution, packages_distributions

import pytest
from packaging.requirements import Requirement

_MODULES: Mapping[str, str] = {
    "listener": "dicom_node.serve dicom_node.celery_app kombu.transport.redis dicom_node.stow",
    "listener,console": "dicom_node.console.server",
}
_SCRIPT = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {others!r}:
            raise ModuleNotFoundError("not installed here: " + name, name=name)

sys.meta_path.insert(0, Missing())
for module in {modules!r}.split():
    importlib.import_module(module)
"""


@pytest.mark.parametrize("extras", _MODULES)
def test_a_part_needs_no_package_that_its_extra_does_not_bring(extras: str) -> None:
    ours = _closure("psoas", frozenset(extras.split(",")))
    others = {
        module
        for module, owners in packages_distributions().items()
        if not {_canonical(owner) for owner in owners} & ours
    }
    assert "pytest" in others
    script = _SCRIPT.format(others=others, modules=_MODULES[extras])
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=280, check=False
    )
    assert run.returncode == 0, run.stderr.splitlines()[-1]


def _closure(name: str, extras: frozenset[str]) -> set[str]:
    """Names of a distribution and of everything that it requires with these extras."""
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, extras)]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        found.add(_canonical(one[0]))
        for line in distribution(one[0]).requires or ():
            requirement = Requirement(line)
            contexts = [{"extra": extra} for extra in (*one[1], "")]
            if requirement.marker is None or any(map(requirement.marker.evaluate, contexts)):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
