"""Throw broken PDUs and data sets at a listener: ``python -m tests.system.fuzz --inputs 10000``.

Meanwhile a scanner asks for C-ECHO all the time. The table at the end says what became of the
inputs, how long the slowest echo took and what the listener weighs; the exit status is 1 when it
died, left an input unanswered, grew or let the scanner wait for more than a second.
"""

import argparse
import os
import random
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from dicom_node.config import NodeSettings
from dicom_node.logs import configure_logs
from dicom_node.serve import serve, stop_on_signals
from tests.dicom_node.datasets import encoded
from tests.dicom_node.factories import RecordingDispatcher, node_settings
from tests.system import wire
from tests.system.mutations import mutated

SLOWEST_ECHO_S = 1.0
MOST_MEMORY_MIB = 512
PLACES = 6

_CT = Path(__file__).parents[2] / "dicom_node" / "demo" / "ct"
_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGLSLossless,
)
_PIXEL_BYTES = 512


@dataclass
class Findings:
    """What the run found."""

    answers: Counter[str] = field(default_factory=Counter)
    echoes_s: list[float] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    died: bool = False
    memory_mib: float = 0.0
    threads: int = 0

    @property
    def slowest_echo_s(self) -> float:
        return max(self.echoes_s, default=float("inf"))

    @property
    def faults(self) -> list[str]:
        """What must not be, the time of the echo left out: that is the machine's as well."""
        faults = [f"unanswered: {what}" for what in self.unanswered]
        if self.died:
            faults.append("the listener died")
        if self.memory_mib > MOST_MEMORY_MIB:
            faults.append(f"the listener took {self.memory_mib:.0f} MiB")
        if not self.echoes_s:
            faults.append("no C-ECHO was answered")
        return faults


def settings_in(folder: Path) -> NodeSettings:
    """A node that the fuzzer may call as often as it likes, with a scanner beside it."""
    sources = [
        {
            "ae_title": "FUZZ",
            "services": ["store", "echo", "notify"],
            "maximum_associations": PLACES,
            "associations_per_minute": 10**6,
        },
        {"ae_title": "SCANNER", "associations_per_minute": 10**6},
    ]
    listener = {"largest_instance_mib": 16, "network_timeout_s": 10.0}
    return node_settings(folder, sources=sources, listener=listener, log={"level": "error"})


@cache
def small_data_sets() -> list[tuple[int, str, bytes]]:
    """Context, SOP Instance UID and content of a real CT image with few pixels, in each syntax."""
    dataset = dcmread(min(_CT.glob("*.dcm")))
    pixels = dataset.PixelData[:_PIXEL_BYTES]
    uid = str(dataset.SOPInstanceUID)
    made = []
    for number, syntax in enumerate(_SYNTAXES):
        if syntax == JPEGLSLossless:
            dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
            frame = (
                b"\xfe\xff\x00\xe0\x00\x00\x00\x00" + b"\xfe\xff\x00\xe0\x00\x02\x00\x00" + pixels
            )
            dataset.PixelData = frame
        else:
            dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OW", False
            dataset.PixelData = pixels
        made.append((wire.STORE_CONTEXT + 2 * number, uid, encoded(dataset, syntax)))
    return made


@cache
def small_notification() -> bytes:
    """A list of two images, as an archive announces it."""
    images = []
    for number in (1, 2):
        image = Dataset()
        image.ReferencedSOPClassUID = CTImageStorage
        image.ReferencedSOPInstanceUID = f"1.2.3.{number}"
        image.InstanceAvailability = "ONLINE"
        images.append(image)
    series = Dataset()
    series.SeriesInstanceUID = "1.2.3"
    series.ReferencedSOPSequence = images
    content = Dataset()
    content.StudyInstanceUID = "1.2"
    content.ReferencedSeriesSequence = [series]
    return encoded(content, ImplicitVRLittleEndian)


def conversation(chance: random.Random) -> bytes:
    """What an honest peer sends in one association, or a part of it."""
    context, uid, data = chance.choice(small_data_sets())
    pdus = [
        wire.associate_request("FUZZ", _SYNTAXES),
        wire.echo_request(),
        wire.store_request(context, uid, data),
        wire.RELEASE,
    ]
    if chance.random() < 0.3:
        chance.shuffle(pdus)
    return b"".join(pdus[: chance.randint(1, 4)])


class Fuzzer:
    """Sends inputs to a port and notes what comes back.

    Parameters
    ----------
    port : int
    chance : Random
    """

    def __init__(self, port: int, chance: random.Random) -> None:
        self.port = port
        self.chance = chance
        self.findings = Findings()
        self._data_sets = small_data_sets()
        self._honest = [conversation(random.Random(seed)) for seed in range(40)]  # noqa: S311
        self._association: socket.socket | None = None

    def run(self, inputs: int) -> None:
        """Send so many inputs: PDUs, data sets and, for every tenth one, news."""
        kinds = [self.send_data_set, self.send_pdus] * 4 + [self.send_data_set, self.send_news]
        for number in range(inputs):
            send = kinds[number % len(kinds)]
            try:
                send()
            except TimeoutError:
                self.findings.unanswered.append(f"input {number}, {send.__name__}")
                self._forget_association()
        self._forget_association()

    def send_pdus(self) -> None:
        """A conversation with mutations; afterwards we send no more, so the node must close."""
        self.converse(mutated(self.chance, self.chance.choice(self._honest)))

    def converse(self, content: bytes) -> None:
        """Send bytes on a connection of their own, then wait until the node closes it."""
        kinds = []
        with wire.connect(self.port) as connection:
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            except ConnectionError:
                kinds.append("cut off")
            while (kind := wire.next_pdu(connection)[0]) != 0:
                kinds.append(_NAMES.get(kind, f"PDU {kind}"))
        self.findings.answers[f"PDUs: {kinds[-1] if kinds else 'closed'}"] += 1

    def send_data_set(self) -> None:
        """A C-STORE whose data set has mutations, on an association that goes on."""
        context, uid, data = self.chance.choice(self._data_sets)
        self.store(wire.store_request(context, uid, mutated(self.chance, data)))

    def send_news(self) -> None:
        """An N-CREATE whose attribute list has mutations, on the same association."""
        self.ask(wire.news_request(mutated(self.chance, small_notification())), "news")

    def store(self, request: bytes) -> None:
        """Send a C-STORE request and wait for its status."""
        self.ask(request, "data set")

    def ask(self, request: bytes, what: str) -> None:
        """Send a request and wait for its status."""
        association = self._associated()
        try:
            association.sendall(request)
            kind, body = wire.next_pdu(association)
        except ConnectionError:
            kind, body = 0, b""
        if kind == wire.P_DATA:
            self.findings.answers[f"{what}: status {wire.status_in(body):04X}"] += 1
            return
        self.findings.answers[f"{what}: {_NAMES.get(kind, 'closed')}"] += 1
        self._forget_association()

    def _associated(self) -> socket.socket:
        while self._association is None:
            connection = wire.connect(self.port)
            connection.sendall(wire.associate_request("FUZZ", _SYNTAXES))
            if wire.next_pdu(connection)[0] == wire.ACCEPT:
                self._association = connection
            else:
                connection.close()  # places are taken for a moment after a conversation
        return self._association

    def _forget_association(self) -> None:
        if self._association is not None:
            self._association.close()
            self._association = None


_NAMES = {
    wire.ACCEPT: "accepted",
    wire.REJECT: "rejected",
    wire.P_DATA: "answered",
    wire.RELEASE_ANSWER: "released",
    wire.ABORT: "aborted",
}


def echo(port: int) -> float:
    """Seconds that a scanner's C-ECHO takes, connection and association included."""
    begun = time.monotonic()
    with wire.connect(port) as connection:
        connection.sendall(wire.associate_request("SCANNER", ()))
        kind, _ = wire.next_pdu(connection)
        if kind != wire.ACCEPT:
            raise TimeoutError(f"the scanner was not let in: PDU {kind}")
        connection.sendall(wire.echo_request())
        kind, body = wire.next_pdu(connection)
        if kind != wire.P_DATA or wire.status_in(body) != 0:
            raise TimeoutError("the scanner got no echo")
        took_s = time.monotonic() - begun
        connection.sendall(wire.RELEASE)
        wire.next_pdu(connection)
    return took_s


@contextmanager
def echoing(port: int, findings: Findings) -> Iterator[None]:
    """Ask for C-ECHO again and again, in a process that has nothing else to do."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.system.fuzz", "--echo", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    try:
        assert process.stdout is not None
        findings.echoes_s.append(float(process.stdout.readline()))
        yield
    finally:
        rest, _ = process.communicate(timeout=60)  # closes its input
    for line in rest.splitlines():
        if line.startswith("failed"):
            findings.unanswered.append(f"C-ECHO {line}")
        else:
            findings.echoes_s.append(float(line))


def run_scanner(port: int) -> None:
    """Print the seconds that each C-ECHO takes, until the input is closed."""
    while True:
        try:
            print(echo(port), flush=True)  # noqa: T201
        except (OSError, TimeoutError) as error:
            print(f"failed: {error}", flush=True)  # noqa: T201
        if select.select([sys.stdin], [], [], 0.1)[0]:
            return


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@contextmanager
def listener(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A listener in a process of its own, with its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.system.fuzz", "--serve", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_environment(),
    )
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate(timeout=60)


def weigh(process: "subprocess.Popen[str]", findings: Findings) -> None:
    """Note whether the process lives, its peak of memory and its threads."""
    findings.died = process.poll() is not None
    if findings.died:
        return
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    values = {
        name: value.split()[0]
        for name, _, value in (line.partition(":") for line in lines)
        if value.split()
    }
    findings.memory_mib = int(values["VmHWM"]) / 1024
    findings.threads = int(values["Threads"])


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--echo", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.echo is not None:
        run_scanner(arguments.echo)
        return 0
    if arguments.serve is not None:
        run_listener(arguments.serve)
        return 0
    with tempfile.TemporaryDirectory() as folder, listener(Path(folder)) as (process, port):
        fuzzer = Fuzzer(port, random.Random(arguments.seed))  # noqa: S311 - no secret
        quiet_s = max(echo(port) for _ in range(10))
        begun = time.monotonic()
        with echoing(port, fuzzer.findings):
            fuzzer.run(arguments.inputs)
        took_s = time.monotonic() - begun
        weigh(process, fuzzer.findings)
    report(fuzzer.findings, arguments.inputs, took_s, quiet_s)
    slow = fuzzer.findings.slowest_echo_s > SLOWEST_ECHO_S
    return 1 if fuzzer.findings.faults or slow else 0


def report(findings: Findings, inputs: int, took_s: float, quiet_s: float) -> None:
    """Print the table."""
    rows = [
        ("inputs", f"{inputs} in {took_s:.0f} s"),
        *((name, str(count)) for name, count in sorted(findings.answers.items())),
        ("C-ECHO meanwhile", f"{len(findings.echoes_s)}, slowest {findings.slowest_echo_s:.3f} s"),
        ("C-ECHO before", f"slowest of 10: {quiet_s:.3f} s"),
        ("peak memory", f"{findings.memory_mib:.0f} MiB"),
        ("threads at the end", str(findings.threads)),
        ("faults", "; ".join(findings.faults[:5]) or "none"),
    ]
    for name, value in rows:
        print(f"{name:32} {value}")  # noqa: T201


def run_listener(folder: Path) -> None:
    """Print the port as soon as peers can associate, then serve until a signal comes."""
    settings = settings_in(folder)
    configure_logs(settings.log)
    stop = threading.Event()
    stop_on_signals(stop)
    serve(settings, RecordingDispatcher(), stop, ready=lambda port: print(port, flush=True))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
