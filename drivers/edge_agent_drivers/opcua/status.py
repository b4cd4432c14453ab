"""OPC UA status codes to quality and reason. Pure: the numbers are those of Part 6, Annex A."""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.types import GOOD, Quality, Reason, Status, bad, uncertain

_BAD: Mapping[int, Reason] = {
    0x80040000: Reason.COMM_FAILURE,  # BadResourceUnavailable
    0x80050000: Reason.COMM_FAILURE,  # BadCommunicationError
    0x80070000: Reason.INVALID_VALUE,  # BadDecodingError
    0x800A0000: Reason.TIMEOUT,  # BadTimeout
    0x800D0000: Reason.NOT_CONNECTED,  # BadServerNotConnected
    0x801F0000: Reason.CONFIG_ERROR,  # BadUserAccessDenied
    0x80310000: Reason.COMM_FAILURE,  # BadNoCommunication
    0x80320000: Reason.NOT_CONNECTED,  # BadWaitingForInitialData
    0x80330000: Reason.ILLEGAL_ADDRESS,  # BadNodeIdInvalid
    0x80340000: Reason.ILLEGAL_ADDRESS,  # BadNodeIdUnknown
    0x80350000: Reason.ILLEGAL_ADDRESS,  # BadAttributeIdInvalid
    0x803A0000: Reason.CONFIG_ERROR,  # BadNotReadable
    0x803C0000: Reason.OUT_OF_RANGE,  # BadOutOfRange
    0x803D0000: Reason.CONFIG_ERROR,  # BadNotSupported
    0x80410000: Reason.CONFIG_ERROR,  # BadMonitoringModeInvalid
    0x80420000: Reason.CONFIG_ERROR,  # BadMonitoredItemIdInvalid
    0x80440000: Reason.CONFIG_ERROR,  # BadMonitoredItemFilterUnsupported
    0x80450000: Reason.CONFIG_ERROR,  # BadFilterNotAllowed
    0x80740000: Reason.INVALID_VALUE,  # BadTypeMismatch
    0x80890000: Reason.CONFIG_ERROR,  # BadConfigurationError
    0x808A0000: Reason.NOT_CONNECTED,  # BadNotConnected
    0x808B0000: Reason.DEVICE_FAILURE,  # BadDeviceFailure
    0x808C0000: Reason.SENSOR_FAILURE,  # BadSensorFailure
    0x808D0000: Reason.OUT_OF_SERVICE,  # BadOutOfService
    0x808E0000: Reason.CONFIG_ERROR,  # BadDeadbandFilterInvalid
    0x80DB0000: Reason.CONFIG_ERROR,  # BadTooManyMonitoredItems
}
_UNCERTAIN: Mapping[int, Reason] = {
    0x408F0000: Reason.LAST_USABLE,  # UncertainNoCommunicationLastUsableValue
    0x40900000: Reason.LAST_USABLE,  # UncertainLastUsableValue
    0x40910000: Reason.SUBSTITUTE,  # UncertainSubstituteValue
    0x40920000: Reason.INITIAL,  # UncertainInitialValue
    0x40930000: Reason.SENSOR_NOT_ACCURATE,  # UncertainSensorNotAccurate
    0x40940000: Reason.RANGE_EXCEEDED,  # UncertainEngineeringUnitsExceeded
    0x40950000: Reason.SENSOR_NOT_ACCURATE,  # UncertainSubNormal
}
_LOCAL_OVERRIDE = 0x00960000
_SEVERITY, _CODE = 0xC0000000, 0xFFFF0000

FILTER_REFUSED = frozenset({0x80440000, 0x80450000, 0x808E0000})
"""What a server answers where it cannot filter a node by deadband."""

FULL = frozenset({0x80DB0000, 0x80770000})
"""BadTooManyMonitoredItems, BadTooManySubscriptions."""


def status_of(code: int) -> Status:
    """Quality and reason of a status code; one that is not listed keeps its severity."""
    severity = code & _SEVERITY
    if severity == 0:
        return Status(Quality.GOOD, Reason.LOCAL_OVERRIDE) if code & _CODE == _LOCAL_OVERRIDE else GOOD
    if severity == 0x40000000:
        return uncertain(_UNCERTAIN.get(code & _CODE, Reason.SENSOR_NOT_ACCURATE))
    return bad(_BAD.get(code & _CODE, Reason.DEVICE_FAILURE))
