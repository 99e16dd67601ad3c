"""What can go wrong, as a tree. Each class has a `code` that programs may rely on; its text is a sentence for people.

PlainmqError
├── Refused              what was asked cannot be done as asked; nothing was changed
│   ├── TopicInvalid         not a lawful topic name or pattern
│   ├── GroupInvalid         not a lawful name of a group
│   ├── OptionInvalid        an option, id or position that cannot be read
│   ├── MessageTooLarge      more bytes than a message, a line or a batch may have
│   ├── NotHttp              what came to the HTTP door is something else
│   ├── UpgradeUnsupported   a request to go on in another protocol
│   ├── HeadTooLarge         a request whose headers are too many or too long
│   ├── TargetTooLong        a request whose target is
│   ├── RequestTimeout       a request that comes in too slowly
│   ├── HostInvalid          a request without one lawful Host
│   ├── HostUnknown          a request for a server of another name
│   ├── OriginForbidden      a request that a page of another site has sent
│   ├── Unauthorised         nobody we know: a token that is not good
│   │   └── TokenMissing         no token
│   ├── Forbidden            somebody we know, who may not do this
│   ├── UseForbidden         a page that would run a message
│   ├── EncodingUnsupported  a Content-Encoding; messages are stored as they came
│   ├── NotFound             no such topic, group or message
│   ├── LeaseExpired         the lease is over: the message goes to a worker again, or has gone to one
│   ├── TopicLimit           one topic more than the server keeps
│   ├── GroupLimit           one group more than a topic may have
│   ├── RateLimited          more, or more often, than one client may
│   └── LogFull              no room that may be freed
└── Busy                 not now
    ├── Draining             the server is stopping
    ├── SubscriberLimit      one subscriber more than the server serves
    ├── Overloaded           more is on its way in than the server holds
    ├── TokensUnreadable     nobody knows which tokens are good
    └── StorageFailed        the disk did not take it
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


class MessageTooLarge(Refused):
    code = "message_too_large"


class NotHttp(Refused):
    code = "not_http"


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
    """The same code: what a client has to do is the same."""


class Forbidden(Refused):
    code = "forbidden"


class UseForbidden(Refused):
    code = "use_forbidden"


class EncodingUnsupported(Refused):
    code = "encoding_unsupported"


class NotFound(Refused):
    code = "not_found"


class LeaseExpired(Refused):
    code = "lease_expired"


class TopicLimit(Refused):
    code = "topic_limit"


class GroupLimit(Refused):
    code = "group_limit"


class RateLimited(Refused):
    """`wait`: seconds until it may be tried again."""

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


class SubscriberLimit(Busy):
    code = "subscriber_limit"


class Overloaded(Busy):
    code = "overloaded"


class TokensUnreadable(Busy):
    code = "tokens_unreadable"


class StorageFailed(Busy):
    code = "storage_failed"
