"""Training in several processes on this machine: started, watched, started anew after a fault, and stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from frugan.distributed import patience
from frugan.errors import FruganError

STARTS = 4
GRACE_S = 5.0
"""Seconds in which the others, after one process has failed, end by themselves. Then they are killed."""

_MISTAKE = 2  # exit code of what the user can fix: it would only happen again
_HERE = "127.0.0.1"  # this machine's own name need not resolve


def launch(processes: int, module: str, arguments: Sequence[str]) -> None:
    """Runs `python -m module …` in several processes on this machine, which are all started anew up to three times
    after a fault of one.

    Ctrl-C, SIGTERM and SIGHUP are passed on, and end it when the processes have saved; a second Ctrl-C kills them.

    Args:
        processes: how many.
        module: to run.
        arguments: of the module.

    Raises `FruganError` where starting anew does not help, and exits with code 2 where a process did so, as it has
    printed its message.
    """
    patience()  # refused once, here
    ended = ""
    with _asked_to_stop() as asked:
        for start in range(1, STARTS + 1):
            workers = _start(processes, [sys.executable, "-m", module, *arguments])
            try:
                codes = _watch(workers, asked)
            finally:
                _kill(workers)
            if not any(codes):
                return
            if asked and all(code in (0, -signal.SIGTERM) for code in codes):
                _say("stopped before the first step; nothing was lost")
                sys.exit(128 + asked[0])
            if _MISTAKE in codes:
                sys.exit(_MISTAKE)
            ended = ", ".join(f"process {i} with {code}" for i, code in enumerate(codes) if code)
            if asked:
                break
            if start < STARTS:
                _say(f"a process ended ({ended}); all begin anew from the last checkpoint ({start} of {STARTS - 1})")
    raise FruganError(f"training in {processes} processes ended, {ended}; the first message above says why")


@dataclass
class _Worker:
    """A process, and the thread that hands on what it says about errors."""

    process: subprocess.Popen[str]
    relay: threading.Thread


def _start(processes: int, command: Sequence[str]) -> list[_Worker]:
    with socket.socket() as free:
        free.bind((_HERE, 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": _HERE, "MASTER_PORT": port}
    defaults = {"OMP_NUM_THREADS": "1"}
    if loopback := next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None):
        defaults["GLOO_SOCKET_IFNAME"] = loopback
    told: set[str] = set()
    workers = []
    ask = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: the terminal's Ctrl-C is for this process alone
    try:
        for rank in range(processes):
            own = {k: str(v) for k, v in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()}
            environment = defaults | os.environ | own
            text = {"text": True, "encoding": "utf-8", "errors": "backslashreplace"}
            process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, **text)
            workers.append(_Worker(process, threading.Thread(target=_relay, args=(process, told), daemon=True)))
            workers[-1].relay.start()
    finally:
        signal.signal(signal.SIGINT, ask)
    return workers


def _relay(process: subprocess.Popen[str], told: set[str]) -> None:
    """Hands on what a process says about errors; a sentence that all of them say, once."""
    assert process.stderr
    for line in process.stderr:
        if not line.startswith("frugan: ") or line not in told:
            told.add(line)
            sys.stderr.write(line)
            sys.stderr.flush()


def _watch(workers: Sequence[_Worker], asked: list[int]) -> list[int]:
    """The exit codes, when all have ended, or one has failed and the others had their time to notice; 0 while running."""
    handed_on = False
    while None in (codes := [worker.process.poll() for worker in workers]) and not any(codes):
        if asked and not handed_on:
            handed_on = True
            for worker in workers:
                worker.process.terminate()
        time.sleep(0.1)
    until = time.monotonic() + GRACE_S
    while None in (codes := [worker.process.poll() for worker in workers]) and time.monotonic() < until:
        time.sleep(0.1)
    return [code or 0 for code in codes]


def _kill(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.wait()
        worker.relay.join(GRACE_S)


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """The signals that have come. A second Ctrl-C raises `KeyboardInterrupt`."""
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {kind: signal.signal(kind, ask) for kind in stop_signals()}
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def stop_signals() -> list[signal.Signals]:
    """The signals that ask for a stop: Ctrl-C, a scheduler's SIGTERM, and SIGHUP of a terminal that closes, unless
    `nohup` bars it.
    """
    kinds = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Windows has none
        kinds.append(signal.SIGHUP)
    return kinds


def _say(text: str) -> None:
    sys.stderr.write(f"frugan: {text}\n")
    sys.stderr.flush()
