"""A network of its own for a test: a namespace with a link to us that can be taken down. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest


@dataclass
class Namespace:
    """`host` is an address in there; `command` in front of a program runs it there."""

    name: str
    link: str
    host: str

    @property
    def command(self) -> list[str]:
        """What to write in front of a program's command line."""
        return ["ip", "netns", "exec", self.name]

    def set_link(self, *, up: bool) -> None:
        """Plug the cable, or pull it: nothing gets through, and nobody is told."""
        _run("ip", "link", "set", self.link, "up" if up else "down")


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace for as long as the context lasts; the test is skipped where we may have none."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    number = os.getpid() % 250
    made = Namespace(f"edge-{os.getpid()}", f"ve{os.getpid() % 100000}", f"10.199.{number}.2")
    peer = made.link.replace("ve", "vp")
    steps = [
        f"ip netns add {made.name}",
        f"ip link add {made.link} type veth peer name {peer}",
        f"ip link set {peer} netns {made.name}",
        f"ip addr add 10.199.{number}.1/24 dev {made.link}",
        f"ip link set {made.link} up",
        f"ip netns exec {made.name} ip addr add {made.host}/24 dev {peer}",
        f"ip netns exec {made.name} ip link set {peer} up",
    ]
    try:
        for step in steps:
            try:
                _run(*step.split())
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespace here: {step}: {error.stderr.strip()}")
        yield made
    finally:
        for leftover in (["ip", "link", "del", made.link], ["ip", "netns", "del", made.name]):
            subprocess.run(leftover, capture_output=True, check=False)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
