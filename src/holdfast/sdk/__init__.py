"""What authors of components (and of guests written in Python) import.

    from holdfast.sdk import Component

    app = Component()

    @app.every(5)
    def look():
        app.log.info("looked", files=3)

Names are loaded when they are first used: a guest that only calls :func:`heartbeat` does not pay for the
rest. Nothing in here starts or supervises anything; that is the container's work.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.jobs.queue import (
        JobDroppedError,
        JobFailedError,
        NoResultError,
        NoStoreError,
        Progress,
    )
    from holdfast.model.jobs import StoreDownError, StoreRefusedError
    from holdfast.sdk.component import Component
    from holdfast.sdk.job_args import JobArgumentsError
    from holdfast.sdk.job_batch import Batch, PlannedJob, batch
    from holdfast.sdk.job_context import JobCancelledError, JobContext, JobTimeout, current
    from holdfast.sdk.job_middleware import around_job, before_enqueue
    from holdfast.sdk.job_options import JobSettingError, Limit
    from holdfast.sdk.job_ref import Ref
    from holdfast.sdk.job_sending import PayloadTooLargeError
    from holdfast.sdk.jobs import Job, JobNameError, job, push, use_jobs
    from holdfast.sdk.notifying import heartbeat, notify, notify_ready
    from holdfast.sdk.recorder import progress
    from holdfast.sdk.serving import listen_fds, serve

__all__ = [
    "Batch",
    "Component",
    "Job",
    "JobArgumentsError",
    "JobCancelledError",
    "JobContext",
    "JobDroppedError",
    "JobFailedError",
    "JobNameError",
    "JobSettingError",
    "JobTimeout",
    "Limit",
    "NoResultError",
    "NoStoreError",
    "PayloadTooLargeError",
    "PlannedJob",
    "Progress",
    "Ref",
    "StoreDownError",
    "StoreRefusedError",
    "around_job",
    "batch",
    "before_enqueue",
    "current",
    "heartbeat",
    "job",
    "listen_fds",
    "notify",
    "notify_ready",
    "progress",
    "push",
    "serve",
    "use_jobs",
]

_HOMES = {
    "Batch": "sdk.job_batch",
    "Component": "sdk.component",
    "Job": "sdk.jobs",
    "JobArgumentsError": "sdk.job_args",
    "JobCancelledError": "sdk.job_context",
    "JobContext": "sdk.job_context",
    "JobDroppedError": "jobs.queue",
    "JobFailedError": "jobs.queue",
    "JobNameError": "sdk.jobs",
    "JobSettingError": "sdk.job_options",
    "JobTimeout": "sdk.job_context",
    "Limit": "sdk.job_options",
    "NoResultError": "jobs.queue",
    "NoStoreError": "jobs.queue",
    "PayloadTooLargeError": "sdk.job_sending",
    "PlannedJob": "sdk.job_batch",
    "Progress": "jobs.queue",
    "Ref": "sdk.job_ref",
    "StoreDownError": "model.jobs",
    "StoreRefusedError": "model.jobs",
    "around_job": "sdk.job_middleware",
    "batch": "sdk.job_batch",
    "before_enqueue": "sdk.job_middleware",
    "current": "sdk.job_context",
    "heartbeat": "sdk.notifying",
    "job": "sdk.jobs",
    "listen_fds": "sdk.serving",
    "notify": "sdk.notifying",
    "notify_ready": "sdk.notifying",
    "progress": "sdk.recorder",
    "push": "sdk.jobs",
    "serve": "sdk.serving",
    "use_jobs": "sdk.jobs",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        says = f"module 'holdfast.sdk' has no attribute {name!r}"
        raise AttributeError(says)
    module = __import__(f"holdfast.{home}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value
