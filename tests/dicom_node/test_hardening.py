import subprocess
import sys


def outcome(script: str) -> str:
    """What a script prints in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return run.stdout.strip()


def test_more_memory_than_allowed_is_an_error_and_not_a_kill() -> None:
    script = (
        "import numpy\n"
        "from dicom_node.hardening import limit_memory\n"
        "limit_memory({limit})\n"
        "try: numpy.ones(600 * 2**20, dtype=numpy.uint8); print('taken')\n"
        "except MemoryError: print('refused')\n"
    )
    assert outcome(script.format(limit=512)) == "refused"
    assert outcome(script.format(limit=0)) == "taken"


def test_a_crash_leaves_no_image_of_the_memory() -> None:
    script = (
        "import resource\n"
        "from dicom_node.hardening import forbid_core_dumps\n"
        "forbid_core_dumps()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    assert outcome(script) == "(0, 0)"
