"""A site of real processes for the campaigns: devices, a fault proxy, mosquitto, agent, historian, store.

Whatever happens to them, `verdict` ends the site in good order and has the oracle compare.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import urllib3
from ruamel.yaml import YAML

from tests.prove import device, oracle
from tests.prove.observer import Observer
from tests.support.faultproxy import FaultProxy
from tests.support.influx import Influxd
from tests.support.mosquitto import Mosquitto, free_port

T = TypeVar("T")
Store = Literal["embedded", "influxdb"]

STRUCK, SPARED = "pump-a", "pump-b"
"""The machine behind the fault proxy, and the one nobody troubles."""
PERIOD = 0.1
"""Seconds between scans."""
COMMIT = 0.2
"""Seconds between commits."""
SLACK = 5.0
"""Seconds that a commit may take on a busy machine before a kill comes between."""
ROOT = Path(__file__).resolve().parents[2]
DATABASE = "plant"


class Child:
    """A process that can be started again; its output goes to `log`."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        self.ends = 0
        """Sudden ends so far."""
        self.stops = 0
        """Times it was frozen."""
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command

    def start(self, **environment: str) -> None:
        """Start it, with more in its environment."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **environment}
            )

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.died(5)

    def died(self, seconds: float) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        code = self.process.wait(seconds)
        self.ends += 1
        return code

    def freeze(self, *, frozen: bool) -> None:
        """SIGSTOP or SIGCONT."""
        assert self.process is not None
        self.stops += frozen
        self.process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def end(self) -> int:
        """SIGTERM, and the exit code; that of an end of its own where it had one."""
        if self.process is None:
            return 0
        if self.process.poll() is not None:
            return self.process.returncode
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Loop:
    """An event loop in a thread, for the fault proxy."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faults", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end there, from here."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def call(self, function: Callable[[], object]) -> None:
        """Call there."""
        self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Site:
    """Everything started but the agent; a context manager. `state` may be on a medium of its own."""

    def __init__(
        self, folder: Path, *, store: Store = "embedded", seed: int = 1, state: Path | None = None
    ) -> None:
        self.folder = folder
        self.state = state or folder / "state"
        self.store = store
        self.served_log, self.ledger = folder / "served", folder / "ledger"
        self.ledger.touch()
        self.broker = Mosquitto(folder / "mosquitto")
        self.influx = Influxd(folder / "influxd") if store == "influxdb" else None
        self.devices = subprocess.Popen(
            [sys.executable, "-m", "tests.prove.device", str(self.served_log), STRUCK, SPARED],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self.devices.stdout is not None
        struck, spared = map(int, self.devices.stdout.readline().split())
        self.loop = Loop()
        self.proxy = FaultProxy("127.0.0.1", struck, seed=seed)
        self.loop.run(self.proxy.listen())
        self.web = f"127.0.0.1:{free_port()}"
        configuration = self._configure({STRUCK: self.proxy.port, SPARED: spared})
        launch = [sys.executable, "-m", "tests.prove.launch", str(self.ledger)]
        self.agent = Child([*launch, "run", "-c", str(configuration)], folder / "agent.log")
        self.historian = Child(
            [sys.executable, "-m", "edge_agent", "historian", "-c", str(configuration)],
            folder / "historian.log",
        )
        self.observer = Observer(self.broker.port)

    def __enter__(self) -> Site:
        try:
            self.broker.start()
            if self.influx is not None:
                self.influx.start()
                self.influx.create(DATABASE)
            self.observer.start()
            self.historian.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End whatever still runs."""
        for child in (self.agent, self.historian):
            if child.process is not None and child.process.poll() is None:
                child.process.kill()
                child.process.wait()
        self.observer.stop()
        self.broker.stop(signal.SIGKILL)
        if self.influx is not None:
            self.influx.stop(signal.SIGKILL)
        self.loop.run(self.proxy.__aexit__(None, None, None))
        self.loop.stop()
        assert self.devices.stdin is not None
        assert self.devices.stdout is not None
        self.devices.stdin.close()
        self.devices.wait(10)
        self.devices.stdout.close()

    def _configure(self, ports: Mapping[str, int]) -> Path:
        tags: dict[str, Any] = {
            f"t{tag}": {"address": f"holding:{2 * tag}", "type": "uint32"} for tag in range(device.TAGS)
        }
        # Half of the values are above: alarms come and go all the time.
        tags["t0"]["limits"] = {"high": 2**31}
        kinds: dict[Store, dict[str, Any]] = {
            "embedded": {"kind": "embedded"},
            "influxdb": {
                "kind": "influxdb",
                "url": self.influx.url if self.influx else "",
                "api": "v1",
                "database": DATABASE,
            },
        }
        document = {
            "site": "hall",
            "agent": "prove",
            "state": str(self.state),
            "mqtt": {"url": self.broker.url},
            "historian": {**kinds[self.store], "where": "elsewhere"},
            "buffer": {"commit_interval": f"{COMMIT}s", "max_size": "1MiB"},
            "web": {"listen": self.web},
            "machines": {
                name: {
                    "driver": "modbus",
                    "url": f"tcp://127.0.0.1:{port}",
                    "every": f"{PERIOD}s",
                    "timeout": "400ms",
                    "tags": tags,
                }
                for name, port in ports.items()
            },
        }
        path = self.folder / "agent.yaml"
        yaml = YAML()
        yaml.representer.ignore_aliases = lambda _data: True
        with path.open("w") as file:
            yaml.dump(document, file)
        return path

    # --- looking

    def behave(self, mode: str) -> None:
        """How the struck machine's device behaves from now on."""
        assert self.devices.stdin is not None
        self.devices.stdin.write(f"{STRUCK} {mode}\n".encode())
        self.devices.stdin.flush()

    def stored(self) -> oracle.Stored:
        """What the store holds."""
        if self.influx is None:
            return oracle.in_history(self.state / "historian" / "history.db")
        return oracle.in_influx(self.influx, DATABASE)

    def newest(self, machine: str) -> int:
        """UTC ns of a machine's newest stored reading; 0 where there is none."""
        if self.influx is None:
            return oracle.newest_in_history(self.state / "historian" / "history.db", machine)
        return oracle.newest_in_influx(self.influx, DATABASE, machine)

    def metric(self, name: str) -> float | None:
        """A value of the agent's /metrics; None while it does not answer."""
        try:
            text = urllib3.request(
                "GET", f"http://{self.web}/metrics", timeout=2, retries=False
            ).data.decode()
        except urllib3.exceptions.HTTPError:
            return None
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else None

    def flowing(self, machine: str = SPARED, *, since: float | None = None, seconds: float = 30) -> float:
        """Wait for a stored reading of `machine` younger than `since` (UTC s; default: now); how long."""
        began = time.monotonic()
        least = int((time.time() if since is None else since) * 1e9)
        while self.newest(machine) < least:
            waited = time.monotonic() - began
            assert waited < seconds, f"{machine} is not stored again within {seconds:g} s"
            time.sleep(0.1)
        return time.monotonic() - began

    def acknowledging(self, seconds: float) -> None:
        """Wait for an acknowledgement in the agent's ledger that is not there yet."""
        end = time.monotonic() + seconds
        size = self.ledger.stat().st_size
        with self.ledger.open("rb") as file:
            file.seek(size)
            while b"\nA" not in (read := b"\n" + file.read()):
                assert time.monotonic() < end, f"no commit within {seconds:g} s: {len(read)} bytes taken"
                file.seek(size)
                time.sleep(0.1)

    # --- the end

    def settle(self, seconds: float = 60) -> None:
        """Wait until nothing old waits in the agent's journal any more."""
        end = time.monotonic() + seconds
        while (age := self.metric("edge_agent_buffer_oldest_seconds")) is None or age > 3:
            assert time.monotonic() < end, f"the oldest record is {age} s old after {seconds:g} s of calm"
            time.sleep(0.2)

    def verdict(self, *, spare: int = 0) -> oracle.Verdict:
        """End everything in good order, and compare; `spare`: see `judge`."""
        assert self.agent.end() == 0, self.agent.log.read_text()[-2000:]
        assert self.historian.end() == 0, self.historian.log.read_text()[-2000:]
        journals = [self.state / part / "journal.db" for part in ("agent", "historian")]
        return oracle.judge(
            served=list(device.served(self.served_log)),
            ledger=oracle.lives(self.ledger),
            stored=self.stored(),
            waiting=[point for journal in journals for point in oracle.in_journal(journal)],
            counted=sum(sum(oracle.dropped(journal).values()) for journal in journals),
            records=self.observer.records,
            window=COMMIT + SLACK,
            bystanders={SPARED: 2 * (self.agent.ends + self.agent.stops + 1) + spare},
        )
