"""Submits one job to Berth, follows it to its end, and prints its log.

    submit_and_watch.py --image alpine:3.20 -- sh -c 'echo hello'

State changes go to stderr, the job's own output to stdout and stderr. The exit code is the job's
own, or 125 when Berth could not run it.
"""

import argparse
import itertools
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc

# Where generate.sh puts the client; a copy on PYTHONPATH comes first.
sys.path.append(str(Path(__file__).resolve().parent / "gen"))

from berth.v1 import job_pb2  # noqa: E402
from berth.v1 import job_service_pb2 as api  # noqa: E402
from berth.v1.job_service_pb2_grpc import JobServiceStub  # noqa: E402

RETRY_SECONDS = 15
NOT_RUN = 125
TERMINAL = {job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_ABORTED}


def stream(addresses: list[str], start: Callable[[JobServiceStub], Iterable[Any]]) -> Iterator[Any]:
    """Yields what `start` streams, and starts it again on the next address while replicas are UNAVAILABLE.

    `start` must begin where the last message left off. Gives up after RETRY_SECONDS without a message.
    """
    failing_since = None
    for address in itertools.cycle(addresses):
        try:
            with grpc.insecure_channel(address) as channel:
                for message in start(JobServiceStub(channel)):
                    failing_since = None
                    yield message
            return
        except grpc.RpcError as error:
            now = time.monotonic()
            failing_since = failing_since or now
            if error.code() != grpc.StatusCode.UNAVAILABLE or now - failing_since > RETRY_SECONDS:
                raise
            time.sleep(random.uniform(0.2, 1.0))


def call(addresses: list[str], method: Callable[[JobServiceStub], Any]) -> Any:
    """Makes one call that is safe to repeat, retried as `stream` does."""
    return next(stream(addresses, lambda stub: [method(stub)]))


def submit(addresses: list[str], image: str, command: list[str]) -> job_pb2.Job:
    """Stores a job; its request_id makes a repeat after a broken connection give the same job."""
    spec = job_pb2.JobSpec(image=image, command=command)
    request = api.SubmitJobRequest(spec=spec, request_id=str(uuid.uuid4()))
    return call(addresses, lambda stub: stub.SubmitJob(request)).job


def snapshots(addresses: list[str], job_id: str) -> Iterator[job_pb2.Job]:
    """Yields the job as it is now and after each change, across breaks of the connection."""
    token = ""

    def start(stub: JobServiceStub) -> Iterable[api.WatchJobsResponse]:
        # Reads `token` as it is now, so that a new connection goes on where the last one broke.
        return stub.WatchJobs(api.WatchJobsRequest(filter=f'id = "{job_id}"', resume_token=token))

    while True:
        for event in stream(addresses, start):
            token = event.resume_token
            if event.WhichOneof("event") == "job":
                yield event.job
            elif event.WhichOneof("event") == "resync":
                # Changes were missed. The watch goes on from here, so reading now leaves no gap.
                yield call(addresses, lambda stub: stub.GetJob(api.GetJobRequest(id=job_id))).job
        # A replica that shuts down may end the watch without an error.
        time.sleep(0.5)


def watch(addresses: list[str], job_id: str) -> job_pb2.Job:
    """Prints each change of state on stderr, and returns the job once it has ended."""
    shown = None
    for job in snapshots(addresses, job_id):
        if (job.state, job.attempt) != shown:
            shown = (job.state, job.attempt)
            state = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
            where = f" on {job.executor_id}" if job.executor_id else ""
            why = job.message or job.pending_reason.message
            print(f"{job.id} {state}{where}" + (f": {why}" if why else ""), file=sys.stderr)
        if job.state in TERMINAL:
            return job
    raise AssertionError("a watch goes on until the job has ended")


def print_log(addresses: list[str], job: job_pb2.Job) -> None:
    """Copies the log of the job's last attempt to stdout and stderr, byte for byte."""
    offset = 0

    def start(stub: JobServiceStub) -> Iterable[api.StreamJobLogsResponse]:
        request = api.StreamJobLogsRequest(id=job.id, attempt=job.attempt, offset_bytes=offset)
        return stub.StreamJobLogs(request)

    for answer in stream(addresses, start):
        if answer.dropped_bytes:
            print(f"[{answer.dropped_bytes} bytes of log are no longer kept]", file=sys.stderr)
        for entry in answer.entries:
            if entry.stream == job_pb2.LogEntry.STREAM_SYSTEM:
                print(f"[{entry.data.decode(errors='replace')}]", file=sys.stderr)
                continue
            output = sys.stdout if entry.stream == job_pb2.LogEntry.STREAM_STDOUT else sys.stderr
            output.buffer.write(entry.data)
            output.flush()
            offset = entry.offset_bytes + len(entry.data)


def exit_code(job: job_pb2.Job) -> int:
    """The job's own exit code; 125 when it has none, or a 0 that was no success, as after a time-out."""
    succeeded = job.state == job_pb2.JOB_STATE_SUCCEEDED
    return job.exit_code if job.HasField("exit_code") and (succeeded or job.exit_code) else NOT_RUN


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--addr",
        default=os.environ.get("BERTH_ADDR") or "127.0.0.1:50051",
        help="host:port of a scheduler, or several with commas (default: BERTH_ADDR, else %(default)s)",
    )
    parser.add_argument("--image", required=True, help="image to run")
    parser.add_argument("command", nargs="*", help="command and its arguments, after --; default: the image's own")
    return parser.parse_args()


def main() -> int:
    """Runs the job and returns the exit code."""
    options = arguments()
    addresses = [address.strip() for address in options.addr.split(",")]
    job = None
    try:
        job = submit(addresses, options.image, options.command)
        job = watch(addresses, job.id)
    except grpc.RpcError as error:
        print(f"{job.id if job else 'Not submitted'}: {error.code().name}: {error.details()}", file=sys.stderr)
        return NOT_RUN
    except KeyboardInterrupt:
        print(f"Left; the job goes on. To end it: berth abort {job.id}" if job else "Left.", file=sys.stderr)
        return 130
    try:
        if job.attempt:  # A job that was never assigned has no log.
            print_log(addresses, job)
    except grpc.RpcError as error:
        # How the job ended is known all the same.
        print(f"No log: {error.code().name}: {error.details()}", file=sys.stderr)
    return exit_code(job)


if __name__ == "__main__":
    sys.exit(main())
