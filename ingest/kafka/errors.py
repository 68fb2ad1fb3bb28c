"""librdkafka's errors, named by what the caller does next: the one place that decides it."""

import re

from confluent_kafka import KafkaError

from ingest.core.errors import Fenced, IngestError, Recycle, Retry, Stop

_FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        # A commit that meets the fence while the coordinator still writes it down is answered so: its log says "already
        # a pending state PREPARE_EPOCH_FENCE". Who took it for any other failure would fence his successor.
        KafkaError.UNKNOWN,
    }
)
_DENIED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_AUTHENTICATION = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.ILLEGAL_SASL_STATE}
)
_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_DISCONNECTED = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE})
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
# _FATAL is what a message meets that comes right after a fatal error: a fence is then not told by its name.
_AFTERMATH = frozenset({KafkaError._FATAL, KafkaError._STATE, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
_TIMED_OUT = frozenset({KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE, KafkaError._MSG_TIMED_OUT})
_REFUSED_RECORDS = {
    KafkaError.INVALID_TIMESTAMP: "compare this machine's clock with the broker's, and see the topic's "
    "message.timestamp.before.max.ms and message.timestamp.after.max.ms",
    KafkaError.INVALID_RECORD: "see the topic's cleanup.policy (compaction needs keys) and message.timestamp settings, "
    "and this machine's clock",
    KafkaError.INVALID_MSG_SIZE: "see the topic's max.message.bytes",
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: "see K2_KAFKA_OPTION_COMPRESSION_TYPE",
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT: "see the topic's message.format.version",
    KafkaError.POLICY_VIOLATION: "see the broker's policies for this topic",
}
"""Codes with which a broker refuses a record for a reason that repeating does not change, and where to look."""
_NEVER = frozenset({KafkaError.INVALID_TRANSACTION_TIMEOUT, KafkaError.UNSUPPORTED_VERSION})

_NEVER_UP = re.compile(
    r"\(after \d+ms in state (?:INIT|DOWN|TRY_CONNECT|CONNECT|SSL_HANDSHAKE|AUTH_\w+|APIVERSION_QUERY)\b"
)
"""How the library tells of a connection that was never made: no request of ours was ever on it."""

_CUT_SHORT = "failed: Local: "
"""In the library's text where signing in was not refused but cut short: it gives both the same code."""

AUTHENTICATION_SECONDS = 30.0
"""Between attempts with refused credentials: brokers lock accounts out."""

DENIED_SECONDS = 5.0
"""Between attempts while an ACL is missing: it is noticed soon after it was granted."""


def disconnected(error: KafkaError) -> bool:
    """Whether a connection broke: a request may have been sent twice, the second time without our knowing.

    One that could not be made is none: while a broker of several is away, the library tries to connect all the time.
    """
    code = error.code()
    if code == KafkaError._RESOLVE or (code == KafkaError._TRANSPORT and _NEVER_UP.search(error.str())):
        return False
    return code in _DISCONNECTED


def too_large(error: KafkaError) -> bool:
    """Whether a topic refuses the size of a record, or of the batch that it was in."""
    return error.code() in _TOO_LARGE


def permanent(error: KafkaError) -> bool:
    """Whether a broker refuses a record for a reason that no repetition changes."""
    return error.code() in _REFUSED_RECORDS


def aftermath(error: KafkaError) -> bool:
    """Whether an error only reports that the transaction has failed before; the reason is in another error."""
    return error.code() in _AFTERMATH


def refused(error: KafkaError) -> Retry | None:
    """Credentials or ACLs that an operator must correct, and the seconds until the next attempt."""
    code = error.code()
    if code == KafkaError._AUTHENTICATION and _CUT_SHORT in error.str():
        return None
    if code in _AUTHENTICATION:
        return Retry(f"Kafka refused our credentials: {error.str()}", after=AUTHENTICATION_SECONDS)
    if code in _DENIED:
        return Retry(f"Kafka denies access, grant the ACL: {error.str()}", after=DENIED_SECONDS)
    return None


def classify(error: KafkaError, doing: str) -> IngestError:
    """What to do about an error of a transactional producer.

    An error without any flag is fatal for the producer: it is replaced like after any other outcome that is not known
    for certain. Only what no replacement can cure ends the process.
    """
    code, text = error.code(), f"{doing}: {error.name()}: {error.str()}"
    if code in _FENCED:
        return Fenced(text)
    access = refused(error)
    if access is not None:
        return access
    if code in _TOPIC:
        return Stop(f"{text}; create the topics with `ingest topics`")
    if code in _NEVER:
        return Stop(text)
    if code in _REFUSED_RECORDS:
        return Recycle("refused", f"{text}: the broker refuses this again and again; {_REFUSED_RECORDS[code]}")
    if code in _TIMED_OUT:
        return Recycle("timeout", text)
    if code in _DISCONNECTED:
        return Recycle("disconnect", text)
    if error.txn_requires_abort():
        return Recycle("abort", text)
    return Recycle("fatal", text)
