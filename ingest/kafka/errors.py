"""librdkafka's errors, named by what the caller does next: the one place that decides it."""

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
_TIMED_OUT = frozenset({KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE, KafkaError._MSG_TIMED_OUT})
_NEVER = frozenset({KafkaError.INVALID_TRANSACTION_TIMEOUT, KafkaError.UNSUPPORTED_VERSION})

AUTHENTICATION_SECONDS = 30.0
"""Between attempts with refused credentials: brokers lock accounts out."""

DENIED_SECONDS = 5.0
"""Between attempts while an ACL is missing: it is noticed soon after it was granted."""


def disconnected(error: KafkaError) -> bool:
    """Whether a connection broke: a request may have been sent twice, the second time without our knowing."""
    return error.code() in _DISCONNECTED


def refused(error: KafkaError) -> Retry | None:
    """Credentials or ACLs that somebody must mend, and how long to wait before asking again."""
    code = error.code()
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
    if code in _TIMED_OUT:
        return Recycle("timeout", text)
    if code in _DISCONNECTED:
        return Recycle("disconnect", text)
    if error.txn_requires_abort():
        return Recycle("abort", text)
    return Recycle("fatal", text)
