"""Workers of a training meet before it begins: the chief waits until all are there, and all have the same inputs.

They say it in lines of JSON over the address at which TensorFlow's server of the chief listens afterwards. Who comes
before the chief does waits for it, however long the stages before take there.
"""

import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from thaw.runtime.team import Team

LONGEST = 4096  # bytes of a line
PAUSE = 0.5  # seconds between two tries to reach the chief
BUSY = 5.0  # the same where it is busy with a training of before
PATIENCE = 20.0  # seconds in which one that is connected says what it has to


def wait(team: Team, inputs: Callable[[], str], seconds: float, told: Callable[[str], None]) -> None:
    """Return when all workers of a training are there.

    Args:
        inputs: returns what stands for all that this process will train from; asked once the chief is there, since
            the stages before may have changed it until then.
        seconds: that the chief waits for others. These wait for the chief until they are ended.
        told: is given a line about whom this process waits for.

    Raises:
        ValueError: someone is not there in time, or has other inputs than the chief.
    """
    if team.is_chief:
        _gather(team, inputs(), seconds, told)
    else:
        _join(team, inputs, seconds, told)


def _gather(team: Team, inputs: str, seconds: float, told: Callable[[str], None]) -> None:
    until, said = time.monotonic() + seconds, False
    there: dict[int, tuple[socket.socket, str]] = {}
    with ExitStack() as stack:
        door = stack.enter_context(_door(team))
        door.settimeout(PAUSE)
        while missing := [each for number, each in enumerate(team.addresses) if number and number not in there]:
            if time.monotonic() > until:
                raise ValueError(
                    f"compute.workers: expected {team.count} within {seconds:g} s, received "
                    f"{team.count - len(missing)}; missing: {', '.join(missing)}; start it there too, and see that it "
                    f"reaches {team.addresses[0]}"
                )
            with suppress(TimeoutError):
                caller = stack.enter_context(door.accept()[0])
                line = _read(caller, PATIENCE)  # none of one that looks whether this one is there yet
                if line and isinstance(own := line.get("number"), int) and 0 < own < team.count:
                    there[own] = (caller, str(line.get("inputs")))
                continue
            if not said:
                told(f"waiting for {', '.join(missing)}")
                said = True
        others = sorted(number for number, (_, theirs) in there.items() if theirs != inputs)
        for caller, _ in there.values():
            _write(caller, {"others": others})
    if others:
        raise ValueError(_unlike(team, others))


def _join(team: Team, inputs: Callable[[], str], seconds: float, told: Callable[[str], None]) -> None:
    _door(team).close()  # it is TensorFlow that will listen there
    told(f"waiting for the first worker, {team.addresses[0]}")
    while True:
        if _is_there(team):
            line = _asked(team, inputs(), seconds)
            if line and isinstance(others := line.get("others"), list):
                if others:
                    raise ValueError(_unlike(team, others))
                return
            time.sleep(BUSY)
        time.sleep(PAUSE)


def _is_there(team: Team) -> bool:
    """Return whether the first worker listens. What it trains from may change until then."""
    with suppress(OSError), _reached(team):
        return True
    return False


def _asked(team: Team, inputs: str, seconds: float) -> dict[str, Any] | None:
    """Return what the first worker says when all are there; None if it has ended, or something else listens there."""
    with suppress(OSError), _reached(team) as chief:
        _write(chief, {"number": team.number, "inputs": inputs})
        return _read(chief, seconds + PATIENCE)
    return None


def _door(team: Team) -> socket.socket:
    """Return what listens at this worker's own address.

    Raises:
        ValueError: something else does.
    """
    address = team.addresses[team.number]
    try:
        return socket.create_server(("", int(address.rpartition(":")[2])))
    except OSError as error:
        raise ValueError(
            f"{address}: expected a port that is free, received one that is not ({error.strerror}); end what listens "
            "there, or name another for all workers"
        ) from None


def _reached(team: Team) -> socket.socket:
    host, _, port = team.addresses[0].rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE)


def _unlike(team: Team, others: list[int]) -> str:
    names = ", ".join(team.addresses[number] for number in others)
    return (
        f"expected the same params.yaml, data, models/phase1_head, code and packages for all workers, received others "
        f"at {names}; let all see the same project, and start them again"
    )


def _read(caller: socket.socket, seconds: float) -> dict[str, Any] | None:
    """Return the line that comes; None where none does that is meant for here."""
    caller.settimeout(seconds)
    found = b""
    with suppress(OSError, ValueError):
        while not found.endswith(b"\n") and len(found) < LONGEST and (part := caller.recv(LONGEST)):
            found += part
        line = json.loads(found)
        return line if isinstance(line, dict) else None
    return None


def _write(caller: socket.socket, line: dict[str, Any]) -> None:
    with suppress(OSError):  # who has gone will be missed
        caller.sendall(f"{json.dumps(line)}\n".encode())
