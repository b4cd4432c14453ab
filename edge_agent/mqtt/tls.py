"""Why a name or a certificate is no good, in words that say what to do."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime

_NOT_YET, _EXPIRED = 9, 10
_SELF_SIGNED = frozenset({18, 19})
_UNKNOWN_AUTHORITY = frozenset({2, 20, 21, 24, 27})
_OTHER_NAME = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_... that people meet."""


def unreachable(where: str, host: str, error: OSError) -> str:
    """What to say of a connection that was not made."""
    if isinstance(error, ssl.SSLError):
        return f"no trusted connection to {where}, and nothing was sent: {_tls(error, host)}"
    if isinstance(error, socket.gaierror):
        return (
            f"the name {host} cannot be resolved ({error.strerror}): check mqtt.url, and this machine's name "
            "server"
        )
    return f"{where} does not answer: {error.strerror or error}"


def _tls(error: ssl.SSLError, host: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error, host)
    reason = error.reason or str(error)
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
        return f"the broker does not speak TLS there ({reason}): check the port, or write mqtt://"
    if "EOF" in reason:
        return f"the broker ended the handshake ({reason}): no TLS on that port, or none newer than 1.1"
    if "PROTOCOL" in reason:
        return f"the broker offers no TLS 1.2 or newer ({reason}): update or configure the broker"
    if "ALERT" in reason:
        return f"the broker refused the handshake ({reason}): check mqtt.cert_file and mqtt.key_file"
    return reason


def _certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    """The certificate's own trouble; its sentence comes last, since it names dates and names."""
    code, said = error.verify_code, error.verify_message
    if code in (_NOT_YET, _EXPIRED):
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        state = "has expired" if code == _EXPIRED else "is not valid yet"
        return f"the broker's certificate {state}: renew it, unless this machine's clock ({now}) is wrong"
    if code in _OTHER_NAME:
        return f"the broker's certificate is for another name than {host}: check mqtt.url ({said})"
    if code in _SELF_SIGNED or code in _UNKNOWN_AUTHORITY:
        return (
            f"the broker's certificate is signed by nobody known here ({said}): "
            "set mqtt.ca_file to its authority's certificate"
        )
    return f"the broker's certificate is refused ({said})"
