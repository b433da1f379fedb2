"""Each check of tests/run.sh was seen to fail, again in every run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("dicom_node", "pipeline", "training")


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """The Python files of the packages with their configuration, free to be broken."""
    for package in PACKAGES:
        shutil.copytree(
            repository / package,
            tmp_path / package,
            ignore=shutil.ignore_patterns("*.dcm", "*.safetensors", "__pycache__"),
        )
    shutil.copy(repository / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("BLE001", "try:\n    x = 1\nexcept Exception:\n    x = 2\n"),
        ("T201", 'print("hello")\n'),
        ("DTZ005", "from datetime import datetime\n\nNOW = datetime.now()\n"),
        ("ERA001", "# x = 1\n"),
        ("PLR0913", "def f(a: int, b: int, c: int, d: int, e: int, g: int, h: int) -> None: ...\n"),
        ("F811", "def f() -> None: ...\ndef f() -> None: ...\n"),
        ("ANN001", "def f(a) -> None: ...\n"),
        ("D103", "def f() -> None: ...\n"),
    ],
)
def test_ruff_refuses(rule: str, code: str, copy: Path) -> None:
    (copy / "pipeline" / "broken.py").write_text(f'"""Broken."""\n\n{code}')
    result = run("ruff", "check", "pipeline/broken.py", cwd=copy)
    assert result.returncode == 1
    assert rule in result.stdout


def test_ruff_refuses_unformatted_code(copy: Path) -> None:
    (copy / "pipeline" / "broken.py").write_text("x   =  1\n")
    assert run("ruff", "format", "--check", "pipeline/broken.py", cwd=copy).returncode == 1


def test_mypy_refuses_an_untyped_function(copy: Path) -> None:
    broken = copy / "broken.py"
    broken.write_text("def f(a):\n    return a\n")
    result = run("mypy", "--config-file", "pyproject.toml", "-p", "broken", cwd=copy)
    assert result.returncode == 1
    assert "no-untyped-def" in result.stdout


def lint_imports(copy: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-cache"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(copy)},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contract", "module", "line"),
    [
        ("never each other", "training/__init__.py", "import dicom_node.records"),
        ("no network and no queue", "pipeline/composition.py", "import socket"),
        ("never loads torch", "dicom_node/records/series.py", "import torch"),
        ("do not know DICOM objects", "pipeline/composition.py", "import pipeline.objects.codes"),
        ("know no DICOM library", "pipeline/composition.py", "import pydicom"),
        ("do not know DICOM objects", "pipeline/utils.py", ""),
    ],
)
def test_import_contract_is_broken_by(contract: str, module: str, line: str, copy: Path) -> None:
    with (copy / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = lint_imports(copy)
    assert result.returncode == 1
    broken = [row for row in result.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(contract in row for row in broken), result.stdout


@pytest.mark.slow
def test_import_contracts_hold_on_an_unbroken_copy(copy: Path) -> None:
    result = lint_imports(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "code",
    [
        "def test_fails():\n    assert False\n",
        "import warnings\n\ndef test_warns():\n    warnings.warn('w')\n",
        "import pytest\n\n@pytest.mark.no_such_mark\ndef test_mark():\n    pass\n",
    ],
)
def test_pytest_refuses(code: str, copy: Path) -> None:
    (copy / "tests").mkdir()
    (copy / "tests" / "test_broken.py").write_text(code)
    assert run("pytest", "-q", "-p", "no:cacheprovider", cwd=copy).returncode != 0
