"""The errors of the program, as a tree. Each class has a `code` that clients may rely on; its text is a sentence for
people.

PlainmqError
├── Refused              the request cannot be done as it is; nothing was changed
│   ├── TopicInvalid         not a valid topic name or pattern
│   ├── GroupInvalid         not a valid group name
│   ├── OptionInvalid        an option, id or position that cannot be read
│   │   └── OptionUnknown        an option that is not known here
│   ├── MessageTooLarge      more bytes than a message, a line or a batch may have
│   ├── NotHttp              bytes on the HTTP port that are not HTTP
│   ├── VersionUnsupported   a request in a version of HTTP that the server does not support
│   ├── UpgradeUnsupported   a request to switch to another protocol
│   ├── HeadTooLarge         a request with too many headers, or too long ones
│   ├── TargetTooLong        a request with a too long target
│   ├── RequestTimeout       a request that arrives too slowly
│   ├── HostInvalid          a request without exactly one valid Host
│   ├── HostUnknown          a request for another host name
│   ├── OriginForbidden      a request from a page of another site
│   ├── Unauthorised         an invalid token
│   │   └── TokenMissing         no token
│   ├── Forbidden            the token lacks the right
│   ├── UseForbidden         a page that would run a message as a script, style or plug-in
│   ├── LengthRequired       a publish of HTTP/1.0 without a Content-Length; nobody knows whether it has a body
│   ├── EncodingUnsupported  a Content-Encoding; messages are stored as they are sent
│   ├── NotFound             no such topic, group or message
│   ├── LeaseExpired         the lease is over: another worker has the message, or gets it
│   ├── DeadLettersLeft      another dead-letter topic for a group whose dead messages are in the present one
│   ├── TokenExists          another token has this name
│   ├── TokensUnused         a token for a server that asks nobody for one
│   ├── Lockout              a change of tokens that would lock its client out
│   ├── TokenLimit           one token more than the server may have
│   ├── TopicLimit           one topic more than the server may have
│   ├── GroupLimit           one group more than a topic may have
│   ├── RateLimited          more requests than one client may make in this time
│   └── LogFull              no space, and nothing that retention may delete
└── Busy                 the server cannot do it now
    ├── Draining             the server is stopping
    ├── TopicPaused          somebody has paused publishing to the topic
    ├── SubscriberLimit      one subscriber more than the server, or one client, may have
    ├── Overloaded           more bytes are being received than the server may hold
    ├── TokensUnreadable     the token file cannot be read
    ├── StorageFailed        the disk did not store it
    └── OutcomeUnknown       it is unknown whether the disk stores it
"""

from typing import ClassVar


class PlainmqError(Exception):
    code: ClassVar[str] = "internal_error"


class Refused(PlainmqError):
    code = "refused"


class TopicInvalid(Refused):
    code = "topic_invalid"


class GroupInvalid(Refused):
    code = "group_invalid"


class OptionInvalid(Refused):
    code = "option_invalid"


class OptionUnknown(OptionInvalid):
    """Has the code of its base class: the client has to do the same."""


class MessageTooLarge(Refused):
    code = "message_too_large"


class NotHttp(Refused):
    code = "not_http"


class VersionUnsupported(Refused):
    code = "version_unsupported"


class UpgradeUnsupported(Refused):
    code = "upgrade_unsupported"


class HeadTooLarge(Refused):
    code = "head_too_large"


class TargetTooLong(Refused):
    code = "target_too_long"


class RequestTimeout(Refused):
    code = "request_timeout"


class HostInvalid(Refused):
    code = "host_invalid"


class HostUnknown(Refused):
    code = "host_unknown"


class OriginForbidden(Refused):
    code = "origin_forbidden"


class Unauthorised(Refused):
    code = "unauthorised"


class TokenMissing(Unauthorised):
    """Has the code of its base class: the client has to do the same."""


class Forbidden(Refused):
    code = "forbidden"


class UseForbidden(Refused):
    code = "use_forbidden"


class LengthRequired(Refused):
    code = "length_required"


class EncodingUnsupported(Refused):
    code = "encoding_unsupported"


class NotFound(Refused):
    code = "not_found"


class LeaseExpired(Refused):
    code = "lease_expired"


class DeadLettersLeft(Refused):
    code = "dead_letters_left"


class TokenExists(Refused):
    code = "token_exists"


class TokensUnused(Refused):
    code = "tokens_unused"


class Lockout(Refused):
    code = "lockout"


class TokenLimit(Refused):
    code = "token_limit"


class TopicLimit(Refused):
    code = "topic_limit"


class GroupLimit(Refused):
    code = "group_limit"


class RateLimited(Refused):
    """`wait`: seconds until the client may try again."""

    code = "rate_limited"

    def __init__(self, sentence: str, wait: float) -> None:
        super().__init__(sentence)
        self.wait = wait


class LogFull(Refused):
    code = "log_full"


class Busy(PlainmqError):
    code = "busy"


class Draining(Busy):
    code = "draining"


class TopicPaused(Busy):
    code = "topic_paused"


class SubscriberLimit(Busy):
    code = "subscriber_limit"


class Overloaded(Busy):
    code = "overloaded"


class TokensUnreadable(Busy):
    code = "tokens_unreadable"


class StorageFailed(Busy):
    code = "storage_failed"


class Behind(StorageFailed):
    """Another server may know the answer."""


class OutcomeUnknown(Busy):
    code = "outcome_unknown"
