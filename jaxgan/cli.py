"""What all doors share: flags parsed by one library, and every mistake of the user told in one line."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import platform
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from jaxgan import hosts
from jaxgan.config import InputError, expanded

T = TypeVar("T")

PROGRAMS_BYTES = 512 * 2**20
"""Compiled programs that are kept at most; the ones that were not used for longest go first."""

# Errors of files that a user can mend: room, rights, and names.
_USERS_OWN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EMFILE, errno.EIO}
_USERS_OWN |= {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
_USERS_OWN |= {errno.EPERM, errno.ENOTSUP, errno.ESTALE}

# What a shell may say that would change the numbers of a run, or keep its files from being read or its figures drawn.
_NOT_OURS = ("JAX_ENABLE_X64", "JAX_DEFAULT_PRNG_IMPL", "JAX_THREEFRY_PARTITIONABLE", "JAX_TRANSFER_GUARD")
_PLOTS = {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}

_BOX = "╭╮╰╯│─"
_WRONG_TYPES = (
    (r"invalid literal for int\(\) with base 10: '(.*?)'", "must be a whole number"),
    (r"could not convert string to float: '(.*?)'", "must be a number"),
    (r"Could not find valid parse for arguments: \['(.*?)'\]", "takes whole numbers with spaces between them"),
)
_OUT_OF_MEMORY = (
    "out of memory: take smaller --gen.widths, --disc.widths, --batch-size, --every.grid or --num, or --wave of a sweep"
)


def parse(
    kind: type[T],
    arguments: Sequence[str],
    *,
    usage: str,
    description: str,
    default: T | None = None,
    program: str = "python -m jaxgan",
) -> T:
    """Reads arguments into a dataclass whose fields are the flags, or prints `--help` and exits.

    Args:
        kind: The dataclass.
        arguments: The words of the command line.
        usage: The door, and what may stand between it and the flags, such as `train [PRESET]`.
        description: What `--help` says first.
        default: The values of fields that no flag sets, where they are not the dataclass's own.
        program: What stands before the door and a dot.

    Raises:
        InputError: An argument is unknown, missing or of the wrong type.
    """
    with _one_line_errors(f"{program}.{usage.split(maxsplit=1)[0]} --help", arguments):
        given: dict[str, Any] = {} if default is None else {"default": default}
        parsed = tyro.cli(kind, prog=f"{program}.{usage}", description=description, args=arguments, **given)
    return _at_home(parsed)


def _at_home(value: T) -> T:
    """The same with ~ in all of its paths resolved: no shell does that in `--run-dir=~/runs`.

    Raises:
        InputError: A path is not text: neither JAX nor Orbax could write there.
    """
    if isinstance(value, Path):
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise InputError(f"the name {str(value)!r} is not UTF-8: choose another") from None
        return expanded(value)  # pyright: ignore[reportReturnType]
    if is_dataclass(value):
        return replace(value, **{field.name: _at_home(getattr(value, field.name)) for field in fields(value)})  # pyright: ignore
    return value


def command_line(door: str, *words: object) -> str:
    """A command as a shell takes it, to be shown."""
    # A path that begins with a dash would be read as a flag.
    shown = [f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words]
    return shlex.join(["python", "-m", f"jaxgan.{door}", *shown])


def parse_some(kind: type[T], arguments: Sequence[str], *, usage: str) -> T:
    """Reads the flags that are fields of `kind` and passes over all others, `--help` among them."""
    with _one_line_errors(f"python -m jaxgan.{usage} --help", arguments):
        parsed = tyro.cli(kind, args=arguments, return_unknown_args=True, add_help=False)[0]
    return _at_home(parsed)


@contextlib.contextmanager
def _one_line_errors(help_command: str, arguments: Sequence[str]) -> Iterator[None]:
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            yield
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise InputError(f"{_one_line(errors.getvalue(), arguments)} (see {help_command})") from None


def _one_line(box: str, arguments: Sequence[str]) -> str:
    """The message of tyro's box, with its first suggestion."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:
        text = line.strip(_BOX + " ")
        if text:
            sections[-1].append(text)
        elif "─" in line:
            sections.append([])
    message = _in_our_words(" ".join(sections[0]), arguments)
    for section in sections[1:]:
        if section and section[0].startswith("Perhaps you meant") and len(section) > 1:
            message += f"; did you mean {section[1].split()[0]}?"
    return message


def _in_our_words(message: str, arguments: Sequence[str]) -> str:
    """What tyro says of a value of the wrong type, or of one too many, in the words that ranges are told in."""
    flag = re.match(r"Error parsing (--\S+):", message)
    for told, wanted in _WRONG_TYPES:
        if flag and (found := re.search(told, message)):
            value = found[1].replace("', '", " ")
            return f"{flag[1]} {wanted}, not {value}"
    if stray := re.match(r"Unrecognized options: (?!-)(\S+)", message):
        words = " ".join(arguments).replace("=", " ").split()
        before = words[words.index(stray[1]) - 1] if words.count(stray[1]) == 1 and words[0] != stray[1] else ""
        switch = before.startswith("--")  # Any other flag would have taken it.
        return f"{before} takes no value: leave out {stray[1]}" if switch else f"{stray[1]} belongs to no flag"
    return message


def start_jax() -> None:
    """Lets JAX keep its compiled programs for later processes, and looks whether it has a device.

    Raises:
        InputError: JAX has no device, as when JAX_PLATFORMS names one that is not there.
    """
    import jax

    chosen = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if not chosen and (folder := _programs_folder()):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # With a limit JAX locks the folder, so that several processes can use it at once.
        jax.config.update("jax_compilation_cache_max_size", PROGRAMS_BYTES)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # Which of them depends on the name.
        wanted = os.environ.get("JAX_PLATFORMS", "")
        raise InputError(f"JAX_PLATFORMS={wanted} names no device that is here: unset it, or set it to cpu") from error
    if not gc.isenabled():
        gc.freeze()  # What is there now stays to the end.
        gc.enable()


def _programs_folder() -> Path | None:
    """A folder of this user and machine for compiled programs; None where it cannot be had or others may write to it.

    What is read from it is run, so nobody else may put anything there. XLA splits a program for the cores that it sees
    when it compiles, which JAX does not look at when it finds a program again: so there is a folder for each number.
    """
    from jaxgan.devices import num_cores

    machine = f"{platform.node() or 'here'}-{num_cores()}-cores"
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        home.mkdir(parents=True, exist_ok=True)
        folder = home
        for name in ("jaxgan", "programs", machine):
            folder /= name
            folder.mkdir(mode=0o700, exist_ok=True)
            about = folder.stat()
            # Who may write to a folder above can put another in the place of this one.
            if about.st_uid != os.getuid() or about.st_mode & 0o022:
                return None
    except (OSError, RuntimeError):  # Not every user has a home.
        return None
    return folder if os.access(folder, os.W_OK) else None


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Runs a door and exits: 0 done, 2 the input was wrong, 130 interrupted; no traceback for a user's mistake."""
    _settle()
    gc.disable()  # Until JAX has started: imports make a million objects and no garbage.
    try:
        code = main(sys.argv[1:])
    except Exception as error:
        answer = _answer(error)
        if answer is None and not hosts.in_job():
            raise
        if answer is None:
            traceback.print_exc()
        code = 1 if answer is None else answer
        hosts.end(code)
    hosts.leave()
    sys.exit(code)


def _settle() -> None:
    """Makes a process that a shell, a notebook or a service started one like any other."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # It was started with the stream closed.
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (to the end of the process)
        getattr(sys, name).reconfigure(errors="replace")  # Fréchet in ASCII
    for name in _NOT_OURS:
        os.environ.pop(name, None)
    os.environ.update(_PLOTS)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def _stop(number: int, _: object) -> None:
    """Ends the process at once: an exception would be lost, or worse, where C has called back into Python.

    Whoever has something to save listens to signals on his own.
    """
    if os.isatty(2):
        os.write(2, b"\x1b[?25h\n")  # The cursor, which a progress bar hides.
    os._exit(128 + number)


def _answer(error: Exception) -> int | None:  # noqa: PLR0911 (a table)
    """The exit code for an error that a user can do something about, after a line that says what; else None."""
    match error:
        case InputError():
            return _complain(str(error))
        case BrokenPipeError():
            # The reader went away, as `head` does; what is still buffered has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        case OSError() if error.errno in _USERS_OWN:
            return _complain(f"{error.filename or 'writing'}: {error.strerror}")
        case MemoryError():
            return _complain(_OUT_OF_MEMORY)
        case RuntimeError() | ValueError() if "RESOURCE_EXHAUSTED" in str(error):  # XLA tells it in words.
            return _complain(_OUT_OF_MEMORY)
        case RuntimeError() if hosts.is_loss(error):
            # Whoever watches the processes knows which of them it is, and ends this one first.
            time.sleep(1.0)
            return hosts.lose(
                f"another process of this job is lost, or a device of this one ({str(error).splitlines()[0]})"
            )
        case _:
            return None


def _complain(message: str) -> int:
    print(f"jaxgan: error: {' '.join(message.split())}", file=sys.stderr)
    return 2
