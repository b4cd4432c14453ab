"""InfluxDB line protocol: the one form readings have from the driver's batch to the historian.

A line is `measurement,tag=value field=value,field=value timestamp`, the timestamp in ns. Encoding a scan
makes no object per sample: the line is one `%` of a template that is kept for each pattern of value types.

Keys (measurement, tag and field names, tag values) never hold a backslash, a double quote or a control
character, because parsers disagree about those; they are written as `/`, `'` and a space. Strings may hold
the first two, control characters as spaces.
"""

from edge_agent.lineprotocol.encode import (
    MAX_INT,
    MAX_TEMPLATES,
    MIN_INT,
    BatchEncoder,
    alarm_line,
    field_text,
    head,
    header,
    health_line,
    key,
    line,
    quality_line,
    quoted,
)
from edge_agent.lineprotocol.parse import (
    Header,
    Point,
    parse,
    parse_fields,
    parse_head,
    split_head,
    split_header,
)

__all__ = [
    "MAX_INT",
    "MAX_TEMPLATES",
    "MIN_INT",
    "BatchEncoder",
    "Header",
    "Point",
    "alarm_line",
    "field_text",
    "head",
    "header",
    "health_line",
    "key",
    "line",
    "parse",
    "parse_fields",
    "parse_head",
    "quality_line",
    "quoted",
    "split_head",
    "split_header",
]
