"""Every option once: its type, default and reason. Flags, environment, `.env` and docs/settings.md follow."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from ..errors import OptionInvalid, PlainmqError
from ..messages.units import ByteSize, Seconds
from ..net.regular_file import read_regular
from .values import ADDRESS, ANY_TEXT, HOSTS, ORIGINS, SEVERAL, URL, Durations, Numbers, OneOf, Sizes, Values

PREFIX = "PLAINMQ_"
FILE: Final = ".env"
CLIENT: Final = ("url", "token", "ca")
"""Variables that are no settings of a server: those of the commands that talk to one."""

Auth = Literal["auto", "required", "none"]
Synchronous = Literal["full", "relaxed"]
Switch = Literal["off", "on"]
LogFormat = Literal["human", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
AccessLog = Literal["errors", "all", "none"]

PORTS: Final = Numbers("0", "65535")
COUNTS: Final = Numbers("1", "1000000000")
SHARES: Final = Numbers("0", "1000000000")
BESIDE: Final = ByteSize(6 << 10)
"""What one message may cost beside its bytes: its topic, its group, the topic of dead letters, and that it is leased,
has a ttl or is dead."""
GROWTH: Final = 8
"""How many times as long a message may be as it goes out: JSON escapes one byte with six, and an event stream has
`data: ` before each line; and there is what stands around it."""
STORES: Final = Sizes("7KiB", "16384GiB")
COMING: Final = Sizes("1KiB", "16384GiB")
GOING: Final = Sizes("16MiB", "16384GiB")
"""A page of 1MiB, as it goes out."""


class SettingInvalid(PlainmqError):
    code = "setting_invalid"


def option(default: Any, reason: str, values: Values = ANY_TEXT) -> Any:
    return field(default=default, metadata={"help": reason, "values": values})


@dataclass(frozen=True, kw_only=True)
class Settings:
    host: str = option("127.0.0.1", "Address of the HTTP door; loopback until you decide who may reach it.", ADDRESS)
    port: int = option(8000, "Port of the HTTP door; 0 takes a free one.", PORTS)
    tcp_host: str = option("127.0.0.1", "Address of the line port.", ADDRESS)
    tcp_port: int = option(7777, "Port of the line port; 0 turns it off.", PORTS)
    tls_cert: str = option(
        "",
        "File with a certificate and those that vouch for it (PEM): the HTTP door speaks TLS. SIGHUP reads it again.",
    )
    tls_key: str = option(
        "", "File with the key to it, without a passphrase; otherwise it is in the file of the certificate."
    )
    tcp_tls: Switch = option(
        "off",
        "`on`: the line port speaks TLS too, with the same certificate; telnet and nc cannot, so it is a choice.",
        OneOf(Switch),
    )
    trusted_proxies: str = option(
        "",
        "Addresses and networks of your proxies, such as `10.0.0.2, 10.1.0.0/16`: only they may say in X-Forwarded-For "
        "and X-Forwarded-Proto who a client is. Others could claim to be anybody.",
        SEVERAL,
    )
    public_url: str = option(
        "", "Where users reach the server, such as `https://mq.example.org`: its name is one of ours.", URL
    )
    allowed_hosts: str = option(
        "",
        "More names of the server, with commas; a request for any other is refused (421), `*` allows all. Addresses "
        "and localhost always work.",
        HOSTS,
    )
    allowed_origins: str = option(
        "",
        "Other sites whose pages may use the server, such as `https://example.org`, with commas; `*` is every site.",
        ORIGINS,
    )
    auth: Auth = option(
        "auto",
        "Who is let in: `auto`, who has a token, or anybody when there are none and only this machine can reach the "
        "server; `required`, who has a token; `none`, anybody. A first token is made where it is needed.",
        OneOf(Auth),
    )
    tokens: str = option("", "File of the tokens that `plainmq token` makes; `tokens` in the data directory if empty.")
    jwt_keys: str = option(
        "",
        "Keys that JSON Web Tokens are signed with, as `ALGORITHM:PATH`, with commas: a secret of at least 32 bytes "
        "for HS256, a public key in PEM for RS256, ES256 and EdDSA (or Ed25519). SIGHUP reads them again.",
        SEVERAL,
    )
    jwt_audience: str = option("", "What the `aud` of a JSON Web Token must be; empty: it must have none.")
    jwt_issuer: str = option("", "What the `iss` of a JSON Web Token must be; empty: it is not looked at.")
    auth_timeout: Seconds = option(
        Seconds(10),
        "How long a client of the line port may take to show its token, where one is needed.",
        Durations("100ms", "1h"),
    )
    data_dir: str = option(
        "",
        "Folder for what the server keeps beside its log: tokens and the key of tickets. Empty: the folder "
        "of the engine's file, or `~/.local/state/plainmq`.",
    )
    engine: str = option(
        "memory", "Where the log lives: `memory` (gone when the process ends) or `sqlite:///PATH` (a file that stays)."
    )
    synchronous: Synchronous = option(
        "full",
        "What a message that the engine sqlite confirmed survives: `full`, a loss of power; `relaxed`, the end of the "
        "process, and no publish waits for the disk.",
        OneOf(Synchronous),
    )
    max_messages: int = option(1_000, "Messages kept per topic; the oldest go first.", COUNTS)
    max_bytes: ByteSize = option(ByteSize(8 << 20), "Bytes of message bodies kept per topic.", Sizes("1B", "16384GiB"))
    max_age: Seconds = option(Seconds(86_400), "Age at which a kept message goes.", Durations("100ms", "36500d"))
    max_total_bytes: ByteSize = option(
        ByteSize(256 << 20),
        "Memory for all kept messages with their overhead, and for what is delayed, leased, for one subscriber or has "
        "a ttl, wherever messages are; beyond it 507.",
        STORES,
    )
    max_disk_bytes: ByteSize = option(
        ByteSize(10 << 30), "The same for the engine sqlite, whose messages are on a disk; beyond it 507.", STORES
    )
    min_free_disk: ByteSize = option(
        ByteSize(512 << 20),
        "What the engine sqlite leaves free on its disk, for itself and for others; below it 507.",
        Sizes("0", "16384GiB"),
    )
    max_topics: int = option(10_000, "Topics at once, so that nobody can fill memory with names.", COUNTS)
    max_groups: int = option(100, "Groups on one topic: each costs memory for every message it has not acked.", COUNTS)
    topic_idle: Seconds = option(
        Seconds(3_600), "An empty topic that nobody published to for this long goes.", Durations("100ms", "36500d")
    )
    max_message: ByteSize = option(
        ByteSize(1 << 20), "Bytes in one message, which is held whole; at most 16MiB.", Sizes("1B", "16MiB")
    )
    max_batch: ByteSize = option(
        ByteSize(16 << 20), "Bytes in one NDJSON batch, which is held whole.", Sizes("1B", "1GiB")
    )
    max_batch_messages: int = option(10_000, "Lines in one NDJSON batch, each a message; empty ones count too.", COUNTS)
    max_unfinished: ByteSize = option(
        ByteSize(256 << 20),
        "Bytes of bodies and lines that are still coming in, all clients together; beyond it 503.",
        COMING,
    )
    max_unsent: ByteSize = option(
        ByteSize(256 << 20),
        "Bytes written to readers that have not taken them, all together; beyond it the one that is behind for longest "
        "is cut off.",
        GOING,
    )
    max_head: ByteSize = option(
        ByteSize(16 << 10),
        "Bytes in a request's head, which is held whole: large cookies fit; beyond it 431.",
        Sizes("1KiB", "1MiB"),
    )
    head_timeout: Seconds = option(
        Seconds(10),
        "How long a request's head may take: who connects and does not ask holds a place.",
        Durations("100ms", "1h"),
    )
    body_timeout: Seconds = option(
        Seconds(30),
        "How long a request's body may take; a longer one must bring 1KiB a second at least.",
        Durations("100ms", "1d"),
    )
    max_line: ByteSize = option(
        ByteSize(3 << 19),
        "Bytes in one line of the line port: a message of max_message, escaped.",
        Sizes("128B", "1GiB"),
    )
    max_subscribers: int = option(
        10_000,
        "Readers at once through all doors; one more is told `busy`. One whose topics and patterns take more than "
        "16KiB of memory counts as several.",
        COUNTS,
    )
    max_client_subscribers: int = option(
        1_000,
        "Readers at once of one client, so that it leaves places for others; 0 is no limit. A client is a token, or an "
        "anonymous address other than this machine's.",
        SHARES,
    )
    publish_rate: int = option(
        1_000, "Messages a second that one client may publish; beyond it 429 `rate_limited`; 0 is no limit.", SHARES
    )
    publish_burst: int = option(
        2_000, "Messages that a client may publish at once after a pause; a larger batch waits for all of them.", COUNTS
    )
    max_failed_logins: int = option(
        10,
        "Failed log-ins a minute from one address; beyond it they get 429; 0 is no limit. A good token always gets in.",
        SHARES,
    )
    max_http_clients: int = option(
        20_000,
        "Connections to the HTTP door at once, streams among them; one more is closed, and an EventSource retries.",
        COUNTS,
    )
    max_tcp_clients: int = option(
        10_000, "Connections to the line port at once; one more is told so and closed.", COUNTS
    )
    keep_alive: Seconds = option(
        Seconds(15), "How often event streams get a comment, so that no proxy closes them.", Durations("50ms", "1d")
    )
    coalesce: Seconds = option(
        Seconds(0.01),
        "The longest that messages wait to be written together, and no longer than twice what the last writing took: "
        "who is idle writes at once; 0 is never.",
        Durations("0", "1s"),
    )
    stream_age: Seconds = option(
        Seconds(3_600),
        "Age at which an event stream ends in good order, give or take 10 %, to spread readers anew.",
        Durations("100ms", "30d"),
    )
    stall_timeout: Seconds = option(
        Seconds(10), "A reader whose socket takes nothing for this long is cut off.", Durations("100ms", "1d")
    )
    send_buffer: ByteSize = option(
        ByteSize(64 << 10),
        "Kernel send buffer per connection: what a stalled reader can hold before it is noticed.",
        Sizes("1KiB", "1GiB"),
    )
    drain_timeout: Seconds = option(
        Seconds(10), "How long a stop waits for open requests before it cuts them off.", Durations("0", "1d")
    )

    log_format: LogFormat = option(
        "human",
        "How records are written to standard error: `human`, a line each, or `json`, an object each.",
        OneOf(LogFormat),
    )
    log_level: LogLevel = option(
        "info", "The least level of a record: `debug`, `info`, `warning` or `error`.", OneOf(LogLevel)
    )
    access_log: AccessLog = option(
        "errors",
        "Which requests, streams and connections have a record: `errors`, those that went wrong; `all`, which can "
        "triple the price of a publish; `none`.",
        OneOf(AccessLog),
    )

    def __post_init__(self) -> None:
        for option in OPTIONS:
            value, values = getattr(self, option.name), option.metadata["values"]
            if not values.has(value):
                raise SettingInvalid(f"{named(option.name)} is {str(value)[:200]!a}: expected {values.expected}")
        if not self.tls_cert and (self.tls_key or self.tcp_tls == "on"):
            raise SettingInvalid("--tls-key and --tcp-tls need a certificate: expected --tls-cert too")
        for room in _ROOM:
            room.check(self)


OPTIONS: tuple[Field[Any], ...] = fields(Settings)
_VALUES: Final[Mapping[str, Values]] = {option.name: option.metadata["values"] for option in OPTIONS}


class _Room(NamedTuple):
    """What one setting has to have room for, or what another one allows never works."""

    where: str
    what: str
    why: str
    times: int = 1
    beside: int = 0

    def check(self, settings: Settings) -> None:
        """Raises SettingInvalid."""
        has, allowed = getattr(settings, self.where), getattr(settings, self.what)
        need = ByteSize(allowed * self.times + self.beside)
        if has < need:
            raise SettingInvalid(
                f"{named(self.where)} is {has}: expected at least {need} for a {flag(self.what)} of {allowed}, or "
                f"{self.why}"
            )


_TWICE: Final = "one such message could not be kept, in its topic and as a dead letter"
_ROOM: Final = (
    _Room("max_bytes", "max_message", "a topic could not keep one such message"),
    _Room("max_total_bytes", "max_message", _TWICE, times=2, beside=BESIDE),
    _Room("max_disk_bytes", "max_message", _TWICE, times=2, beside=BESIDE),
    _Room("max_unfinished", "max_message", "one such message could not come in"),
    _Room("max_unfinished", "max_batch", "one such batch could not come in"),
    _Room("max_unfinished", "max_line", "one such line could not come in"),
    _Room("max_unsent", "max_message", "who reads one such message could be cut off for it", times=GROWTH),
)
_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://")
_SERVICE_NAME: Final = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_(TCP|UDP|SCTP)\w*)")


def variable(name: str) -> str:
    """`tcp_port` → `PLAINMQ_TCP_PORT`."""
    return PREFIX + name.upper()


def flag(name: str) -> str:
    """`tcp_port` → `--tcp-port`."""
    return "--" + name.replace("_", "-")


def named(name: str) -> str:
    """Both, for a sentence."""
    return f"{flag(name)} ({variable(name)})"


@contextmanager
def naming(*names: str) -> Iterator[None]:
    """What goes wrong within is told with the settings that it comes from."""
    try:
        yield
    except SettingInvalid:
        raise
    except PlainmqError as error:
        raise type(error)(f"{' with '.join(map(named, names))}: {error}") from None


def kind(name: str) -> str:
    """What a value of the setting looks like, as one word for a help text."""
    return _VALUES[name].kind


def load(flags: Mapping[str, str | None] | None = None) -> Settings:
    """Flags before the environment before `.env` before the defaults; a flag of None was not given.

    Raises SettingInvalid with a sentence that names the setting.
    """
    check_environment()
    written = {**_file(), **os.environ}
    given = {option.name: written.get(variable(option.name)) for option in OPTIONS}
    given |= {name: value for name, value in (flags or {}).items() if value is not None}
    return Settings(**{name: _parsed(name, value) for name, value in given.items() if value is not None})


def check_environment() -> None:
    """Raises SettingInvalid for a variable of ours that means nothing: what it was to say would go unheard, and a
    server might be open that shall not be."""
    _check_names(os.environ, "in the environment")


def _file() -> dict[str, str]:
    """What `.env` says. A folder of that name is somebody else's: Python's virtual environments are called so."""
    if not os.path.exists(FILE) or os.path.isdir(FILE):  # noqa: PTH110, PTH112  # False where we may not look
        return {}
    try:
        text = read_regular(Path(FILE))[0].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingInvalid(f"the file {FILE} is not UTF-8, at byte {error.start + 1}") from None
    except OSError as error:
        raise SettingInvalid(f"the file {FILE} cannot be read: {error.strerror}") from None
    for unread in _unread_lines(text):
        raise SettingInvalid(f"line {unread} of the file {FILE} cannot be read: expected {PREFIX}NAME=VALUE")
    found = {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}
    _check_names(found, f"in the file {FILE}")
    return found


def _unread_lines(text: str) -> Iterator[int]:
    """The numbers of those that mean us, and say nothing."""
    for binding in parse_stream(StringIO(text)):
        ours = PREFIX.rstrip("_") in binding.original.string.upper()
        empty = binding.value is None and (binding.key or "").upper().startswith(PREFIX)
        if empty or (binding.error and ours):
            yield binding.original.line


def _check_names(written: Mapping[str, str], where: str) -> None:
    known = [*map(variable, _VALUES), *map(variable, CLIENT)]
    for name, value in written.items():
        if name.upper().startswith(PREFIX) and name not in known and not _is_service_link(name, value):
            near = get_close_matches(name.upper().removeprefix(PREFIX), [n.removeprefix(PREFIX) for n in known], 1, 0.5)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "`plainmq serve --help` names all that there are"
            raise SettingInvalid(f"{name[:80]} {where} is not a setting: {hint}")


def _is_service_link(name: str, value: str) -> bool:
    """Kubernetes sets such variables for each Service that is there."""
    return bool(_SERVICE_NAME.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_LINK.match(value)))


def _parsed(name: str, value: str) -> Any:
    try:
        return _VALUES[name].read(value)
    except OptionInvalid:
        hint = ""
        if _SERVICE_LINK.match(value):
            hint = "; Kubernetes sets it for a Service of that name, unless its pod has `enableServiceLinks: false`"
        expected = f"expected {_VALUES[name].expected}"
        raise SettingInvalid(f"{named(name)} is {value[:200]!a}: {expected}{hint}") from None
