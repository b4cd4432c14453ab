"""What a server's refusal means, and what to do about it. Pure: the numbers are those of Part 6, Annex A."""

from __future__ import annotations

from collections.abc import Mapping

CLOCK_CODES = frozenset({0x80140000, 0x80230000, 0x80150000})
"""What a server answers where one of the clocks is wrong, or a certificate has ended."""

_CREDENTIALS = "it does not accept the user or password: check security"
_UNTRUSTED = "it does not trust our certificate: accept it on the server (edge-agent opcua enrol says how)"

ADVICE: Mapping[int, str] = {
    0x801F0000: _CREDENTIALS,  # BadUserAccessDenied
    0x80210000: _CREDENTIALS,  # BadIdentityTokenRejected
    0x80200000: "it does not take this kind of login: check security",  # BadIdentityTokenInvalid
    0x80570000: "it says the user's certificate was not signed with its key: check user_key",
    0x80580000: "it says our certificate and our key do not belong together: check private_key",
    0x80130000: _UNTRUSTED,  # BadSecurityChecksFailed
    0x801A0000: _UNTRUSTED,  # BadCertificateUntrusted
    0x810D0000: _UNTRUSTED,  # BadCertificateChainIncomplete
    0x80120000: "it refuses our certificate: make a new one with edge-agent opcua enrol --renew",
    0x80140000: "it says our certificate is not valid at its time",  # BadCertificateTimeInvalid
    0x80150000: "it says the issuer of our certificate is not valid at its time",
    0x80230000: "it says our requests are from another time",  # BadInvalidTimestamp
    0x80170000: "the application URI is not the one in our certificate",  # BadCertificateUriInvalid
    0x80180000: "our certificate may not be used for this: make one with edge-agent opcua enrol --renew",
    0x801D0000: "our certificate has been revoked",  # BadCertificateRevoked
    0x80550000: "it does not offer this security policy: check security.policy",  # BadSecurityPolicyRejected
    0x80540000: "it does not offer this security mode: check security.mode",  # BadSecurityModeRejected
}
"""Status code -> what it means here; these are refusals, and asking again will not help."""
