"""What is asked for of a server's events, as asyncua's structures."""

from __future__ import annotations

from typing import Any

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from edge_agent_drivers.opcua.session import NodeId, Session


def _standard(number: int) -> NodeId:
    return ua.NodeId(ua.Int32(number))


REFRESH_STARTS = _standard(ObjectIds.RefreshStartEventType)
REFRESH_ENDS = _standard(ObjectIds.RefreshEndEventType)
REFRESH_NEEDED = _standard(ObjectIds.RefreshRequiredEventType)

_SELECTED: tuple[tuple[int, str], ...] = (
    (ObjectIds.BaseEventType, "EventType"),
    (ObjectIds.ConditionType, ""),  # the condition's node id
    (ObjectIds.ConditionType, "BranchId"),
    (ObjectIds.BaseEventType, "SourceName"),
    (ObjectIds.ConditionType, "ConditionName"),
    (ObjectIds.BaseEventType, "Message"),
    (ObjectIds.BaseEventType, "Severity"),
    (ObjectIds.BaseEventType, "Time"),
    (ObjectIds.AlarmConditionType, "ActiveState/Id"),
    (ObjectIds.AcknowledgeableConditionType, "AckedState/Id"),
    (ObjectIds.ConditionType, "Retain"),
    (ObjectIds.ConditionType, "EnabledState/Id"),
)
SELECTED = len(_SELECTED)
"""How many values each event brings."""
_OF_TYPE = (ObjectIds.ConditionType, ObjectIds.RefreshStartEventType, ObjectIds.RefreshEndEventType,
            ObjectIds.RefreshRequiredEventType)  # fmt: skip


def server_object() -> NodeId:
    """The node all events of a server are reported by."""
    return _standard(ObjectIds.Server)


def conditions_filter(filtered: bool) -> ua.EventFilter:
    """Selects what `Conditions.happened` takes; `filtered` leaves out the other events at the server."""
    chosen = ua.EventFilter()
    chosen.SelectClauses = [_operand(type_, path) for type_, path in _SELECTED]
    if filtered:
        chosen.WhereClause = _any_of(_OF_TYPE)
    return chosen


def _operand(type_: int, path: str) -> ua.SimpleAttributeOperand:
    names = [ua.QualifiedName(name, ua.UInt16(0)) for name in path.split("/") if name]
    attribute = AttributeIds.Value if names else AttributeIds.NodeId
    return ua.SimpleAttributeOperand(_standard(type_), names, attribute)


def _any_of(types: tuple[int, ...]) -> ua.ContentFilter:
    """OfType one or OfType another ...: each Or joins one of them with the rest."""
    ors = len(types) - 1
    elements: list[Any] = []
    for number in range(ors):
        rest = number + 1 if number + 1 < ors else 2 * ors
        pair = [_element(ors + number), _element(rest)]
        elements.append(ua.ContentFilterElement(ua.FilterOperator.Or, pair))
    for type_ in types:
        operand = ua.LiteralOperand(ua.Variant(_standard(type_), ua.VariantType.NodeId))
        elements.append(ua.ContentFilterElement(ua.FilterOperator.OfType, [operand]))
    return ua.ContentFilter(elements)


def _element(index: int) -> Any:
    return ua.ElementOperand(ua.UInt32(index))


async def refresh(session: Session, subscription: int) -> int:
    """Have the conditions sent that are not normal; the status code, 0 where the server does it."""
    return await session.call(
        _standard(ObjectIds.ConditionType),
        _standard(ObjectIds.ConditionType_ConditionRefresh),
        [ua.Variant(subscription, ua.VariantType.UInt32)],
    )
