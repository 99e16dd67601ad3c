"""Tables as text: for a person on a terminal, or for a program."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from ..client.table import Kind, Table
from ..messages.control_characters import escape_line

if TYPE_CHECKING:
    from rich.table import Table as Drawing
    from rich.text import Text

NOTHING: Final = "-"  # a person sees that there is no value
SHORTEST_TEXT: Final = 8  # characters of a column whose text can be broken or cut: less cannot be read
GUTTER: Final = 2  # spaces between two columns
LONGEST_BODY: Final = 200  # characters that a person sees: a table has one line for each message

_UNITS: Final = (("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
_SIZES: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_ALARMS: Final = {Kind.ALARM, Kind.WARNING}
_FLEXIBLE: Final = {Kind.TEXT, Kind.WARNING, Kind.BODY}
_RIGHT: Final = {Kind.COUNT, Kind.ALARM, Kind.BYTES, Kind.RATE, Kind.PART, Kind.SECONDS}


def tab_separated(table: Table) -> bytes:
    """Exact values without headings, a record on each line; of one record, each value on a line with its heading. Tabs,
    line feeds and other control characters are escaped."""
    if table.upright:
        lines = [(heading, value) for row in table.rows for heading, value in zip(table.headings, row, strict=True)]
        return b"".join(map(_line, lines))
    return b"".join(map(_line, table.rows))


def _line(values: Any) -> bytes:
    return ("\t".join(map(_exact, values)) + "\n").encode("utf-8", "backslashreplace")


def _exact(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6f}".rstrip("0").rstrip(".")
        case _:
            return one_line(str(value))


def one_line(text: str) -> str:
    """The text without anything that steers a terminal or ends a column."""
    return escape_line(text).replace("\t", "\\t")


def drawn(table: Table, width: int) -> bytes:
    """For a terminal with so many columns, in colours if it has them. Columns without any value are left out. If the
    columns are too wide, each record is drawn upright."""
    from rich.console import Console

    output = StringIO()
    console = Console(file=output, force_terminal=True, width=width, height=24, highlight=False)  # the height is unused
    if not table.upright and (flat := _flat(table, width)) is not None:
        console.print(flat)
    else:
        for number, row in enumerate(table.rows):
            console.print(*([""] if number else []), _upright(table, row), sep="\n")
    return output.getvalue().encode("utf-8", "backslashreplace")


def _flat(table: Table, width: int) -> "Drawing | None":
    """A line for each record; None if that is too wide."""
    columns = zip(table.headings, table.kinds, zip(*table.rows, strict=True), strict=True)
    used = [column for column in columns if any(value is not None for value in column[2])]
    cells = [[cell(kind, value) for value in values] for _, kind, values in used]
    if sum(map(_least, used, cells)) + GUTTER * (len(used) - 1) > width:
        return None
    drawing = empty_drawing()
    for heading, kind, _ in used:
        add_column(drawing, heading, kind)
    for row in zip(*cells, strict=True):
        drawing.add_row(*row)
    return drawing


def _least(column: tuple[str, Kind, Any], cells: "list[Text]") -> int:
    """The least characters that the column needs."""
    heading, kind, _ = column
    natural = max(len(heading), *(text.cell_len for text in cells))
    return min(natural, max(len(heading), SHORTEST_TEXT)) if kind in _FLEXIBLE else natural


def _upright(table: Table, row: Sequence[Any]) -> "Drawing":
    """A line for each value of the record."""
    drawing = empty_drawing(show_header=False)
    drawing.add_column(no_wrap=True, style="bold")
    drawing.add_column(overflow="fold")
    for heading, kind, value in zip(table.headings, table.kinds, row, strict=True):
        drawing.add_row(heading, cell(kind, value))
    return drawing


def empty_drawing(**options: Any) -> "Drawing":
    from rich.table import Table as Drawing

    return Drawing(box=None, pad_edge=False, padding=(0, GUTTER, 0, 0), header_style="bold", **options)


def add_column(drawing: "Drawing", heading: str, kind: Kind) -> None:
    drawing.add_column(
        heading, justify="right" if kind in _RIGHT else "left", no_wrap=kind not in {Kind.TEXT, Kind.WARNING},
        overflow="ellipsis" if kind is Kind.BODY else "fold",
    )  # fmt: skip


def cell(kind: Kind, value: Any) -> "Text":
    """The value for a person."""
    from rich.text import Text

    text = NOTHING if value is None else one_line(_FORMATS.get(kind, _word)(value))
    return Text(text, style="bold red" if kind in _ALARMS and value else "")


def _word(value: Any) -> str:
    return _exact(value) if isinstance(value, bool) else str(value)


def count(value: float) -> str:
    return f"{value:,.0f}"


def size(nbytes: float) -> str:
    """1536 → `1.5 KiB`"""
    for unit, many in _SIZES:
        if nbytes >= many:
            return f"{nbytes / many:.1f} {unit}"
    return f"{nbytes:.0f} B"


def rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


def part(value: float) -> str:
    return f"{value:.0%}"


def seconds(value: float) -> str:
    """90.0 → `1m`: one unit, rounded down."""
    for unit, length in _UNITS:
        if value >= length:
            return f"{int(value / length)}{unit}"
    return "0s"


def moment(text: str) -> str:
    """How long ago that is, or how soon: `3m ago`, `in 12s`."""
    try:
        ago = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    except (ValueError, TypeError, OverflowError):  # not a time with its zone
        return text
    if abs(ago) < 1.0:
        return "now"
    return f"{seconds(ago)} ago" if ago > 0 else f"in {seconds(-ago)}"


def _body(value: str) -> str:
    return value if len(value) <= LONGEST_BODY else f"{value[:LONGEST_BODY]}…"


_FORMATS: Final[Mapping[Kind, Callable[[Any], str]]] = {
    Kind.BODY: _body,
    Kind.COUNT: count,
    Kind.ALARM: count,
    Kind.BYTES: size,
    Kind.RATE: rate,
    Kind.PART: part,
    Kind.SECONDS: seconds,
    Kind.TIME: moment,
}
