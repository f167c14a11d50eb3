"""Every metric, in one place. Seconds and `_total` always; an edit's id or a prompt is never a label."""

from __future__ import annotations

import asyncio

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

# Every process
EVENT_LOOP_TASKS = Gauge("errata_event_loop_tasks", "Tasks of this process's event loop.")

# The api
HTTP_REQUESTS = Counter("errata_http_requests_total", "HTTP requests answered.", ["method", "route", "status"])
HTTP_SECONDS = Histogram("errata_http_request_duration_seconds", "Time to answer.", ["method", "route"], buckets=_SECONDS)
REQUESTS_REFUSED = Counter("errata_requests_refused_total", "Requests turned away, by the code they were told.", ["reason"])
RATES_NOT_SHARED = Gauge("errata_rates_not_shared", "1 while Redis is away and this process counts rates for itself.")
OPEN_QUESTIONS = Gauge("errata_open_questions", "Questions whose answers this api process waits for.")
QUESTIONS_LOST = Counter(
    "errata_questions_lost_total", "Questions whose worker has gone or that Redis lost: asked_again, or told.", ["outcome"]
)
EDITS_ACCEPTED = Counter("errata_edits_accepted_total", "Edits committed to the ledger as accepted.")

# The queue, as the ledger has it
EDIT_QUEUE_DEPTH = Gauge("errata_edit_queue_depth", "Edits accepted or being applied.")
EDIT_OLDEST_PENDING = Gauge("errata_edit_oldest_pending_seconds", "Age of the oldest edit not yet applied or failed.")
HEAD_REVISION = Gauge("errata_head_revision", "Newest committed revision in the ledger.")

# Editing
APPLIED_REVISION = Gauge("errata_applied_revision", "Revision of the weights in this worker's memory.")
EDITS_APPLIED = Counter("errata_edits_applied_total", "Edits finished, by outcome.", ["outcome"])
EDIT_BATCH_SIZE = Histogram("errata_edit_batch_size", "Edits in one batch.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500))
EDIT_BATCH_SECONDS = Histogram(
    "errata_edit_batch_duration_seconds", "Time of one batch, by phase.", ["phase"], buckets=_SECONDS
)
EDIT_PASSES = Histogram("errata_edit_passes", "Passes a batch took until it held.", buckets=(1, 2, 3, 4, 5, 6, 8, 10, 15, 20))
EDIT_PAUSE_SECONDS = Histogram(
    "errata_edit_pause_seconds", "Time the model could not answer while weights changed.", buckets=_SECONDS
)
EDIT_STRETCH_SECONDS = Gauge(
    "errata_edit_longest_stretch_seconds", "Longest time in the last batch that editing held the model without a break."
)
UPDATE_NORM = Gauge("errata_edit_update_norm", "Frobenius norm of the newest update.", ["layer"])
UPDATE_COSINE = Gauge("errata_edit_update_cosine", "Cosine of the two newest updates.", ["layer"])
WEIGHT_DISTANCE = Gauge("errata_weight_distance", "Frobenius norm of W - W0.", ["layer"])
STATISTICS_SAMPLES = Gauge("errata_statistics_samples", "Rows the lifelong statistics have seen.", ["shape"])
STATISTICS_DRIFT = Gauge("errata_statistics_drift", "Distance of the newest rows' mean from the running mean.", ["shape"])
OPERATIONS = Counter("errata_operations_total", "Operations finished, by kind and outcome.", ["kind", "outcome"])
LEASE_HELD = Gauge("errata_writer_lease_held", "1 while this worker may write.")

# The ledger and its objects
INVARIANT_VIOLATIONS = Gauge("errata_invariant_violations", "Places where the ledger is not as it must be.", ["invariant"])
CHECKPOINT_REVISION = Gauge("errata_checkpoint_revision", "Newest revision whose whole state this worker has stored.")
STORE_UNAVAILABLE = Counter(
    "errata_store_unavailable_total", "Times that the writer had to wait for Postgres, Redis or the object store."
)
OBJECT_FILES = Gauge("errata_object_files", "Files in the object store.")
OBJECT_BYTES = Gauge("errata_object_bytes", "Bytes in the object store.")
OBJECTS_DAMAGED = Counter("errata_objects_damaged_total", "Objects found missing or altered when they were needed.")
OBJECTS_MENDED = Counter("errata_objects_mended_total", "Objects made again by replaying edits.")

# Generation, named as vLLM names its own
REQUESTS_RUNNING = Gauge("errata_num_requests_running", "Generations in progress.")
REQUESTS_WAITING = Gauge("errata_num_requests_waiting", "Generations taken by this worker and waiting for the model.")
PROMPT_TOKENS = Counter("errata_prompt_tokens_total", "Prompt tokens read.")
GENERATION_TOKENS = Counter("errata_generation_tokens_total", "Tokens generated.")
REQUEST_SUCCESS = Counter("errata_request_success_total", "Generations finished.", ["finished_reason"])
FIRST_TOKEN_SECONDS = Histogram("errata_time_to_first_token_seconds", "From request to first token.", buckets=_SECONDS)
INTER_TOKEN_SECONDS = Histogram("errata_inter_token_latency_seconds", "Between two tokens of one answer.", buckets=_SECONDS)
STEP_WAIT_SECONDS = Histogram(
    "errata_step_wait_seconds", "Time a step of all answers under way waited for the model.", buckets=_SECONDS
)
MIXED_ANSWERS = Counter("errata_answers_of_several_revisions_total", "Answers that went on over a change of the weights.")
DRAIN_SECONDS = Histogram("errata_drain_seconds", "Waiting for answers under way before the weights changed.", buckets=_SECONDS)
E2E_SECONDS = Histogram("errata_e2e_request_latency_seconds", "From request to answer.", buckets=_SECONDS)
QUESTIONS_HELD = Gauge("errata_questions_held", "Questions that this worker has taken and not yet acknowledged.")
QUEUE_SECONDS = Histogram("errata_request_queue_time_seconds", "Waiting before the model began.", buckets=_SECONDS)


def watch_event_loop() -> None:
    """Count the tasks of the loop that is running whenever somebody asks."""
    loop = asyncio.get_running_loop()
    EVENT_LOOP_TASKS.set_function(lambda: len(asyncio.all_tasks(loop)))
