"""Commands as text that can be pasted into a shell: the program's name as it can be called, arguments quoted."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "frugan"


def command(*arguments: object) -> str:
    """`command("resume", run)` → "frugan resume 'my runs/cats'": one line that runs in the shell the program was started from.

    Arguments that are paths may begin with a dash; None is left out.
    """
    return " ".join([program(), *(quote(argument) for argument in arguments if argument is not None)])


def program() -> str:
    """The command that calls this program: "frugan" if it is on the PATH, else the script as it was called, else the module."""
    here = Path(sys.executable).parent
    called, found = Path(sys.argv[0]), shutil.which(NAME)
    as_module = called.name == "__main__.py"
    if called.stem == NAME and not as_module:
        return NAME if found and _same(Path(found), called) else quote(called)
    if found and Path(found).parent == here and not as_module:  # called from Python
        return NAME
    python = shutil.which("python")
    return f"{'python' if python and Path(python).parent == here else quote(sys.executable)} -m {NAME}"


def quote(argument: object) -> str:
    """An argument quoted for a shell; control characters become escapes, so that printing it sends none to the terminal."""
    text = str(argument)
    if isinstance(argument, Path) and text.startswith("-"):
        text = os.path.join(os.curdir, text)
    if os.name == "nt":
        return subprocess.list2cmdline([text])
    if text.isprintable():
        return shlex.quote(text)
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in "\\'" else f"\\x{b:02x}" for b in os.fsencode(text))
    return f"$'{''.join(plain)}'"


def _same(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:  # on Windows a script is called without its ending
        return a.with_suffix("") == b.with_suffix("")
