"""A network that fails below the sockets: interface down, packets lost, connections half open.

The whole site runs in a network namespace of its own (`unshare --net`), whose loopback is taken down and
filtered with iptables; nothing outside notices. It needs root; `why_not` says what is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from tests.prove.oracle import Verdict
from tests.prove.site import ROOT, SPARED, STRUCK, Site
from tests.support import tools

LOSS = 0.3
_ESTABLISHED = "01"


@dataclass
class Report:
    """What came to pass."""

    verdict: Verdict
    heal: dict[str, float] = field(default_factory=dict)
    """Fault -> seconds from its end until every machine's readings were stored again."""


def why_not() -> str:
    """Why it cannot be tried here; empty where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        command = f"ip link set lo up && {tools.binary('iptables-nft')} -A INPUT -p tcp {_random()} -j DROP"
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        return str(missing)
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", command],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else f"no network namespace here: {done.stderr.strip()}"


def _random() -> str:
    return f"-m statistic --mode random --probability {LOSS}"


def _environment() -> dict[str, str]:
    """Where an unpacked iptables finds its parts."""
    environment = tools.environment()
    found = sorted((tools.TOOLS / "root").glob("usr/lib/*/xtables"))
    return {**environment, "XTABLES_LIBDIR": str(found[0])} if found else environment


def _iptables(*arguments: str) -> None:
    subprocess.run([tools.binary("iptables-nft"), "-w", *arguments], env=_environment(), check=True)


def _loopback(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def connection(pid: int, port: int) -> int:
    """The local port of a process's connection to `port`."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor))
        except FileNotFoundError:
            continue  # closed meanwhile
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if (
            f"socket:[{rest[5]}]" in sockets
            and int(remote.split(":")[1], 16) == port
            and state == _ESTABLISHED
        ):
            return int(local.split(":")[1], 16)
    raise AssertionError(f"process {pid} has no connection to {port}")


def _healed(site: Site, seconds: float) -> float:
    now = time.time()
    return max(site.flowing(machine, since=now, seconds=seconds) for machine in (SPARED, STRUCK))


def _down(site: Site) -> float:
    _loopback("down")
    time.sleep(2)
    _loopback("up")
    return _healed(site, 30)


def _lossy(site: Site) -> float:
    rule = ["INPUT", "-p", "tcp", *_random().split(), "-j", "DROP"]
    _iptables("-A", *rule)
    time.sleep(3)
    _iptables("-D", *rule)
    return _healed(site, 30)


def _half_open(site: Site, port: int) -> float:
    """The agent's connection to `port` is dead from now on, and nobody is told; new ones work."""
    assert site.agent.process is not None
    local = str(connection(site.agent.process.pid, port))
    for way in ("--sport", "--dport"):
        _iptables("-A", "INPUT", "-p", "tcp", way, local, "-j", "DROP")
    return _healed(site, 40)


def run(folder: Path, *, long: bool) -> Report:
    """Each fault in turn, in the namespace this process is in; `long`: the broker half open too."""
    _loopback("up")
    with Site(folder) as site:
        site.agent.start()
        site.flowing(SPARED)
        heal = {"interface down": _down(site), "30 % loss": _lossy(site)}
        heal["half open to the machine"] = _half_open(site, site.proxy.port)
        if long:
            heal["half open to the broker"] = _half_open(site, site.broker.port)
        site.settle()
        # Packets lost on the way to a machine are answers the agent could not take.
        return Report(site.verdict(spare=10**6), heal)


def campaign(folder: Path, *, long: bool) -> Report:
    """`run` in a network namespace."""
    command = ["unshare", "--net", sys.executable, "-m", "tests.prove.network", str(folder), str(int(long))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    content = json.loads(done.stdout)
    return Report(Verdict(**content["verdict"]), content["heal"])


if __name__ == "__main__":
    print(json.dumps(asdict(run(Path(sys.argv[1]), long=sys.argv[2] == "1"))))
