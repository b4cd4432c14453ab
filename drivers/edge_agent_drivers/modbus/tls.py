"""Modbus/TCP Security: Modbus TCP inside TLS 1.2 or newer, with a client certificate where one is set."""

from __future__ import annotations

import asyncio
import ssl

from edge_agent_drivers.modbus.channel import Dial
from edge_agent_drivers.modbus.faults import LineLost, Untrusted
from edge_agent_drivers.modbus.mbap import MbapConnection
from edge_agent_drivers.modbus.security import TlsSettings
from edge_agent_drivers.modbus.tcp import connect


def tls_dial(host: str, port: int, settings: TlsSettings) -> Dial:
    """Opens a TLS connection to `host`. The files are read at each connect, so that a renewed certificate
    needs no restart. Untrusted where a certificate is the reason why there is none."""
    name = f"{host}:{port}"

    async def dial() -> MbapConnection:
        context = await asyncio.to_thread(_context, settings)
        connection = MbapConnection(name)
        try:
            await connect(
                lambda: connection, connection.close, host, port,
                tls=context, server_name=settings.server_name or host,
            )  # fmt: skip
        except LineLost as lost:
            if isinstance(lost.__cause__, ConnectionResetError | ConnectionAbortedError):
                raise LineLost(f"{name} hangs up when TLS begins: does it speak TLS 1.2 or newer?") from lost
            raise
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(f"the certificate of {name} is not accepted: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise Untrusted(f"no TLS with {name}: {error.reason or error}") from error
        return connection

    return dial


def _context(settings: TlsSettings) -> ssl.SSLContext:
    """What a connection is verified with. Untrusted where a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    file = settings.ca_file
    try:
        if settings.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif file is not None:
            context.load_verify_locations(cafile=file)
        else:
            context.load_default_certs()
        if settings.cert_file is not None:
            file = settings.cert_file
            # A key with a password would be asked for on the terminal, where nobody sits.
            context.load_cert_chain(file, settings.key_file, password=lambda: "")
    except OSError as error:  # ssl.SSLError among them
        why = error.strerror if not isinstance(error, ssl.SSLError) else error.reason or error
        raise Untrusted(f"{file} cannot be used for TLS: {why}") from error
    return context
