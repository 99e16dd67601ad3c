"""Every option once: its type, default and reason. Flags, environment, `.env` and the README's table follow."""

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from dotenv import dotenv_values

from .errors import OptionInvalid, PlainmqError
from .units import Octets, Seconds, parse_duration, parse_size

PREFIX = "PLAINMQ_"

Auth = Literal["auto", "required", "none"]
Synchronous = Literal["full", "relaxed"]
Switch = Literal["off", "on"]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
LogFormat = Literal["human", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
AccessLog = Literal["errors", "all", "none"]
Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[int, msgspec.Meta(ge=0)]


class SettingInvalid(PlainmqError):
    code = "setting_invalid"


def option(default: Any, reason: str) -> Any:
    return field(default=default, metadata={"help": reason})


@dataclass(frozen=True, kw_only=True)
class Settings:
    host: str = option("127.0.0.1", "Address of the HTTP door; loopback until you decide who may reach it.")
    port: Port = option(8000, "Port of the HTTP door; 0 takes a free one.")
    tcp_host: str = option("127.0.0.1", "Address of the line port.")
    tcp_port: Port = option(7777, "Port of the line port; 0 turns it off.")
    tls_cert: str = option(
        "",
        "File with a certificate and those that vouch for it (PEM): the HTTP door speaks TLS. SIGHUP reads it again.",
    )
    tls_key: str = option(
        "", "File with the key to it, without a passphrase; otherwise it is in the file of the certificate."
    )
    tcp_tls: Switch = option(
        "off", "`on`: the line port speaks TLS too, with the same certificate; telnet and nc cannot, so it is a choice."
    )
    trusted_proxies: str = option(
        "",
        "Addresses and networks of your proxies, such as `10.0.0.2, 10.1.0.0/16`: only they may say in X-Forwarded-For "
        "and X-Forwarded-Proto who a client is. Others could claim to be anybody.",
    )
    public_url: str = option(
        "", "Where users reach the server, such as `https://mq.example.org`: its name is one of ours."
    )
    allowed_hosts: str = option(
        "",
        "More names of the server, with commas; a request for any other is refused (421), `*` allows all. Addresses "
        "and localhost always work.",
    )
    allowed_origins: str = option(
        "", "Other sites whose pages may use the server, such as `https://example.org`, with commas; `*` is every site."
    )
    auth: Auth = option(
        "auto",
        "Who is let in: `auto`, who has a token, or anybody when there are none and only this machine can reach the "
        "server; `required`, who has a token; `none`, anybody. A first token is made where it is needed.",
    )
    tokens: str = option("", "File of the tokens that `plainmq token` makes; `tokens` in the data directory if empty.")
    jwt_keys: str = option(
        "",
        "Keys that JSON Web Tokens are signed with, as `ALGORITHM:PATH`, with commas: a secret of at least 32 bytes "
        "for HS256, a public key in PEM for RS256, ES256 and EdDSA. SIGHUP reads them again.",
    )
    jwt_audience: str = option("", "What the `aud` of a JSON Web Token must be; empty: it must have none.")
    jwt_issuer: str = option("", "What the `iss` of a JSON Web Token must be; empty: it is not looked at.")
    auth_timeout: Seconds = option(
        Seconds(10), "How long a client of the line port may take to show its token, where one is needed."
    )
    data_dir: str = option(
        "",
        "Folder for what the server keeps beside its log: the tokens. Empty: the folder of the engine's file, or "
        "`~/.local/state/plainmq`.",
    )
    engine: str = option(
        "memory", "Where the log lives: `memory` (gone when the process ends) or `sqlite:///PATH` (a file that stays)."
    )
    synchronous: Synchronous = option(
        "full",
        "What a message that the engine sqlite confirmed survives: `full`, a loss of power; `relaxed`, the end of the "
        "process, and no publish waits for the disk.",
    )
    max_messages: Count = option(1_000, "Messages kept per topic; the oldest go first.")
    max_bytes: Octets = option(Octets(8 << 20), "Bytes of message bodies kept per topic.")
    max_age: Seconds = option(Seconds(86_400), "Age at which a kept message goes.")
    max_total_bytes: Octets = option(
        Octets(256 << 20), "Memory for all kept messages with their overhead, and for what is delayed; beyond it 507."
    )
    max_disk_bytes: Octets = option(
        Octets(10 << 30), "The same for the engine sqlite, whose messages are on a disk; beyond it 507."
    )
    min_free_disk: Octets = option(
        Octets(512 << 20), "What the engine sqlite leaves free on its disk, for itself and for others; below it 507."
    )
    max_topics: Count = option(10_000, "Topics at once, so that nobody can fill memory with names.")
    max_groups: Count = option(100, "Groups on one topic: each costs memory for every message it has not acked.")
    topic_idle: Seconds = option(Seconds(3_600), "An empty topic that nobody published to for this long goes.")
    max_message: Octets = option(Octets(1 << 20), "Bytes in one message, which is held whole; at most 16MiB.")
    max_batch: Octets = option(Octets(16 << 20), "Bytes in one NDJSON batch, which is held whole.")
    max_batch_messages: Count = option(10_000, "Lines in one NDJSON batch, each a message; empty ones count too.")
    max_unfinished: Octets = option(
        Octets(256 << 20), "Bytes of bodies and lines that are still coming in, all clients together; beyond it 503."
    )
    max_unsent: Octets = option(
        Octets(256 << 20),
        "Bytes written to readers that have not taken them, all together; beyond it the one that is behind for longest "
        "is cut off.",
    )
    max_head: Octets = option(
        Octets(16 << 10), "Bytes in a request's head, which is held whole: large cookies fit; beyond it 431."
    )
    head_timeout: Seconds = option(
        Seconds(10), "How long a request's head may take: who connects and does not ask holds a place."
    )
    body_timeout: Seconds = option(
        Seconds(30), "How long a request's body may take; a longer one must bring 1KiB a second at least."
    )
    max_line: Octets = option(Octets(3 << 19), "Bytes in one line of the line port: a message of max_message, escaped.")
    max_subscribers: Count = option(10_000, "Readers at once through all doors; one more is told `busy`.")
    max_client_subscribers: Share = option(
        1_000,
        "Readers at once of one client, so that it leaves places for others; 0 is no limit. A client is a token, or an "
        "anonymous address other than this machine's.",
    )
    publish_rate: Share = option(
        1_000, "Messages a second that one client may publish; beyond it 429 `rate_limited`; 0 is no limit."
    )
    publish_burst: Count = option(
        2_000, "Messages that a client may publish at once after a pause; a larger batch waits for all of them."
    )
    max_failed_logins: Share = option(
        10, "Failed log-ins a minute from one address; beyond it they are not looked at closer (429); 0 is no limit."
    )
    max_http_clients: Count = option(
        20_000,
        "Connections to the HTTP door at once, streams among them; one more is closed, and an EventSource retries.",
    )
    max_tcp_clients: Count = option(10_000, "Connections to the line port at once; one more is told so and closed.")
    keep_alive: Seconds = option(Seconds(15), "How often event streams get a comment, so that no proxy closes them.")
    coalesce: Seconds = option(
        Seconds(0.01),
        "The longest that messages wait to be written together, and no longer than twice what the last writing took: "
        "who is idle writes at once; 0 is never.",
    )
    stream_age: Seconds = option(
        Seconds(3_600),
        "Age at which an event stream ends in good order, give or take 10 %, to spread readers anew.",
    )
    stall_timeout: Seconds = option(Seconds(10), "A reader whose socket takes nothing for this long is cut off.")
    send_buffer: Octets = option(
        Octets(64 << 10), "Kernel send buffer per connection: what a stalled reader can hold before it is noticed."
    )
    drain_timeout: Seconds = option(Seconds(10), "How long a stop waits for open requests before it cuts them off.")

    log_format: LogFormat = option(
        "human", "How records are written to standard error: `human`, a line each, or `json`, an object each."
    )
    log_level: LogLevel = option("info", "The least level of a record: `debug`, `info`, `warning` or `error`.")
    access_log: AccessLog = option(
        "errors",
        "Which requests, streams and connections have a record: `errors`, those that went wrong; `all`, which can "
        "triple the price of a publish; `none`.",
    )

    def __post_init__(self) -> None:
        if self.max_message > 16 << 20:
            raise SettingInvalid(f"max_message is {self.max_message}: expected at most 16MiB, a message is held whole")
        if self.max_head < 1 << 10:
            raise SettingInvalid(f"max_head is {self.max_head}: expected at least 1KiB, or no browser could ask")
        if not self.tls_cert and (self.tls_key or self.tcp_tls == "on"):
            raise SettingInvalid("tls_key and tcp_tls need a certificate: expected tls_cert too")
        if self.max_message > self.max_bytes:
            raise SettingInvalid(
                f"max_message ({self.max_message}) is more than max_bytes ({self.max_bytes}): "
                f"a topic could not keep one such message"
            )


OPTIONS: tuple[Field[Any], ...] = fields(Settings)
_TYPES = get_type_hints(Settings, include_extras=True)
_KINDS = {Seconds: "DURATION", Octets: "SIZE", int: "NUMBER", str: "TEXT"}
_PARSERS = {Seconds: parse_duration, Octets: parse_size}


def variable(name: str) -> str:
    """`tcp_port` → `PLAINMQ_TCP_PORT`."""
    return PREFIX + name.upper()


def flag(name: str) -> str:
    """`tcp_port` → `--tcp-port`."""
    return "--" + name.replace("_", "-")


def kind(name: str) -> str:
    """What a value of the setting looks like, as one word for a help text."""
    value = getattr(Settings, name)
    return next(word for type_, word in _KINDS.items() if isinstance(value, type_))


def load(flags: Mapping[str, str | None] | None = None) -> Settings:
    """Flags before the environment before `.env` before the defaults; a flag of None was not given.

    Raises SettingInvalid with a sentence that names the setting.
    """
    written = {**dotenv_values(".env"), **os.environ}
    given = {option.name: written.get(variable(option.name)) for option in OPTIONS}
    given |= {name: value for name, value in (flags or {}).items() if value is not None}
    return Settings(**{name: _parsed(name, value) for name, value in given.items() if value is not None})


def _parsed(name: str, value: str) -> Any:
    try:
        return msgspec.convert(value, _TYPES[name], strict=False, dec_hook=_parse)
    except (msgspec.ValidationError, OptionInvalid) as error:
        raise SettingInvalid(f"{flag(name)} ({variable(name)}) is {value!r}: {error!s}") from None


def _parse(kind: type, value: Any) -> Any:
    return kind(_PARSERS[kind](value))
