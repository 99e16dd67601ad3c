"""What a server says of itself when it can be reached."""

import msgspec

from ..telemetry.log import LOG_WRITER, log_event
from ..version import __version__


class Started(msgspec.Struct, frozen=True):
    """`http`: a URL; `line`: host and port of the line port; `asks`: who comes needs a token; `tokens`: which those
    are; `connections`: how many there can be at once; `memory`: what it may take, in lines."""

    http: str
    line: tuple[str, int] | None
    line_tls: bool
    asks: bool
    tokens: str | None
    durability: str
    epoch: str
    connections: int
    memory: list[str]

    def announce(self) -> None:
        """To a person, ready lines to type; to a program, the same as a record."""
        if LOG_WRITER.human:
            LOG_WRITER.show(self.banner())
            return
        log_event(
            "listening",
            http=self.http,
            line=None if self.line is None else "{}:{}".format(*self.line),
            durability=self.durability,
            epoch=self.epoch,
            connections=self.connections,
            tokens=self.tokens,
            memory=" ".join(" ".join(self.memory).split()) or None,
        )

    def banner(self) -> str:
        """Where it listens, what memory it may take, and one ready line for each door."""
        token = '-H "Authorization: Bearer $PLAINMQ_TOKEN" ' if self.asks else ""
        lines = [
            f"plainmq {__version__}: engine {self.durability}, epoch {self.epoch}, "
            f"room for {self.connections} connections",
            *self.memory,
            *([f"  tokens     {self.tokens}"] if self.tokens else []),
            f"  publish    curl {token}-d hello {self.http}/topics/foo/messages",
            f"  subscribe  curl {token}-N {self.http}/topics/foo/stream",
        ]
        if self.line is not None:
            lines += (_line_port_over_tls if self.line_tls else _line_port)(*self.line, self.asks)
        return "\n".join(lines)


def _line_port(host: str, port: int, asks: bool) -> list[str]:
    typed, first = ("auth TOKEN, then help", r"auth $PLAINMQ_TOKEN\n") if asks else ("help", "")
    return [
        f"  or both    telnet {host.strip('[]')} {port}    (type {typed})",
        rf"""             printf "{first}pub foo blah\nquit\n" | curl -s telnet://{host}:{port}""",
    ]


def _line_port_over_tls(host: str, port: int, asks: bool) -> list[str]:
    typed = "auth TOKEN, then help" if asks else "help"
    return [f"  or both    openssl s_client -quiet -connect {host}:{port}    (type {typed})"]
