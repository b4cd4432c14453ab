"""Where a Modbus device is, as one writes it in `url`. Pure; opens nothing.

tcp://host:port  udp://host:port  tls://host:port  rtu+tcp://host:port  rtu:///dev/ttyUSB0?baudrate=19200&parity=E
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

SCHEMES = ("tcp", "udp", "tls", "rtu+tcp", "rtu")
_PORTS = {"tcp": 502, "udp": 502, "tls": 802, "rtu+tcp": 502}
_NETWORK = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]@?]+)(:(?P<port>\d{1,5}))?/?")
_PARITIES, _STOP_BITS = ("N", "E", "O"), (1, 2)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One connection: machines with the same endpoint share it. `port` is 0 and `host` the tty for rtu."""

    scheme: str
    host: str
    port: int = 0
    baudrate: int = 19200
    parity: str = "E"
    stopbits: int = 1
    bytesize: int = 8

    @property
    def serial(self) -> bool:
        """True for a serial line."""
        return self.scheme == "rtu"

    @property
    def character(self) -> float:
        """Seconds that a character takes on a serial line: start bit, data, parity, stop bits."""
        return (1 + self.bytesize + (self.parity != "N") + self.stopbits) / self.baudrate

    @property
    def silence(self) -> float:
        """Seconds of silence between two frames: 3.5 characters; 1.75 ms above 19200 baud, by the
        specification."""
        return 0.00175 if self.baudrate > 19200 else 3.5 * self.character

    @property
    def format(self) -> str:
        """Speed and format in the short form of the manuals: `19200 8E1`."""
        return f"{self.baudrate} {self.bytesize}{self.parity}{self.stopbits}"

    def __str__(self) -> str:
        if self.serial:
            return self.host
        return f"{self.host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """The endpoint that `url` names. ValueError with what to write instead."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"'{url}' is not a Modbus address: {_instead(url)}")
    if scheme == "rtu":
        return _serial(url, rest)
    match = _NETWORK.fullmatch(rest)
    if match is None:
        raise ValueError(f"'{url}' is not a Modbus address: write {scheme}://host:port")
    port = int(match["port"] or _PORTS[scheme])
    if not 1 <= port <= 65535:
        raise ValueError(f"there is no port {port}: ports go from 1 to 65535")
    return Endpoint(scheme, match["host"].strip("[]"), port)


def _instead(url: str) -> str:
    """What to write for a URL without a scheme of ours."""
    serial = "rtu:///dev/ttyUSB0?baudrate=19200&parity=E"
    if "/dev/" in url or re.match(r"(com\d|tty)", url, re.IGNORECASE):
        return f"a serial line is written {serial}"
    if _NETWORK.fullmatch(url):
        return f"write tcp://host:port; did you mean tcp://{url}?"
    return f"write tcp://host:port (or udp, tls, rtu+tcp), or {serial}"


def _serial(url: str, rest: str) -> Endpoint:
    path, _, query = rest.partition("?")
    if not path.startswith("/"):
        raise ValueError(f"'{url}' is not a serial line: write rtu:///dev/ttyUSB0?baudrate=19200&parity=E")
    settings = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(settings.keys() - {"baudrate", "parity", "stopbits", "bytesize"})
    if unknown:
        raise ValueError(
            f"'{unknown[0]}' is no setting of a serial line: baudrate, parity, stopbits, bytesize"
        )
    parity = settings.get("parity", "E").upper()[:1]
    if parity not in _PARITIES:
        raise ValueError(f"parity '{settings['parity']}' does not exist: write N, E or O")
    # The specification: two stop bits where there is no parity, so that a character always has eleven bits.
    stop = "2" if parity == "N" and "stopbits" not in settings else settings.get("stopbits", "1")
    if settings.get("bytesize", "8") != "8":
        raise ValueError(f"bytesize '{settings['bytesize']}' cannot carry Modbus RTU: it needs 8")
    return Endpoint(
        "rtu",
        path,
        baudrate=_number("baudrate", settings.get("baudrate", "19200"), range(50, 4_000_001)),
        parity=parity,
        stopbits=_number("stopbits", stop, _STOP_BITS),
    )


def _number(name: str, written: str, allowed: range | tuple[int, ...]) -> int:
    if written.isascii() and written.isdigit() and int(written) in allowed:
        return int(written)
    most = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(map(str, allowed))
    raise ValueError(f"{name} '{written}' does not exist: write {most}")
