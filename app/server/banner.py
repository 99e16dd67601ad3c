"""The announcement of a server that listens: a banner for people, or a record for programs."""

import msgspec

from .. import __version__
from ..telemetry.log import LOG_WRITER, log_event


class Started(msgspec.Struct, frozen=True):
    """`http`: the URL of the HTTP server; `console`: whether browsers find one there; `line_address`: host and port of
    the line port; `needs_token`: whether clients need a token; `tokens`: a description of them; `connections`: how many
    the process can have open; `memory`: lines that sum up how much the server may use."""

    http: str
    console: bool
    line_address: tuple[str, int] | None
    line_tls: bool
    needs_token: bool
    tokens: str | None
    durability: str
    epoch: str
    connections: int
    memory: list[str]

    def announce(self) -> None:
        """Write the banner if the log is for people, else a record."""
        if LOG_WRITER.human:
            LOG_WRITER.show(self.banner())
            return
        log_event(
            "listening",
            http=self.http,
            line=None if self.line_address is None else "{}:{}".format(*self.line_address),
            durability=self.durability,
            epoch=self.epoch,
            connections=self.connections,
            tokens=self.tokens,
            memory=" ".join(" ".join(self.memory).split()) or None,
        )

    def banner(self) -> str:
        """The addresses that the server listens on, the memory that it may use, and commands to try each protocol."""
        console = f"  console    {self.http}/    (open it in a browser)"
        token = '-H "Authorization: Bearer $PLAINMQ_TOKEN" ' if self.needs_token else ""
        lines = [
            f"plainmq {__version__}: engine {self.durability}, epoch {self.epoch}, "
            f"room for {self.connections} connections",
            *self.memory,
            *([f"  tokens     {self.tokens}"] if self.tokens else []),
            *([console] if self.console else []),
            f"  publish    curl {token}-d hello {self.http}/topics/foo/messages",
            f"  subscribe  curl {token}-N {self.http}/topics/foo/stream",
        ]
        if self.line_address is not None:
            lines += (_line_port_over_tls if self.line_tls else _line_port)(*self.line_address, self.needs_token)
        return "\n".join(lines)


def _line_port(host: str, port: int, needs_token: bool) -> list[str]:
    typed, first = ("auth TOKEN, then help", r"auth $PLAINMQ_TOKEN\n") if needs_token else ("help", "")
    return [
        f"  or both    telnet {host.strip('[]')} {port}    (type {typed})",
        rf"""             printf "{first}pub foo blah\nquit\n" | curl -s telnet://{host}:{port}""",
    ]


def _line_port_over_tls(host: str, port: int, needs_token: bool) -> list[str]:
    typed = "auth TOKEN, then help" if needs_token else "help"
    return [f"  or both    openssl s_client -quiet -connect {host}:{port}    (type {typed})"]
