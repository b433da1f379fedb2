"""The container image is sound as far as that can be seen without building it."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from dicom_node.probe import is_well
from tests.deploy.commands import understands

Tool = Callable[[str], str]
# What uv offers of PyTorch today.
VARIANT = re.compile(r"TORCH_BACKEND[=:] ?\"?([a-z]+[0-9]*)")


@pytest.fixture
def dockerfile(repository: Path) -> list[dict[str, str]]:
    parser = DockerfileParser(str(repository / "deploy"), cache_content=True)
    return [entry for entry in parser.structure if entry["instruction"] != "COMMENT"]


def values(dockerfile: list[dict[str, str]], instruction: str) -> list[str]:
    return [entry["value"] for entry in dockerfile if entry["instruction"] == instruction]


def copied(dockerfile: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Sources and targets of what comes from the checkout."""
    for value in values(dockerfile, "COPY"):
        if not value.startswith("--from="):
            *sources, target = value.split()
            yield from ((source, target) for source in sources)


def ignored(repository: Path, name: str) -> bool:
    """Whether the build context lacks a file, by the rules of .dockerignore: the last one wins."""
    verdict = False
    for line in (repository / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!").replace("**/", "*")
        if fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name, pattern + "/*"):
            verdict = not rule.startswith("!")
    return verdict


def test_the_linter_of_dockerfiles_finds_nothing(repository: Path, tool: Tool) -> None:
    command = [tool("hadolint"), "--failure-threshold", "style", "deploy/Dockerfile"]
    run = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


def test_what_is_copied_makes_the_whole_package(
    repository: Path, tmp_path: Path, dockerfile: list[dict[str, str]], tool: Tool
) -> None:
    for source, target in copied(dockerfile):
        assert not ignored(repository, source), source
        origin, place = repository / source, tmp_path / target
        if origin.is_dir():
            without = shutil.ignore_patterns("__pycache__")
            shutil.copytree(origin, place, ignore=without)
        else:
            place.mkdir(exist_ok=True)
            shutil.copy(origin, place)
    command = [tool("uv"), "build", "--quiet", "--wheel", "--python", sys.executable, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    with zipfile.ZipFile(next((tmp_path / "dist").glob("psoas-*.whl"))) as wheel:
        names = wheel.namelist()
    ours = [p.relative_to(repository).as_posix() for p in repository.glob("pipeline/models/**/*.*")]
    assert {"dicom_node/console/templates/login.html", *ours} <= set(names)


def test_secrets_data_and_tests_stay_out_of_the_build(repository: Path) -> None:
    for name in ("deploy/secrets/ledger.password", "tests/conftest.py", ".git/config", "node.toml"):
        assert ignored(repository, name), name
    assert not ignored(repository, "dicom_node/cli.py")
    assert ignored(repository, "dicom_node/__pycache__/cli.pyc")


def test_bases_are_pinned_by_tag(dockerfile: list[dict[str, str]]) -> None:
    bases = [value.split()[0] for value in values(dockerfile, "FROM")]
    assert bases
    assert all(re.fullmatch(r"[a-z/]+:\d+\.\d+[a-z0-9.-]*", base) for base in bases)


def test_it_runs_as_nobody_special_and_knows_no_secret(dockerfile: list[dict[str, str]]) -> None:
    user, group = values(dockerfile, "USER")[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0
    last_stage = max(n for n, entry in enumerate(dockerfile) if entry["instruction"] == "FROM")
    assert "USER" in {entry["instruction"] for entry in dockerfile[last_stage:]}
    named = " ".join(values(dockerfile, "ENV") + values(dockerfile, "ARG"))
    assert re.search(r"password|secret|token|api_?key", named, re.IGNORECASE) is None


def test_every_extra_and_variant_exists(repository: Path, tool: Tool) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    files = [repository / "deploy" / name for name in ("Dockerfile", "compose.gpu.yaml")]
    text = "".join(path.read_text() for path in files)
    extras = {
        name for listed in re.findall(r"EXTRAS=([a-z,]+)", text) for name in listed.split(",")
    }
    assert extras
    assert extras <= set(project["optional-dependencies"])
    told = subprocess.run(
        [tool("uv"), "pip", "install", "--torch-backend", "none-such", "torch"],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    known = set(re.findall(r"[a-z]+[0-9.]*", told.partition("possible values")[2]))
    variants = set(VARIANT.findall(text))
    assert {"cpu", "cu130"} <= variants
    assert variants <= known


def test_its_commands_exist(dockerfile: list[dict[str, str]]) -> None:
    assert understands(json.loads(values(dockerfile, "CMD")[-1]))
    probe = json.loads(values(dockerfile, "HEALTHCHECK")[0].partition("CMD ")[2])
    assert probe[:3] == ["python", "-m", "dicom_node.probe"]
    assert is_well(probe[3]) is False  # nothing answers here
    assert is_well("file:///etc/passwd") is False
