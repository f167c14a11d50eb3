"""Everything that can go wrong, each with a stable code and its HTTP status. One renderer turns them into problem+json.

ErrataError
├── InvalidInput            422      the request says something we cannot take
│   ├── BadEncoding         400      it is not UTF-8
│   └── NotJson             415      the body does not say that it is JSON
├── Unauthenticated         401      no key, or none that is known
├── Forbidden               403      the key does not allow this
├── OriginNotAllowed        403      a web page of another site asks for a change
├── NotFound                404
├── HostNotAllowed          421      it is addressed to a name that is not this service's
├── IdempotencyConflict     422      the key was used with another body
├── RequestInProgress       409      a request with this Idempotency-Key is under way
├── NotReversible           409      there is nothing to take back, or not any more
├── QueueFull               429      too many edits or generations waiting; try again
├── RateLimited             429      more requests than the rate allows
├── TooManyAtOnce           429      a key has too many questions under way
├── ModelNotReady           503      no worker has the model in memory yet
├── AnswerLost              503      the worker that had the question has gone, or Redis lost the answer
├── GenerationTimeout       504      a worker took the question and did not answer in time
├── RevisionNotReached      409      min_revision is beyond what any worker serves
├── StorageUnavailable      503      Postgres or Redis does not answer; ObjectsUnavailable: the object store
├── ClientGone              499      nobody is there to read the answer
├── LeaseLost               (worker) another worker may write now
├── LedgerConflict          (worker) the ledger is not as this worker left it
├── ObjectDamaged           (worker) a stored object is missing or not what its hash says
├── ForeignObjects          (worker) the object folder belongs to another ledger
├── FingerprintMismatch     (worker) rebuilt weights are not those of the head revision
├── WrongModel              (worker) the ledger belongs to another model or other modules
├── NotCalibrated           (cli)    there is no such model, or it cannot be edited
└── NotExported             (cli)    the model cannot be written so, or not there, or what was written answers differently
"""

from __future__ import annotations


class ErrataError(Exception):
    """Base of all errors of the service. `code` is stable; `detail` is for people."""

    code = "internal_error"
    status = 500
    title = "Something went wrong on our side"

    def __init__(self, detail: str, *, code: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code


class InvalidInput(ErrataError):
    code = "invalid_input"
    status = 422
    title = "The request cannot be taken as it is"


class BadEncoding(InvalidInput):
    code = "bad_utf8"
    status = 400


class NotJson(InvalidInput):
    code = "unsupported_media_type"
    status = 415


class Unauthenticated(ErrataError):
    code = "unauthenticated"
    status = 401
    title = "This needs a key"


class Forbidden(ErrataError):
    code = "forbidden"
    status = 403
    title = "The key does not allow this"


class OriginNotAllowed(ErrataError):
    code = "origin_not_allowed"
    status = 403
    title = "Pages of that site may not ask this"


class HostNotAllowed(ErrataError):
    code = "host_not_allowed"
    status = 421
    title = "This service has another name"


class NotFound(ErrataError):
    code = "not_found"
    status = 404
    title = "There is no such thing here"


class IdempotencyConflict(ErrataError):
    code = "idempotency_key_reused"
    status = 422
    title = "This Idempotency-Key was used with another body"


class RequestInProgress(ErrataError):
    code = "request_in_progress"
    status = 409
    title = "The same request is under way"


class NotReversible(ErrataError):
    code = "not_reversible"
    status = 409
    title = "This cannot be taken back"


class QueueFull(ErrataError):
    code = "queue_full"
    status = 429
    title = "Too much is waiting already"


class RateLimited(ErrataError):
    code = "rate_limit_exceeded"
    status = 429
    title = "Too many requests"


class TooManyAtOnce(ErrataError):
    code = "too_many_at_once"
    status = 429
    title = "Too many requests at once"


class ModelNotReady(ErrataError):
    code = "model_not_ready"
    status = 503
    title = "No worker has the model ready"


class AnswerLost(ErrataError):
    code = "answer_lost"
    status = 503
    title = "The answer has been lost"
    was_alone = False  # whether its worker is known to have had no other question


class GenerationTimeout(ErrataError):
    code = "generation_timed_out"
    status = 504
    title = "The model did not answer in time"


class RevisionNotReached(ErrataError):
    code = "revision_not_reached"
    status = 409
    title = "No worker serves that revision yet"


class StorageUnavailable(ErrataError):
    code = "storage_unavailable"
    status = 503
    title = "Postgres or Redis does not answer"


class ObjectsUnavailable(StorageUnavailable):
    title = "The object store cannot be written or read"


class ClientGone(ErrataError):
    code = "client_gone"
    status = 499
    title = "The client has hung up"


class LeaseLost(ErrataError):
    code = "lease_lost"


class LedgerConflict(ErrataError):
    code = "ledger_conflict"


class ObjectDamaged(ErrataError):
    """object: its name, where one alone is meant."""

    code = "object_damaged"

    def __init__(self, detail: str, *, object: str | None = None) -> None:
        super().__init__(detail)
        self.object = object


class ForeignObjects(ErrataError):
    code = "objects_of_another_ledger"


class FingerprintMismatch(ErrataError):
    code = "fingerprint_mismatch"


class WrongModel(ErrataError):
    code = "wrong_model"


class NotCalibrated(ErrataError):
    code = "not_calibrated"


class NotExported(ErrataError):
    code = "not_exported"


class BackupDamaged(ErrataError):
    code = "backup_damaged"


class DatabaseNotEmpty(ErrataError):
    code = "database_not_empty"
