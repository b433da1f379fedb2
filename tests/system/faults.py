"""Break a running node at random moments and account for every acknowledged image.

    python -m tests.system.faults --rounds 100

Each round sends a series that nobody has sent before and breaks something meanwhile. At the end a
table says, for each kind of fault: acknowledged = recorded = analysed or explained, and each
result is at the PACS exactly once. The worker is a stub (``stub_worker``); everything else is
what a site runs. Disk faults need the right to mount a small tmpfs and are left out without it.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from dicom_node.broker import broker_folder
from dicom_node.records import SeriesState
from dicom_node.spool import Spool
from tests.peers import OUT_OF_RESOURCES, Fault, ScriptedPacs
from tests.system.auditing import ENDED, Finding, Pacs, audit, table
from tests.system.running_node import RunningNode, StubbedNode, running_node
from tests.system.sending import SLICES, SendingScanner, Sent, opened, small_series
from tests.system.stub_worker import CRASH, HANG, MEMORY

SETTINGS = """\
[storage]
folder = "node"
free_space_watermark_mib = 0
ledger_url = "sqlite:///{folder}/ledger/ledger.sqlite"
[listener]
port = {{port}}
[completion]
quiet_after_release_s = 0.3
quiet_s = 2.0
[delivery]
first_wait_s = 0.3
longest_wait_s = 1.0
timeout_s = 2.0
[worker]
time_limit_s = 5.0
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {{pacs_port}}
"""
VOLUME_MIB = 48
_LATEST_MOMENT_S = 0.8
_END_S = 240.0
_GLANCE_S = 0.5


@dataclass
class Bench:
    """A running node with everything that was sent to it."""

    node: RunningNode
    folder: Path
    random: random.Random
    mounted: bool
    sent: list[Sent] = field(default_factory=list)
    pacs_lives: list[ScriptedPacs] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def series(self, fault: str, description: str = "") -> tuple[Sent, list[Path]]:
        number = len(self.sent) + 1
        paths = small_series(self.folder / "series" / str(number), number, description)
        self.sent.append(opened(paths, fault))
        return self.sent[-1], paths

    def scanner(self, paths: Sequence[Path], sent: Sent, title: str = "CT1") -> SendingScanner:
        scanner = SendingScanner(self.node.settings.listener.port, paths, sent, title)
        scanner.start()
        return scanner

    def revive(self) -> None:
        """Start again what ended although nobody killed it, as a service manager does."""
        for part in [one for one in self.node.parts.running if one.process.poll() is not None]:
            lines = part.log.read_text(errors="replace").splitlines()
            self.ended.append(f"{part.name} with {part.process.returncode}: {' '.join(lines[-1:])}")
            self.node.forget(part)
            self.node.start(part.name)

    def wait_for(self, *scanners: SendingScanner) -> None:
        """Wait until scanners are done."""
        while any(scanner.is_alive() for scanner in scanners):
            self.revive()
            for scanner in scanners:
                scanner.join(_GLANCE_S)

    def some_moment(self) -> None:
        time.sleep(self.random.uniform(0.0, _LATEST_MOMENT_S))

    def restart_pacs(self) -> None:
        self.node.restart_pacs()
        self.pacs_lives.append(self.node.pacs)

    def pacs(self) -> Pacs:
        stored = {uid: kept for life in self.pacs_lives for uid, kept in life.received.items()}
        attempts = tuple(uid for life in self.pacs_lives for uid in life.attempts)
        return Pacs(stored, attempts)

    def state(self, sent: Sent) -> SeriesState | None:
        known = {
            r.series_instance_uid: r.state for r in self.node.ledger.list_series(limit=100_000)
        }
        return known.get(sent.uid)


def nothing(_bench: Bench) -> None:
    """Leave everything as it is."""


def kill_listener(bench: Bench) -> None:
    """SIGKILL the listener with its broker, and start it again."""
    bench.node.kill("serve")
    bench.node.start("serve")


def kill_working_process(bench: Bench) -> None:
    """SIGKILL the process that measures."""
    with suppress(ProcessLookupError):
        bench.node.kill_child("gpu")


def kill_worker(bench: Bench) -> None:
    """SIGKILL the whole worker, and start it again."""
    bench.node.kill("gpu")
    bench.node.start("gpu")


def kill_sender(bench: Bench) -> None:
    """SIGKILL the worker that records and delivers, and start it again."""
    bench.node.kill("node")
    bench.node.start("node")


def kill_broker(bench: Bench) -> None:
    """SIGKILL the broker; the listener starts it again."""
    with suppress(Exception):
        bench.node.kill_broker()


def wipe_broker(bench: Bench) -> None:
    """SIGKILL listener and broker and delete everything that the broker kept."""
    kill_broker(bench)
    bench.node.kill("serve")
    shutil.rmtree(broker_folder(bench.node.settings), ignore_errors=True)
    bench.node.start("serve")


def take_pacs_away(bench: Bench) -> None:
    """Stop the PACS, and start it again after a while."""
    bench.node.pacs.stop()
    time.sleep(2.0)
    bench.restart_pacs()


def answer(*script: int | Fault) -> Callable[[Bench], None]:
    """Let the PACS answer so, instead of success."""

    def act(bench: Bench) -> None:
        bench.node.pacs.script.extend(script)

    return act


def fill(volume: str) -> Callable[[Bench], None]:
    """Write until not a byte is left on a volume; make room again after a while."""

    def act(bench: Bench) -> None:
        ballast = bench.folder / volume / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        time.sleep(2.0)
        ballast.unlink()

    return act


FAULTS: dict[str, Callable[[Bench], None]] = {
    "nothing broken": nothing,
    "listener killed": kill_listener,
    "working process killed": kill_working_process,
    "whole worker killed": kill_worker,
    "broker killed": kill_broker,
    "broker wiped": wipe_broker,
    "sender killed": kill_sender,
    "PACS away": take_pacs_away,
    "PACS out of resources": answer(OUT_OF_RESOURCES, OUT_OF_RESOURCES),
    "PACS aborts": answer(Fault.ABORT),
    "PACS silent": answer(Fault.SILENCE),
}
DISK_FAULTS: dict[str, Callable[[Bench], None]] = {
    "volume of spool, broker full": fill("node"),
    "volume of ledger full": fill("ledger"),
}


def broken_round(name: str, act: Callable[[Bench], None]) -> Callable[[Bench], None]:
    """Send a series and do something at a random moment."""

    def play(bench: Bench) -> None:
        sent, paths = bench.series(name)
        scanner = bench.scanner(paths, sent)
        bench.some_moment()
        act(bench)
        bench.wait_for(scanner)

    return play


def images_at_the_hand_over(bench: Bench) -> None:
    """Send the second half of a series in the moment in which the first half goes to a worker."""
    sent, paths = bench.series("images at the hand-over")
    bench.wait_for(bench.scanner(paths[: SLICES - 1], sent))
    while bench.state(sent) is SeriesState.RECEIVING:
        bench.revive()
        time.sleep(0.005)
    bench.wait_for(bench.scanner(paths[SLICES - 1 :], sent))


def two_sources_at_once(bench: Bench) -> None:
    """Two peers send overlapping parts of one series at the same time."""
    sent, paths = bench.series("two sources at once")
    parts = (paths[: SLICES - 3], "CT1"), (paths[3:], "CT2")
    scanners = [bench.scanner(part, sent, title) for part, title in parts]
    bench.wait_for(*scanners)


def sent_again_after_delivery(bench: Bench) -> None:
    """Send a series once more when its results are at the PACS."""
    sent, paths = bench.series("sent again after delivery")
    bench.wait_for(bench.scanner(paths, sent))
    wait_for_end(bench, [sent])
    bench.wait_for(bench.scanner(paths, sent))


def poison(description: str) -> Callable[[Bench], None]:
    """Send a series that no worker survives."""

    def play(bench: Bench) -> None:
        sent, paths = bench.series(f"poison: {description.lower()}", description)
        bench.wait_for(bench.scanner(paths, sent))

    return play


def rounds(bench: Bench, only: Sequence[str] = ()) -> Iterator[Callable[[Bench], None]]:
    """Every kind of round in a random order, or some kinds of fault, again and again."""
    faults = FAULTS | (DISK_FAULTS if bench.mounted else {})
    kinds = [broken_round(name, act) for name, act in faults.items() if not only or name in only]
    if not only:
        kinds += [images_at_the_hand_over, two_sources_at_once, sent_again_after_delivery]
        kinds += [poison(CRASH), poison(MEMORY), poison(HANG)]
    while True:
        bench.random.shuffle(kinds)
        yield from kinds


def wait_for_end(bench: Bench, sent: Sequence[Sent]) -> None:
    """Wait until every series has ended, or the patience has."""
    deadline = time.monotonic() + _END_S
    while time.monotonic() < deadline:
        if all(bench.state(one) in ENDED for one in sent):
            return
        bench.revive()
        time.sleep(0.2)


def account(bench: Bench) -> list[Finding]:
    """Follow every series to its end."""
    spool, pacs = Spool.of(bench.node.settings.storage), bench.pacs()
    return [audit(sent, bench.node.ledger, spool, pacs) for sent in bench.sent if sent.acknowledged]


@contextmanager
def bench_in(folder: Path, seed: int, *, mount: bool) -> Iterator[Bench]:
    """Start a node below a folder, each of its volumes small if that is allowed."""
    volumes = [folder / name for name in ("node", "ledger")]
    for volume in volumes:
        volume.mkdir()
    mounted = mount and all(_mount(volume) for volume in volumes)
    try:
        settings = SETTINGS.format(folder=folder)
        with running_node(folder, StubbedNode, settings) as node:
            bench = Bench(node, folder, random.Random(seed), mounted)  # noqa: S311 - not a secret
            bench.pacs_lives.append(node.pacs)
            yield bench
    finally:
        if mounted:
            for volume in volumes:
                subprocess.run(["umount", "--lazy", str(volume)], check=False)


def run(
    bench: Bench, plays: Iterable[Callable[[Bench], None]], say: Callable[[str], None]
) -> list[Finding]:
    """Play rounds, wait for the end, account for everything."""
    for number, play in enumerate(plays, start=1):
        started = time.monotonic()
        play(bench)
        say(f"round {number}: {bench.sent[-1].fault}, {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    wait_for_end(bench, bench.sent)
    say(f"everything ended {time.monotonic() - started:.1f} s later")
    return account(bench)


def _mount(volume: Path) -> bool:
    if os.getuid() != 0:
        return False
    options = ["-t", "tmpfs", "-o", f"size={VOLUME_MIB}m,mode=0700", "tmpfs", str(volume)]
    return subprocess.run(["mount", *options], check=False, capture_output=True).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", action="append", default=[], choices=[*FAULTS, *DISK_FAULTS], help="these faults"
    )
    parser.add_argument("--keep", type=Path, help="new folder to work in and leave behind")
    options = parser.parse_args(arguments)

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    folder = options.keep or Path(tempfile.mkdtemp(prefix="psoas-faults-"))
    folder.mkdir(exist_ok=True)
    with bench_in(folder, options.seed, mount=True) as bench:
        if not bench.mounted:
            say("no right to mount: the rounds with full volumes are left out")
        findings = run(bench, islice(rounds(bench, options.only), options.rounds), say)
    say(table(findings))
    for one in bench.ended:
        say(f"ended by itself and was started again: {one}")
    for finding in findings:
        if not finding.holds:
            say(f"DOES NOT HOLD: {finding}")
    if options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(finding.holds for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
