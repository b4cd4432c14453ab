"""The addresses of broker, historian and web in YAML: what is accepted, and what else was meant."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

BROKER = {"mqtt": 1883, "mqtts": 8883}
"""Schemes of a broker's URL and their ports."""


def broker_url(url: str) -> str:
    """`mqtt://host[:port]`, `mqtts://host[:port]` or `embedded`; ValueError with the way out otherwise."""
    if url == "embedded":
        return url
    _checked(url, ("mqtt", "mqtts"), "mqtt://127.0.0.1:1883, mqtts://broker:8883 or embedded")
    return url


def http_url(url: str) -> str:
    """`http://host[:port][/path]` or https; ValueError with the way out otherwise."""
    _checked(url, ("http", "https"), "http://127.0.0.1:8086", path=True)
    return url.rstrip("/")


def listen_address(text: str) -> str:
    """`host:port` to listen at; ValueError with the way out otherwise."""
    host, colon, port = text.rpartition(":")
    if "//" in text:
        raise ValueError(f"'{text}' is a URL; write the address alone: 127.0.0.1:8420")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"'{text}' is not host:port; write it like 127.0.0.1:8420")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"'{text}': an IPv6 address stands in brackets: [::1]:8420")
    if not 0 <= int(port) <= 65_535:
        raise ValueError(f"'{text}': a port is a number from 1 to 65535")
    return text


def split_address(text: str) -> tuple[str, int]:
    """Host (without brackets) and port of a `host:port`."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def host_and_port(url: str, default: int) -> tuple[str, int]:
    """Host and port of a URL that was checked before."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or default


def _checked(url: str, schemes: tuple[str, ...], example: str, *, path: bool = False) -> None:
    parts = urlsplit(url)
    write = f"write it like {example}"
    if parts.scheme not in schemes or not url.startswith(f"{parts.scheme}://"):
        # `broker:1883` parses as scheme `broker`: what is missing is the scheme.
        scheme = parts.scheme if "://" in url else ""
        what = f"'{scheme}://' is not known here" if scheme else "the URL has no scheme"
        raise ValueError(f"{what}; {write}")
    if "@" in parts.netloc:
        raise ValueError("user and password do not belong into the URL; use `username` and `password`")
    if not parts.hostname:
        raise ValueError(f"the URL names no host; {write}")
    _port(parts)
    if (parts.path.strip("/") and not path) or parts.query or parts.fragment:
        raise ValueError(f"the URL ends after the port; {write}")


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("a port is a number from 1 to 65535") from error
    if port == 0:
        raise ValueError("a port is a number from 1 to 65535")
    return port
