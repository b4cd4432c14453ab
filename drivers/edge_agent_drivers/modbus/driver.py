"""The Modbus driver: one machine, read only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.clock import Clock, Stamp
from edge_agent.contracts.plugs import Driver, PlannedRequest
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import ConfigError, DeviceRefused, DeviceUnreachable
from edge_agent.types import ReadGroup, SampleBatch
from edge_agent_drivers.modbus.channel import Timing
from edge_agent_drivers.modbus.columns import plan_groups
from edge_agent_drivers.modbus.faults import (
    BEHIND_GATEWAY,
    LineFault,
    LineLost,
    Refused,
    Taken,
    Unplugged,
    Unreached,
    Untrusted,
)
from edge_agent_drivers.modbus.identity import AnotherDevice, IdentityGuard
from edge_agent_drivers.modbus.inquiry import answer
from edge_agent_drivers.modbus.listening import Listener
from edge_agent_drivers.modbus.outline import outline
from edge_agent_drivers.modbus.row import Device
from edge_agent_drivers.modbus.scan import GroupScan
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_drivers.modbus.sharing import line_to


class ModbusDriver(Driver):
    """Reads one Modbus device in coalesced blocks; what it refuses is isolated tag by tag.

    The sampler owns reconnecting. Within one scan the driver opens the socket once more where it closed it
    itself after silence (so that a late reply meets nobody) or found it closed after an idle time.
    """

    def __init__(
        self, machine: str, settings: MachineSettings, clock: Clock, state: Path | None = None
    ) -> None:
        if not isinstance(settings, ModbusMachine):
            raise ConfigError([f"machine {machine}: these are not the settings of a modbus machine"])
        super().__init__(machine, settings, clock, state)
        self._machine = machine
        self._clock, self._stamp = clock, Stamp(clock)
        self._plans = plan_groups(settings)
        self._limits, self._endpoint = settings.limits, settings.endpoint
        comm = settings.comm
        listen = comm.listen if settings.endpoint.serial else 0.0
        timing = Timing(settings.answer_timeout, comm.pause, comm.connect_pause, comm.pipeline, listen)
        self._line = line_to(settings.endpoint, timing, settings.tls)
        if settings.identity is not None:
            self._line.guard = IdentityGuard(settings, settings.identity, self._line)
        device = Device(machine, self._line, settings.unit_id, self._limits, comm.retest, comm.retries)
        # By scan rate, because hashing a group means hashing all its tags.
        self._scans = {plan.group.every: GroupScan(plan, device) for plan in self._plans}
        self._open = False
        self._listener = (
            Listener(machine, settings, self._plans, clock) if settings.mode == "listen" else None
        )

    @property
    def groups(self) -> tuple[ReadGroup, ...]:
        """The read groups, one per scan rate, in the order of the configuration."""
        return tuple(plan.group for plan in self._plans)

    def requests(self) -> tuple[PlannedRequest, ...]:
        """What is asked for in each cycle, as long as the device refuses nothing; nothing when listening."""
        if self._listener is not None:
            return ()
        return tuple(outline(self._plans, self._limits, self._endpoint))

    async def connect(self) -> None:
        """Open the connection, or join the machines that share it.

        DeviceUnreachable where that fails within the timeout, DeviceRefused where TLS certificates are why,
        where a serial line is somebody else's, or where `identity` says that it is another device.
        """
        if self._listener is not None:
            await self._listener.connect()
            return
        try:
            await self._line.open()
            if self._line.guard is not None:
                await self._line.guard.check()
        except AnotherDevice as fault:
            self._line.close()
            raise DeviceRefused(self._another(fault)) from fault
        except Untrusted as fault:
            raise DeviceRefused(f"machine {self._machine}: {fault}: check tls") from fault
        except Taken as fault:
            raise DeviceRefused(f"machine {self._machine}: {fault}") from fault
        except Unplugged as fault:
            raise DeviceUnreachable(f"machine {self._machine}: {fault}", fault.retry_within) from fault
        except LineFault as fault:
            self._line.close()
            raise DeviceUnreachable(self._advice(fault)) from fault
        self._open = True
        for scan in self._scans.values():
            scan.forgive()

    async def read(self, group: ReadGroup, *, raw: bool = False) -> list[SampleBatch]:
        """One scan, one batch; listening, one for each answer that was heard. DeviceUnreachable where nothing
        of the group was answered, DeviceRefused where it has become another device."""
        if self._listener is not None:
            return await self._listener.read(group, raw=raw)
        if not self._open:
            raise DeviceUnreachable(f"machine {self._machine}: not connected to {self._line}")
        timestamp = self._stamp.next()
        try:
            row = await self._scans[group.every].run(self._clock.elapsed(), raw=raw)
        except AnotherDevice as fault:
            raise DeviceRefused(self._another(fault)) from fault
        except LineFault as fault:
            raise DeviceUnreachable(self._advice(fault)) from fault
        return [SampleBatch(self._machine, group.names, timestamp, row.values, row.statuses, row.raw)]

    async def ask(self, question: Mapping[str, Any]) -> Any:
        """Read something once for `probe` or `scan` (inquiry.py), from any unit behind the connection."""
        if not self._open:
            why = "mode: listen sends nothing" if self._listener is not None else "it is not connected"
            raise DeviceRefused(f"machine {self._machine}: {self._line} cannot be asked: {why}")
        return await answer(self._line, question)

    async def close(self) -> None:
        """Let go of the connection; machines that share it keep it. Harmless where there is none."""
        self._open = False
        self._line.close()
        if self._listener is not None:
            self._listener.close()

    def _another(self, fault: AnotherDevice) -> str:
        return f"machine {self._machine}: {fault}; check url, unit_id and profile, or write identity: off"

    def _advice(self, fault: LineFault) -> str:
        start = f"machine {self._machine}: {fault}"
        if isinstance(fault, Unreached):
            return start
        if isinstance(fault, Refused) and fault.code in BEHIND_GATEWAY:
            return f"{start}: check unit_id, and power and cable of the device behind the gateway"
        if isinstance(fault, LineLost):
            return f"{start}: check power, cable and address"
        return f"{start}: check power, cable, address and unit_id"
