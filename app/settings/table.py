"""The table of settings: the type, the default, the bounds and the help text of each.

Flags, variables, `.env` and the table in docs/settings.md follow from it.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final, Literal

from ..messages.units import ByteSize, Seconds
from .names import SettingInvalid, named
from .paths import unreachable
from .size_rules import broken_rules
from .values import (
    ADDRESS,
    ANY_TEXT,
    DURABILITY,
    ENGINE,
    HOSTS,
    KEYS,
    ORIGINS,
    PATH,
    SEVERAL,
    URL,
    Durations,
    Numbers,
    OneOf,
    Sizes,
    Values,
)

Auth = Literal["auto", "required", "none"]
Synchronous = Literal["full", "relaxed"]
Switch = Literal["off", "on"]
LogFormat = Literal["human", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
AccessLog = Literal["errors", "all", "none"]

PORTS: Final = Numbers("0", "65535")
COUNTS: Final = Numbers("1", "1000000000")
COUNTS_OR_NO_LIMIT: Final = Numbers("0", "1000000000")
STORE_SIZES: Final = Sizes("7KiB", "16384GiB")
INBOUND_SIZES: Final = Sizes("1KiB", "16384GiB")
OUTBOUND_SIZES: Final = Sizes("16MiB", "16384GiB")
"""The least is an encoded page of 1MiB."""


def option(default: Any, help_text: str, values: Values = ANY_TEXT) -> Any:
    return field(default=default, metadata={"help": help_text, "values": values})


@dataclass(frozen=True, kw_only=True)
class Settings:
    host: str = option(
        "127.0.0.1", "Address of the HTTP server. The default can be reached from this machine only.", ADDRESS
    )
    port: int = option(8000, "Port of the HTTP server; 0 picks a free one.", PORTS)
    tcp_host: str = option("127.0.0.1", "Address of the line port.", ADDRESS)
    tcp_port: int = option(7777, "Port of the line port; 0 turns it off.", PORTS)
    tls_cert: str = option(
        "",
        "File with a certificate and its chain (PEM); with it, the HTTP server speaks TLS. SIGHUP reads it again.",
        PATH,
    )
    tls_key: str = option(
        "",
        "File with the private key of the certificate, without a passphrase. Empty: the key is in the "
        "certificate's file.",
        PATH,
    )
    tcp_tls: Switch = option(
        "off",
        "`on`: the line port speaks TLS too, with the same certificate. telnet and nc cannot.",
        OneOf(Switch),
    )
    console: Switch = option(
        "on",
        "`off`: browsers find no console at `/`, only the commands to try. The console has no data: the API decides "
        "who sees what.",
        OneOf(Switch),
    )
    trusted_proxies: str = option(
        "",
        "Addresses and networks of your proxies, such as `10.0.0.2, 10.1.0.0/16`. The server believes "
        "X-Forwarded-For and X-Forwarded-Proto from these only, because any other client could forge them.",
        SEVERAL,
    )
    public_url: str = option(
        "",
        "URL at which users reach the server, such as `https://mq.example.org`, or `https://example.org/mq` if a proxy "
        "serves it below a path and removes that path. Requests for its host name are accepted.",
        URL,
    )
    allowed_hosts: str = option(
        "",
        "Further host names of the server, separated by commas; `*` allows all. Requests for any other name get "
        "421. IP addresses and localhost are always allowed.",
        HOSTS,
    )
    allowed_origins: str = option(
        "",
        "Other web sites whose pages may use the server, such as `https://example.org`, separated by commas; `*` "
        "allows all.",
        ORIGINS,
    )
    auth: Auth = option(
        "auto",
        "Which clients need a token: `auto`, all, unless there is no token and only this machine can reach the "
        "server; `required`, all; `none`, no client. If a token is needed and there is none, the server creates "
        "one.",
        OneOf(Auth),
    )
    tokens: str = option(
        "", "File of the tokens that `plainmq token` creates. Empty: `tokens` in the data directory.", PATH
    )
    jwt_keys: str = option(
        "",
        "Keys that verify JSON Web Tokens, as `ALGORITHM:PATH`, separated by commas: a secret of at least 32 "
        "bytes for HS256, a public key in PEM for RS256, ES256 and EdDSA (or Ed25519). SIGHUP reads them again.",
        KEYS,
    )
    jwt_audience: str = option("", "The `aud` that a JSON Web Token must have. Empty: it must have none.")
    jwt_issuer: str = option("", "The `iss` that a JSON Web Token must have. Empty: it is not checked.")
    auth_timeout: Seconds = option(
        Seconds(10),
        "How long a client of the line port may take to present its token, if it needs one.",
        Durations("100ms", "1h"),
    )
    data_dir: str = option(
        "",
        "Folder for what the server stores besides its log: tokens, and the key that signs tickets. Empty: the "
        "folder of the engine's file, or `~/.local/state/plainmq`.",
        PATH,
    )
    engine: str = option(
        "memory",
        "Where the log is stored: `memory` (lost when the process ends), `sqlite:///PATH` (a file), or a journal that "
        "several servers share: `redis://HOST:PORT/DB?name=NAME`, `nats://HOST:PORT?name=NAME`.",
        ENGINE,
    )
    durability: str = option(
        "primary",
        "When a message is confirmed, with the engine redis: `primary`, when the primary has it in memory; `disk`, "
        "when it is on its disk; `replicated:N`, when N replicas have it too.",
        DURABILITY,
    )
    journal_timeout: Seconds = option(
        Seconds(5),
        "How long Redis or NATS may take for an answer, with such an engine; after it, the server connects anew.",
        Durations("500ms", "1m"),
    )
    workers: int = option(
        1,
        "Processes that serve the same ports, to use several cores. More than one need an engine that they share: "
        "redis or nats. Each has the limits below for itself, and so the memory.",
        Numbers("1", "256"),
    )
    synchronous: Synchronous = option(
        "full",
        "What a confirmed message survives, with the engine sqlite: `full`, a loss of power; `relaxed`, the end "
        "of the process, and no publish waits for the disk.",
        OneOf(Synchronous),
    )
    max_messages: int = option(1_000, "Messages stored per topic; beyond it, the oldest are deleted.", COUNTS)
    max_bytes: ByteSize = option(
        ByteSize(8 << 20),
        "Bytes of message bodies stored per topic; beyond it, the oldest messages are deleted.",
        Sizes("1B", "16384GiB"),
    )
    max_age: Seconds = option(
        Seconds(86_400), "Age at which a stored message is deleted.", Durations("100ms", "36500d")
    )
    max_total_bytes: ByteSize = option(
        ByteSize(256 << 20),
        "Memory for all stored messages with their overhead. With every engine, it also bounds the memory for "
        "messages that are delayed, leased, for one subscriber, or have a ttl. A publish beyond it gets 507.",
        STORE_SIZES,
    )
    max_disk_bytes: ByteSize = option(
        ByteSize(10 << 30),
        "Bytes of all stored messages with their overhead, with the engine sqlite. A publish beyond it gets 507.",
        STORE_SIZES,
    )
    min_free_disk: ByteSize = option(
        ByteSize(512 << 20),
        "Space that the engine sqlite leaves free on its disk. With less, a publish gets 507.",
        Sizes("0", "16384GiB"),
    )
    max_topics: int = option(
        10_000, "Topics at a time: without a limit, a client could fill memory with names.", COUNTS
    )
    max_groups: int = option(100, "Groups per topic: each uses memory for every message that it has not acked.", COUNTS)
    topic_idle: Seconds = option(
        Seconds(3_600),
        "An empty topic is deleted when it has had no publish for this long.",
        Durations("100ms", "36500d"),
    )
    max_message: ByteSize = option(
        ByteSize(1 << 20),
        "Bytes in one message, which is held in memory as a whole; at most 16MiB.",
        Sizes("1B", "16MiB"),
    )
    max_batch: ByteSize = option(
        ByteSize(16 << 20), "Bytes in one NDJSON batch, which is held in memory as a whole.", Sizes("1B", "1GiB")
    )
    max_batch_messages: int = option(
        10_000, "Lines in one NDJSON batch, each a message; empty lines count too.", COUNTS
    )
    max_unfinished: ByteSize = option(
        ByteSize(256 << 20),
        "Bytes of bodies and lines that are still being received, of all clients together; beyond it 503.",
        INBOUND_SIZES,
    )
    max_unsent: ByteSize = option(
        ByteSize(256 << 20),
        "Bytes written to subscribers that have not read them yet, of all together; beyond it, the subscriber "
        "that has been behind for longest is cut off.",
        OUTBOUND_SIZES,
    )
    max_head: ByteSize = option(
        ByteSize(16 << 10),
        "Bytes in the head of a request, which is held in memory as a whole; the default has room for large "
        "cookies. A larger head gets 431.",
        Sizes("1KiB", "1MiB"),
    )
    head_timeout: Seconds = option(
        Seconds(10),
        "How long the head of a request may take. A connection without a request takes a slot.",
        Durations("100ms", "1h"),
    )
    body_timeout: Seconds = option(
        Seconds(30),
        "How long the body of a request may take. A longer one must bring at least 1KiB a second.",
        Durations("100ms", "1d"),
    )
    max_line: ByteSize = option(
        ByteSize(3 << 19),
        "Bytes in one line of the line port: room for a message of --max-message in escaped form.",
        Sizes("128B", "1GiB"),
    )
    max_subscribers: int = option(
        10_000,
        "Subscribers at a time, of HTTP and the line port together; one more gets `busy`. A subscriber whose "
        "topics and patterns take more than 16KiB of memory counts as several.",
        COUNTS,
    )
    max_client_subscribers: int = option(
        1_000,
        "Subscribers of one client at a time, so that it leaves slots for others; 0 is no limit. A client is a "
        "token, or the address of a client without one; clients without a token on this machine have no limit.",
        COUNTS_OR_NO_LIMIT,
    )
    publish_rate: int = option(
        1_000,
        "Messages that one client may publish a second; beyond it 429 `rate_limited`; 0 is no limit.",
        COUNTS_OR_NO_LIMIT,
    )
    publish_burst: int = option(
        2_000,
        "Messages that one client may publish at once after a pause. A larger batch is accepted once the whole "
        "burst is available.",
        COUNTS,
    )
    max_failed_logins: int = option(
        10,
        "Failed log-ins a minute from one address; beyond it they get 429; 0 is no limit. A valid token is "
        "always accepted.",
        COUNTS_OR_NO_LIMIT,
    )
    max_http_clients: int = option(
        20_000,
        "HTTP connections at a time, streams included. One more is closed, and an EventSource retries.",
        COUNTS,
    )
    max_tcp_clients: int = option(
        10_000, "Connections to the line port at a time. One more gets an error and is closed.", COUNTS
    )
    keep_alive: Seconds = option(
        Seconds(15),
        "How often an event stream gets a comment, so that no proxy closes it as idle.",
        Durations("50ms", "1d"),
    )
    coalesce: Seconds = option(
        Seconds(0.01),
        "How long messages may wait to be written together: at most this, and at most twice as long as the last "
        "write took, so that an idle server writes at once; 0 turns it off.",
        Durations("0", "1s"),
    )
    stream_age: Seconds = option(
        Seconds(3_600),
        "Age at which the server ends an event stream, give or take 10 % and up to one --keep-alive, so that clients "
        "reconnect and spread anew.",
        Durations("100ms", "30d"),
    )
    stall_timeout: Seconds = option(
        Seconds(10), "A subscriber whose socket accepts no bytes for this long is cut off.", Durations("100ms", "1d")
    )
    send_buffer: ByteSize = option(
        ByteSize(64 << 10),
        "Kernel send buffer of each connection: what a stalled subscriber can leave unread before the server notices.",
        Sizes("1KiB", "1GiB"),
    )
    drain_timeout: Seconds = option(
        Seconds(10), "How long a stop waits for open requests before it cuts them off.", Durations("0", "1d")
    )

    log_format: LogFormat = option(
        "human",
        "Format of the log on standard error: `human`, a line per record, or `json`, an object per record.",
        OneOf(LogFormat),
    )
    log_level: LogLevel = option(
        "info", "Lowest level that is logged: `debug`, `info`, `warning` or `error`.", OneOf(LogLevel)
    )
    access_log: AccessLog = option(
        "errors",
        "Which requests, streams and connections are logged: `errors`, those that failed; `all`, which can "
        "triple the cost of a publish; `none`.",
        OneOf(AccessLog),
    )

    def __post_init__(self) -> None:
        for option in OPTIONS:
            value, values = getattr(self, option.name), option.metadata["values"]
            if not values.has(value):
                raise SettingInvalid(f"{named(option.name)} is {str(value)[:200]!a}: expected {values.expected}")
            for why in filter(None, map(unreachable, values.paths(value))):
                raise SettingInvalid(f"{named(option.name)}: {why}")
        if not self.tls_cert and (self.tls_key or self.tcp_tls == "on"):
            raise SettingInvalid("--tls-key and --tcp-tls need a certificate: expected --tls-cert too")
        for sentence in broken_rules(self):
            raise SettingInvalid(sentence)


OPTIONS: tuple[Field[Any], ...] = fields(Settings)
_VALUES: Final[Mapping[str, Values]] = {option.name: option.metadata["values"] for option in OPTIONS}


def values_of(name: str) -> Values:
    """The values that a setting can have."""
    return _VALUES[name]


def kind(name: str) -> str:
    """What a value of the setting looks like, as one word for a help text."""
    return _VALUES[name].kind
