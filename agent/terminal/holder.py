"""Holds the PTYs of one user in one container, whoever looks at them and for how long.

This program runs inside the container by whatever Python it has from 3.7 on, as the remote user,
and is all in this file. It is started as `python3 -ISc BOOT SOCKET` with this text in the
environment; it prints a line and goes to the background once it listens, or once another one does.

Whoever connects says one request: a head (tag, number, length of the body), then a body of fields
with NUL between them.

    O  open a terminal, or go on with it: columns << 16 | rows; id, folder, number of words, the
       words of the command, `NAME=value` for each of the environment. No words: a login shell.
    F  go on with a terminal from this offset on; id
    S  give it another size: columns << 16 | rows; id
    H  end it; id. The answer comes when all of its processes are gone.
    D  drop what is remembered of one that has exited; id

and hears `A` (done; for O and F the offset from which it goes on) or `N` (no; a sentence). After O
and F the connection is the terminal: what is said is typed, byte for byte, and what is heard are
frames with the same head: `O` (output; its offset; the bytes), at the end `X` (the exit code, minus
a signal's number). A newer connection to a terminal ends the older one. A shell whose output nobody
takes waits; while nobody is connected it goes on, and all but the last MiB is lost.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pwd
import select
import signal
import socket
import struct
import sys
import termios
import time

HEAD = struct.Struct("!cqI")
RING_BYTES = 1 << 20
FRAME_BYTES = 1 << 16
LAG_BYTES = 1 << 16
"""A shell waits while this much of its output has not been sent."""
INPUT_BYTES = 1 << 16
REQUEST_BYTES = 1 << 20
REST_BYTES = 1 << 18
"""Most that is read of a PTY after its shell has ended: more than the kernel keeps."""
PIECE_BYTES = 2048
"""After a piece of this size there may be more to read; the kernel gives 4 KiB at a time."""
TERMINALS_MAX = 64
EXITED_MAX = 16
GRACE_S = 2.0
LOOK_S = 0.1
CLAIM_S = 5.0
IUTF8 = 0o40000
TAKEN = 3
"""Exit code: another holder has our place and does not listen."""

TYPE_CHECKING = False  # As in `typing`, which would cost a MB.
if TYPE_CHECKING:
    from collections.abc import Callable

    Ready = Callable[[int], None]


class RequestError(Exception):
    """What was asked for cannot be; the text says why."""


class Guest:
    """One connection to a terminal, or one that has not said to which.

    Attributes:
        at: Offset of the next byte to send.
        rest: What is left of a frame that was sent in part.
        is_told: Whether the exit code was sent.
    """

    def __init__(self, holder: Holder, sock: socket.socket) -> None:
        self.holder = holder
        self.sock = sock
        self.heard = bytearray()
        self.rest = b""
        self.terminal: Terminal | None = None
        self.at = 0
        self.is_told = False
        self.is_gone = False
        sock.setblocking(False)
        self.watch()

    def watch(self) -> None:
        """Wait for what can be gone on with."""
        if not self.is_gone:
            is_full = self.terminal is not None and len(self.terminal.typed) >= INPUT_BYTES
            mask = (0 if is_full else select.EPOLLIN) | (select.EPOLLOUT if self.rest else 0)
            self.holder.watch(self.sock.fileno(), mask, self.ready)

    def ready(self, events: int) -> None:
        """Read and write what is possible now."""
        if events & select.EPOLLOUT and self.rest:
            rest, self.rest = self.rest, b""
            self.put(rest)
            if self.terminal is not None:
                self.terminal.flow()
        if events & select.EPOLLIN:
            self.read()
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self.leave()
        self.watch()

    def read(self) -> None:
        """Take what was said."""
        try:
            data = b"" if self.is_gone else self.sock.recv(INPUT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.leave()
        elif self.terminal is not None:
            self.terminal.type(data)
        else:
            self.heard += data
            self.listen()

    def listen(self) -> None:
        """Answer a request once it is whole."""
        if len(self.heard) < HEAD.size:
            return
        tag, number, size = HEAD.unpack_from(self.heard)
        if size > REQUEST_BYTES:
            self.leave()
        elif len(self.heard) >= HEAD.size + size:
            body = bytes(self.heard[HEAD.size : HEAD.size + size])
            typed = bytes(self.heard[HEAD.size + size :])
            self.heard = bytearray()
            try:
                self.holder.answer(self, tag, number, body.split(b"\0"))
            except (RequestError, OSError, ValueError, IndexError) as error:
                self.say(b"N", 0, str(error).encode("utf-8", "replace"))
            if typed and self.terminal is not None:
                self.terminal.type(typed)

    def say(self, tag: bytes, number: int, body: bytes | memoryview = b"") -> None:
        """Send a frame, or what goes of it now."""
        self.put(HEAD.pack(tag, number, len(body)), body)

    def put(self, *parts: bytes | memoryview) -> None:
        """Send bytes, or what goes of them now."""
        if self.is_gone:
            return
        try:
            count = self.sock.sendmsg(parts)
        except BlockingIOError:
            count = 0
        except OSError:
            self.leave()
            return
        if count < sum(map(len, parts)):
            self.rest = b"".join(parts)[count:]
            self.watch()

    def leave(self) -> None:
        """End the connection; again is fine."""
        if not self.is_gone:
            self.is_gone = True
            self.rest = b""
            self.holder.forget(self.sock.fileno())
            self.sock.close()
            terminal, self.terminal = self.terminal, None
            if terminal is not None and terminal.guest is self:
                terminal.guest = None
                terminal.watch()


class Terminal:
    """One PTY, and the end of what it has written.

    Attributes:
        end: Count of the bytes written so far.
        typed: What the shell has not taken yet.
        code: Of the shell, once it has ended.
        waiting: Who waits for its end.
    """

    def __init__(self, holder: Holder, size: int, start: Callable[[int], int]) -> None:
        self.holder = holder
        # Costs no memory before it is written to.
        self.ring = memoryview(mmap.mmap(-1, RING_BYTES, flags=mmap.MAP_PRIVATE))
        self.end = 0
        self.typed = bytearray()
        self.guest: Guest | None = None
        self.code: int | None = None
        self.waiting: list[Guest] = []
        self.kill_at: float | None = None
        # Our own end of the shell's side keeps the PTY from ending before its shell.
        self.master, self.slave = os.openpty()
        try:
            self.resize(size)
            self.pid = start(self.slave)
        except OSError:
            os.close(self.master)
            os.close(self.slave)
            raise
        os.set_blocking(self.master, False)
        self.watch()

    def resize(self, size: int) -> None:
        """Tell the shell of another size, columns << 16 | rows."""
        if self.code is None:
            packed = struct.pack("HHHH", size & 0xFFFF, size >> 16 & 0xFFFF, 0, 0)
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, packed)

    def watch(self) -> None:
        """Wait for what can be gone on with."""
        if self.code is None:
            is_full = self.guest is not None and self.end - self.guest.at >= LAG_BYTES
            mask = (0 if is_full else select.EPOLLIN) | (select.EPOLLOUT if self.typed else 0)
            self.holder.watch(self.master, mask, self.ready)

    def ready(self, events: int) -> None:
        """Read and write what is possible now."""
        if events & select.EPOLLOUT:
            self.type(b"")
        if events & select.EPOLLIN:
            self.read(FRAME_BYTES)
            self.flow()

    def read(self, at_most: int, enough: int = PIECE_BYTES) -> None:
        """Take what the shell has written, until a piece is not larger than `enough`."""
        while at_most > 0:
            place = self.end % RING_BYTES
            try:
                count = os.readv(self.master, [self.ring[place : place + FRAME_BYTES]])
            except OSError:
                return
            self.end += count
            at_most -= count
            if count <= enough:
                return

    def flow(self) -> None:
        """Send what there is."""
        guest = self.guest
        while guest is not None and not guest.rest and not guest.is_gone:
            if guest.at < self.end:
                at = max(guest.at, self.end - RING_BYTES)
                place = at % RING_BYTES
                size = min(self.end - at, FRAME_BYTES, RING_BYTES - place)
                guest.at = at + size
                guest.say(b"O", at, self.ring[place : place + size])
            elif self.code is not None and not guest.is_told:
                guest.is_told = True
                guest.say(b"X", self.code)
            else:
                break
        self.watch()

    def type(self, data: bytes) -> None:
        """Give the shell what was typed, as fast as it takes it."""
        self.typed += data
        try:
            while self.typed and self.code is None:
                del self.typed[: os.write(self.master, self.typed[:INPUT_BYTES])]
        except OSError:
            pass
        if self.code is not None:
            self.typed.clear()
        self.watch()
        if self.guest is not None:
            self.guest.watch()

    def receive(self, guest: Guest, after: int) -> None:
        """Show the terminal to a connection instead of the one before."""
        if self.guest is not None:
            self.guest.leave()
        guest.terminal, self.guest = self, guest
        guest.at = min(max(after, 0), self.end)
        guest.say(b"A", guest.at)
        self.flow()

    def hang_up(self, guest: Guest) -> None:
        """End the shell and what runs in its session, at first kindly."""
        if self.code is not None:
            guest.say(b"A", 0)
            return
        self.waiting.append(guest)
        if self.kill_at is None:
            self.kill_at = time.monotonic() + GRACE_S
            self.signal(signal.SIGHUP)
            self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the session."""
        for pid in {self.pid, *members(self.pid)}:
            try:
                os.kill(pid, number)
            except OSError:
                pass

    def look(self) -> None:
        """See whether the shell has ended and, if it was hung up, all the others have too.

        The shell is not reaped before that: its id is the session's, and stays ours.
        """
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if self.kill_at is not None:
            late_s = time.monotonic() - self.kill_at
            if late_s >= 0:
                self.signal(signal.SIGKILL)
            elif ended is None or members(self.pid):
                return
            if ended is None and late_s > GRACE_S:
                self.finish(-signal.SIGHUP)  # It is another user's now, such as after `exec sudo`.
                return
        if ended is not None:
            os.waitid(os.P_PID, self.pid, os.WEXITED)
            is_exit = ended.si_code == os.CLD_EXITED
            self.finish(ended.si_status if is_exit else -ended.si_status)

    def finish(self, code: int) -> None:
        """Keep what is left, and let go of the PTY: then the kernel hangs it up for the others."""
        self.holder.forget(self.master)
        self.read(REST_BYTES, enough=0)
        self.code = code
        os.close(self.slave)
        os.close(self.master)
        for guest in self.waiting:
            guest.say(b"A", 0)
        self.waiting = []
        self.flow()
        self.holder.tidy()


class Holder:
    """All terminals, and the loop that drives them."""

    def __init__(self, listener: socket.socket) -> None:
        self.terminals: dict[bytes, Terminal] = {}
        self.epoll = select.epoll()
        self.watched: dict[int, tuple[int, Ready]] = {}
        self.listener = listener
        self.bell, bell = socket.socketpair()
        self.bell.setblocking(False)
        bell.setblocking(False)
        self.ringing = bell
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(bell.fileno())
        self.watch(listener.fileno(), select.EPOLLIN, self.accept)
        self.watch(self.bell.fileno(), select.EPOLLIN, self.reap)

    def watch(self, fd: int, mask: int, ready: Ready) -> None:
        """Call `ready` with the events of `mask`, and at an end."""
        if fd not in self.watched:
            self.epoll.register(fd, mask)
        elif self.watched[fd][0] != mask:
            self.epoll.modify(fd, mask)
        self.watched[fd] = mask, ready

    def forget(self, fd: int) -> None:
        """Call nobody any more."""
        del self.watched[fd]
        self.epoll.unregister(fd)

    def run(self) -> None:
        """Serve for ever, and do nothing while nothing happens."""
        while True:
            ending = [one for one in self.terminals.values() if one.kill_at and one.code is None]
            happened = self.epoll.poll(LOOK_S if ending else None)
            called = [(fd, self.watched[fd][1], events) for fd, events in happened]
            for fd, ready, events in called:
                # One before may have ended it, and its number may be another's by now.
                if fd in self.watched and self.watched[fd][1] == ready:
                    ready(events)
            for terminal in ending:
                if terminal.code is None:
                    terminal.look()

    def accept(self, _: int) -> None:
        """Take one more connection."""
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return
        Guest(self, sock)

    def reap(self, _: int) -> None:
        """See which shells have ended."""
        try:
            while self.bell.recv(4096):
                pass
        except BlockingIOError:
            pass
        for terminal in list(self.terminals.values()):
            if terminal.code is None:
                terminal.look()

    def tidy(self) -> None:
        """Forget the oldest of the terminals that have exited, if they are many."""
        exited = [name for name, one in self.terminals.items() if one.code is not None]
        for name in exited[: max(0, len(exited) - EXITED_MAX)]:
            self.drop(name)

    def drop(self, name: bytes) -> None:
        """Forget a terminal that has exited."""
        if self.terminals[name].code is not None:
            guest = self.terminals.pop(name).guest
            if guest is not None:
                guest.leave()

    def answer(self, guest: Guest, tag: bytes, number: int, fields: list[bytes]) -> None:
        """Do what was asked for."""
        terminal = self.terminals.get(fields[0])
        if tag == b"O":
            terminal = terminal or self.open(number, fields)
            terminal.receive(guest, 0)
        elif terminal is None:
            raise RequestError("there is no such terminal")
        elif tag == b"F":
            terminal.receive(guest, number)
        elif tag == b"S":
            terminal.resize(number)
            guest.say(b"A", 0)
        elif tag == b"H":
            terminal.hang_up(guest)
        elif tag == b"D":
            self.drop(fields[0])
            guest.say(b"A", 0)
        else:
            raise RequestError("there is no such request")

    def open(self, size: int, fields: list[bytes]) -> Terminal:
        """Open a terminal."""
        if sum(one.code is None for one in self.terminals.values()) >= TERMINALS_MAX:
            raise RequestError("too many terminals are open; close some")
        name, folder, count = fields[0], os.fsdecode(fields[1]), int(fields[2])
        words = [os.fsdecode(word) for word in fields[3 : 3 + count]]
        pairs = [os.fsdecode(pair).partition("=") for pair in fields[3 + count :]]
        given = {key: value for key, _, value in pairs if key}
        terminal = Terminal(self, size, lambda slave: start(slave, folder, words, given))
        self.terminals[name] = terminal
        return terminal


def members(session: int) -> list[int]:
    """Return the ids of the processes of a session that have not ended."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/" + name + "/stat", "rb") as file:
                    state, _, _, its = file.read().rpartition(b")")[2].split()[:4]
            except (OSError, ValueError):
                continue
            if int(its) == session and state not in b"ZX":
                found.append(int(name))
    return found


def start(slave: int, folder: str, words: list[str], given: dict[str, str]) -> int:
    """Start a command in a PTY and return its process id, which is also its session's."""
    # What ends it before it has begun is not lost: blocked, a signal waits even if it is ignored.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid
    try:
        become(slave, folder, words, given)
    finally:
        os._exit(126)


def become(slave: int, folder: str, words: list[str], given: dict[str, str]) -> None:
    """Be the command: the child's way from the fork to the exec."""
    signal.set_wakeup_fd(-1)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    modes = termios.tcgetattr(slave)
    modes[0] |= IUTF8
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > 2:
            try:
                os.close(fd)
            except OSError:
                pass
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    name, home, shell = who()
    env = {"HOME": home, "USER": name, "LOGNAME": name, "PATH": os.defpath}
    env.update(given)
    env.update(TERM="xterm-256color", COLORTERM="truecolor", SHELL=shell)
    if not {"LANG", "LC_ALL", "LC_CTYPE"} & set(env):
        env["LANG"] = "C.UTF-8"
    enter(folder, env["HOME"])
    program, argv = (words[0], words) if words else (shell, ["-" + os.path.basename(shell)])
    try:
        os.execvpe(program, argv, env)
    except FileNotFoundError:
        tell("there is no command " + program + " here; install it or choose another")
        os._exit(127)
    except (OSError, ValueError) as error:
        tell(program + " cannot be started (" + why(error) + "); choose another command")


def who() -> tuple[str, str, str]:
    """Return name, home and login shell of our user."""
    try:
        found = pwd.getpwuid(os.getuid())
    except KeyError:
        return str(os.getuid()), "/", "/bin/sh"
    is_shell = os.path.basename(found.pw_shell) not in ("nologin", "false", "true", "")
    is_there = is_shell and os.access(found.pw_shell, os.X_OK)
    return found.pw_name, found.pw_dir or "/", found.pw_shell if is_there else "/bin/sh"


def enter(folder: str, home: str) -> None:
    """Go to a folder, else home, else to the root."""
    for place in (folder, home, "/"):
        try:
            os.chdir(place)
        except (OSError, ValueError) as error:
            fault = why(error)
        else:
            if place != folder:
                tell("cannot enter " + folder + " (" + fault + "); this is " + place)
            return


def why(error: OSError | ValueError) -> str:
    """Return what went wrong, in few words."""
    return str(getattr(error, "strerror", None) or error)


def tell(text: str) -> None:
    """Say something on the terminal."""
    os.write(2, ("samovar: " + text + ".\n").encode("utf-8", "surrogateescape"))


def claim(path: str) -> socket.socket | None:
    """Listen on a socket; None if another holder does.

    The lock is held for as long as we live, so a socket without one is left over.
    """
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    end = time.monotonic() + CLAIM_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if listens(path):
                return None
        if time.monotonic() > end:
            sys.exit(TAKEN)
        time.sleep(0.01)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    mask = os.umask(0o177)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.umask(mask)
    listener.listen(64)
    listener.setblocking(False)
    return listener


def listens(path: str) -> bool:
    """Return whether somebody answers at a socket."""
    asking = socket.socket(socket.AF_UNIX)
    try:
        asking.connect(path)
    except OSError:
        return False
    finally:
        asking.close()
    return True


def withdraw() -> None:
    """Go to the background: nobody who ends, and no terminal that is hung up, takes us along."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    nothing = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)


def main(path: str) -> None:
    """Hold terminals behind a socket."""
    listener = claim(path)
    os.write(1, b"listening\n")
    if listener is not None:
        withdraw()
        Holder(listener).run()


if __name__ == "__main__":
    main(sys.argv[1])
