"""What each code means and what to do, at length: the source of docs/reference/errors.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

PAGE = "docs/reference/errors.md"
"""Where the explanations stand, each below a heading that is its code."""


class Explained(NamedTuple):
    """One code at length."""

    meaning: str
    fix: str


def anchor(code: str) -> str:
    """Where a code is explained."""
    return f"{PAGE}#{code.lower()}"


EXPLAINED: Mapping[str, Explained] = {
    "E101": Explained(
        "A file that was named, on the command line or by `include`, `from` or `profile`, is not there, "
        "or may not be read.",
        "Correct the name; names are relative to the file they stand in. The agent runs as its own user: "
        "`sudo -u edge-agent cat FILE` shows whether it may read it.",
    ),
    "E102": Explained(
        "The text is not YAML 1.2: a quote or bracket that is never closed, a colon or space that is "
        "missing, a line that is indented like none above it.",
        "Follow the hint at the place that is shown. Texts that contain `: `, ` #`, or that begin with "
        "one of `{ [ * & ! % @` or a quote, are put in quotes.",
    ),
    "E103": Explained(
        "YAML is indented with spaces; a tab has no width that everybody agrees on.",
        "Replace the tabs with spaces; in most editors `Tab` inserts spaces once the file is known as YAML.",
    ),
    "E104": Explained(
        "A key that is not known at this place: a typing error, the word of another program, or a key of "
        "another level.",
        "Take the key that is suggested. An editor with the schema (`edge-agent schema`) offers them.",
    ),
    "E105": Explained(
        "In one mapping a key stands once. Many programs take the last silently; here it is an error, "
        "because the first may be the one that was meant.",
        "Remove one of the two; the message says where the first is.",
    ),
    "E106": Explained(
        "A key that has no default is missing.",
        "Add it. Every machine needs `driver` and `url`.",
    ),
    "E107": Explained(
        "The value is of another kind: text where a number belongs, one value where a list does, a list "
        "where names with values do.",
        "Write it as the hint shows. `yes`, `no`, `on` and `off` are texts in YAML 1.2 and not true or "
        "false; numbers have a decimal point and no unit.",
    ),
    "E108": Explained(
        "The key takes one of a few words, and this is none of them.",
        "Take one of those listed.",
    ),
    "E109": Explained(
        "A duration, size or rate needs its unit, so that nobody takes seconds for milliseconds.",
        "Durations: `250ms 1s 5m 4h 7d 2w`. Sizes: `64MiB 2GiB`. Rates: `1 per quarter`.",
    ),
    "E110": Explained(
        "The number is outside what the key allows.",
        "Choose one within the range in the message.",
    ),
    "E111": Explained(
        "Names become MQTT topics and InfluxDB tags, in which spaces, `/`, `+`, `#` and umlauts do harm.",
        "Use letters, digits, `_`, `-` and `.` (the last two not first), at most 128. What is on the "
        "door goes into `label`, which takes any text.",
    ),
    "E112": Explained(
        "The key is part of the interface, and this release does not do it yet. It is refused because a "
        "setting without effect would be believed.",
        "Do what the hint says until then.",
    ),
    "E113": Explained(
        "The value is of the right kind, and the key still does not take it, or not together with "
        "another key.",
        "The message says why.",
    ),
    "E114": Explained(
        "Limits that protect the agent: 2 MiB a file, 500 files, 20 levels, 100,000 values (what aliases "
        "repeat counted each time), 5,000 machines of one list.",
        "Split the file with `include`, or take out the aliases that multiply.",
    ),
    "E115": Explained(
        "Several files may add `machines` and `scan_classes`; every other key is set in one file.",
        "Keep one of the two; the message says where the other is.",
    ),
    "E116": Explained(
        "`!secret NAME` was looked for in `secrets.yaml` beside the file, beside the main file, and "
        "among systemd's credentials, and was not found or may not be used. A file that others may read "
        "is refused.",
        "Add a line `NAME: value` to `secrets.yaml`, and `chmod 640 secrets.yaml`.",
    ),
    "E117": Explained(
        "`${NAME}` is an environment variable, and may only be the whole value of a password or token.",
        "Set the variable where the agent is started, or use `!secret NAME`.",
    ),
    "E118": Explained(
        "There is no driver of this name.",
        "`modbus` or `opcua`, or what a package has added.",
    ),
    "E119": Explained(
        "`scan` names a class of `scan_classes`; `fast` (250ms), `normal` (1s) and `slow` (1m) are "
        "always there.",
        "Define the class at the top of the file, or write `every` with a duration.",
    ),
    "E120": Explained(
        "An address (or an OPC UA node) that cannot be read, or that would read registers that may not "
        "be read.",
        "As on the wire, from zero: `holding:100`, `input:12`, `coil:3`, `discrete:0`; with "
        "`address_base: 1` as manuals count. A bit is `holding:40.3`.",
    ),
    "E121": Explained(
        "The URL cannot be used for this driver or service.",
        "`tcp://host:502`, `rtu:///dev/ttyUSB0?baudrate=19200&parity=E` or `opc.tcp://host:4840` for "
        "machines, `mqtt://` or `mqtts://` for the broker, `http://` for InfluxDB.",
    ),
    "E122": Explained(
        "There is no device profile of this name.",
        "`edge-agent profiles` lists them. A profile of one's own is named with its file: `profile: "
        "./mine.yaml`.",
    ),
    "E123": Explained(
        "A machine with braces in its name stands for many, and `{NAME}` in its texts is replaced: `{n}` "
        "by the number of a range, or by the cell of a column of `from: FILE.csv`. This name is neither.",
        'Take a column of the list, and put a value that begins with a brace in quotes: `unit_id: "{unit}"`.',
    ),
    "E124": Explained(
        "The CSV that `from` names cannot be used as it is. Its first line names the columns, each "
        "further line is a machine with as many cells; separators are commas, semicolons or tabs.",
        "Correct the cell at the place shown; save it from a spreadsheet as CSV in UTF-8.",
    ),
    "E201": Explained(
        "Two machines of one name in a site would write into one series of the historian, row by row mixed.",
        "Rename one. Where several agents serve a site, check their files together: `edge-agent check "
        "a.yaml b.yaml`.",
    ),
    "E202": Explained(
        "The name has a meaning of its own: for machines, names that begin with `_`; for tags, the names "
        "of the plant's levels, `machine`, `tag` and `time`.",
        "Choose another, such as `machine_value`.",
    ),
    "E203": Explained(
        "Conditions (`running_when`, `active_when`) compare tags with values and join them with `and`, "
        "`or`, `not`.",
        "For example `running and motor_current > 2.5`, or `mode == 'auto'`.",
    ),
    "E204": Explained(
        "A tag is named that this machine does not have.",
        "Correct the name. Made of others are `TAG.text` (enum), `TAG.NAME` (bits) and `TAG.rate`.",
    ),
    "E205": Explained(
        "`unit` of a tag is what its value is measured in; the number of a Modbus device is the "
        "machine's `unit_id`.",
        "Move the number to the machine as `unit_id`, and write a unit such as `mm/s`.",
    ),
    "E206": Explained(
        "In InfluxDB a field has one type in all machines of a measurement; the second type loses whole "
        "rows.",
        "Rename one of the tags, give both the same `store`, or give one machine its own `measurement`.",
    ),
    "E207": Explained(
        "Anyone in the network could look into the plant.",
        "Listen on `127.0.0.1`, and reach it through SSH or a proxy that asks for a password.",
    ),
    "E208": Explained(
        "The historian lacks a key that its kind needs, or `confirm` waits for a historian that is not "
        "there.",
        "`api: v2` needs `bucket`, `api: v1` needs `database`; without historian write `confirm: broker`.",
    ),
    "E209": Explained(
        "One port speaks one protocol: the same host and port cannot be Modbus TCP and OPC UA, or TCP "
        "and RTU over TCP.",
        "Correct the port or the scheme of one of the two.",
    ),
    "E210": Explained(
        "Two parts of the agent would use one port of this host.",
        "Choose another port for `web`.",
    ),
    "E211": Explained(
        "All devices of a serial line speak with one baud rate, parity and number of stop bits.",
        "Write the same settings for each machine of the line; where a device differs, change the device.",
    ),
    "W301": Explained(
        "The limit lies outside the tag's range, or outside what its register can hold after scaling: "
        "its alarm can never come, or never go.",
        "Check `range`, `scale` and the limit against the manual.",
    ),
    "W302": Explained(
        "An alarm is a call for somebody to do something; without `action` the operator at night has to "
        "guess.",
        "Say what to do, not what is wrong: `action: Stop the pump, check the filter`.",
    ),
    "W303": Explained(
        "The password stands in a file that is copied, mailed and kept in version control.",
        "Move it to `secrets.yaml` and refer to it with `!secret NAME`.",
    ),
    "W304": Explained(
        "The pattern of `include` matches no file.",
        "Correct it, or remove it.",
    ),
    "W305": Explained(
        "A machine without tags, or a file without machines: nothing is read.",
        "Add some.",
    ),
    "W306": Explained(
        "The health model judges tags of kind measurement, and the machine has none.",
        "`health: off`, or name tags in `health: {tags: [...]}`, or give one `kind: measurement`.",
    ),
    "W307": Explained(
        "The setting is understood and changes nothing here.",
        "Remove it, or what keeps it idle.",
    ),
    "W308": Explained(
        "It can be read, and is probably not what was meant.",
        "The message says what is odd.",
    ),
    "W309": Explained(
        "A tag that only explains others for the health model does not exist; health is judged without it.",
        "Correct the name, or remove it.",
    ),
    "W310": Explained(
        "More requests a second than the connection can answer, with 20 ms each and, on a serial line, "
        "the time of their bytes. Tags would be read less often than written.",
        "Read slow values less often (`scan: slow`), put neighbouring registers side by side, or raise "
        "`max_gap`.",
    ),
    "W311": Explained(
        "The profile cannot know this parameter of the device, so tags that depend on it are left out: "
        "no value is better than a wrong one.",
        "Read the parameter from the device and write `params: {NAME: VALUE}`.",
    ),
    "W312": Explained(
        "The device does something when it hears nothing for a while, and it is asked too seldom to be sure.",
        "Read at least three times within its timeout, or switch the watchdog off in the device.",
    ),
    "W313": Explained(
        "Two limits that call for the same action are one limit with two alarms. The inner one should "
        "leave time to do something gentler.",
        "For example `high`: plan an inspection; `high_high`: stop the pump.",
    ),
    "W314": Explained(
        "One measurement with very many fields is wide and mostly empty where machines differ; InfluxDB "
        "3 ends at a few hundred columns.",
        "Give each kind of machine its own `measurement`, best below `defaults` or in its profile.",
    ),
    "W315": Explained(
        "Every machine, every tag's quality and every alarm is a series of its own in InfluxDB, which "
        "keeps an index of them in memory.",
        "Leave out tags that nobody looks at, or share the machines among several historians.",
    ),
    "W316": Explained(
        "All machines' budgets of false health alerts together come to more than one a week: nobody "
        "reads the third.",
        "Lower the budget for all: `defaults: {all: {health: {false_alarms: 1 per year}}}`; each "
        "machine's limits are calibrated to it.",
    ),
    "W317": Explained(
        "With the broker away, the journal is full within a day, and the oldest readings give way.",
        "Raise `buffer: {max_size: ...}` or `max_age`, or read less often.",
    ),
    "W321": Explained(
        "What is sent can be read, or changed, by others in the network.",
        "Use `policy: Basic256Sha256` with certificates (`edge-agent opcua enrol`), `mqtts://`, or `tls://`.",
    ),
    "W322": Explained(
        "A certificate or key is missing, or is none.",
        "Correct the file; the agent needs it to connect.",
    ),
    "W323": Explained(
        "Others on this host can read the private key.",
        "`chmod 600 FILE`.",
    ),
    "W324": Explained(
        "The server's certificate is not pinned yet, so another could answer in its place.",
        "`edge-agent opcua enrol` shows it and keeps it after you agree.",
    ),
    "W325": Explained(
        "The certificate ends soon; then the connection does too.",
        "Renew it in time.",
    ),
}
"""Code -> its explanation, in the order of `problems.CODES`."""
