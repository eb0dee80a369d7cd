"""What the job queue promises, on each database: a job is done by one worker at a time, and never lost."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from app.db import jobs, queue
from app.db.errors import CursorError, JobNotCancellable, JobNotFound, JobNotRetryable
from app.db.queue import RetryPolicy
from app.db.tables import JobRow

NOW = datetime(2024, 5, 1, tzinfo=UTC)
AT_ONCE = RetryPolicy(base_seconds=0, jitter=0)


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def same(job, other):
    return all(getattr(job, column.key) == getattr(other, column.key) for column in JobRow.__table__.columns)


@pytest.fixture
def put(sessions):
    """Enqueue in a transaction of its own."""

    def put(kind="ingest", **others):
        with sessions.begin() as session:
            return jobs.enqueue(session, kind, **{"now": NOW, **others}).job

    return put


@pytest.fixture
def take(sessions):
    """Claim in a transaction of its own."""

    def take(worker="w", kinds=("ingest",), **others):
        with sessions.begin() as session:
            return queue.claim(session, worker, kinds, **{"now": NOW, **others})

    return take


@pytest.fixture
def call(sessions):
    """One function of the queue in a transaction of its own."""

    def call(function, *arguments, **others):
        with sessions.begin() as session:
            return function(session, *arguments, **others)

    return call


class TestEnqueue:
    def test_a_new_job_waits(self, put):
        job = put(payload={"revision": 1}, document_id=7, collection_id=3, priority=2, max_attempts=4)
        assert (job.status, job.attempts, job.max_attempts, job.priority) == ("todo", 0, 4, 2)
        assert (job.payload, job.document_id, job.collection_id) == ({"revision": 1}, 7, 3)
        assert (job.created_at, job.run_after, job.started_at) == (NOW, NOW, None)

    def test_a_live_job_with_the_same_key_is_given_instead(self, sessions, put, take, call):
        first = put(dedup_key="k")
        with sessions.begin() as session:
            again = jobs.enqueue(session, "ingest", dedup_key="k")
        assert (again.is_new, again.job.id) == (False, first.id)
        take()
        assert put(dedup_key="k").id == first.id
        call(queue.succeed, "w", first.id)
        assert put(dedup_key="k").id != first.id

    def test_a_job_that_is_to_stop_gives_up_its_key(self, put, take, call):
        """A source that was deleted and came back while its old content was in work is ingested."""
        first = put(dedup_key="k", document_id=7).id
        take()
        call(jobs.cancel, first)
        second = put(dedup_key="k", document_id=7).id
        assert second != first
        assert put(dedup_key="k", document_id=7).id == second
        assert take("w2") == [], "not before the first has stopped"
        call(queue.cancelled, "w", first)
        assert [job.id for job in take("w2")] == [second]

    def test_jobs_without_a_key_are_all_kept(self, put):
        assert put().id != put().id

    def test_many_threads_with_one_key_make_one_job(self, put):
        ids = []
        threads = [threading.Thread(target=lambda: ids.append(put(dedup_key="k").id)) for _ in range(8)]
        run_all(threads)
        assert len(ids) == 8
        assert len(set(ids)) == 1

    def test_what_is_rolled_back_was_never_there(self, sessions, take):
        with sessions() as session:
            jobs.enqueue(session, "ingest", now=NOW)
        assert take() == []


class TestClaim:
    def test_marks_the_job_as_the_workers(self, put, take):
        put()
        (job,) = take("w1", lease_seconds=30)
        assert (job.status, job.worker, job.attempts) == ("doing", "w1", 1)
        assert (job.started_at, job.heartbeat_at, job.lease_expires_at) == (NOW, NOW, after(30))
        assert take("w2") == []

    def test_by_priority_then_age(self, put, take):
        late = put(now=after(-1)).id
        early = put(now=after(-2)).id
        urgent = put(priority=-1).id
        assert [job.id for job in take(limit=2)] == [urgent, early]
        assert [job.id for job in take(limit=2)] == [late]

    def test_only_the_kinds_asked_for(self, put, take):
        put("build")
        assert take() == []
        assert len(take(kinds=("ingest", "build"))) == 1

    def test_not_before_its_time(self, put, take):
        put(run_after=after(10))
        assert take(now=after(9)) == []
        assert len(take(now=after(10))) == 1

    def test_one_job_of_a_document_at_a_time(self, put, take, call):
        first, second, other = (
            put(document_id=7),
            put(document_id=7, now=after(1)),
            put(document_id=8, now=after(2)),
        )
        batch = take(limit=5, now=after(3))
        assert [job.id for job in batch] == [first.id, other.id]
        assert take("w2", limit=5, now=after(3)) == []
        call(queue.succeed, "w", first.id)
        assert [job.id for job in take("w2", limit=5, now=after(3))] == [second.id]

    def test_a_job_of_a_document_that_is_not_due_holds_none_up(self, put, take):
        put(document_id=7, run_after=after(100))
        second = put(document_id=7)
        assert [job.id for job in take()] == [second.id]

    def test_the_database_itself_refuses_two_jobs_of_a_document_in_work(self, session, put, take):
        put(document_id=7)
        put(document_id=7)
        take()
        with pytest.raises(IntegrityError):
            session.execute(update(JobRow).where(JobRow.document_id == 7).values(status="doing"))

    @pytest.mark.parametrize(
        ("max_bytes", "n_taken"), [(None, 4), (0, 1), (9, 1), (10, 1), (29, 1), (30, 3), (59, 3), (1000, 4)]
    )
    def test_a_batch_stays_below_its_bytes_but_is_never_empty(self, put, take, max_bytes, n_taken):
        for number, n_bytes in enumerate((10, 20, None, 30)):
            put(payload={"n_bytes": n_bytes} if n_bytes else {}, now=after(-9 + number))
        assert len(take(limit=4, max_bytes=max_bytes)) == n_taken

    @pytest.mark.parametrize("n_documents", [0, 10], ids=["no document", "few documents"])
    def test_many_threads_claim_each_job_once(self, sessions, put, n_documents):
        n_jobs = 60
        for number in range(n_jobs):
            put(document_id=number % n_documents if n_documents else None)
        claimed: list[str] = []
        in_work: Counter[int] = Counter()
        lock = threading.Lock()

        def work(worker):
            idle = 0
            while idle < 20 and len(claimed) < n_jobs:
                with sessions.begin() as session:
                    batch = queue.claim(session, worker, ["ingest"], limit=3, now=NOW)
                idle = 0 if batch else idle + 1
                with lock:
                    claimed.extend(job.id for job in batch)
                    in_work.update(job.document_id for job in batch if job.document_id is not None)
                    assert max(in_work.values(), default=0) <= 1
                for job in batch:
                    # Before the database knows of the end, so that no later claim is counted as one too many.
                    with lock:
                        in_work[job.document_id] -= 1
                    with sessions.begin() as session:
                        assert queue.succeed(session, worker, job.id)

        run_all([threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)])
        assert Counter(claimed) == Counter(set(claimed))
        assert len(claimed) == n_jobs

    def test_a_claim_sees_what_one_before_it_took(self, sessions, put):
        """Even where that one is not committed yet: it waits."""
        first = put(document_id=7).id
        put(document_id=7, now=after(-1), run_after=after(1))
        taken = []

        def claim():
            with sessions.begin() as session:
                taken.extend(queue.claim(session, "w2", ["ingest"], limit=5, now=after(2)))

        other = threading.Thread(target=claim)
        with sessions.begin() as session:
            assert [job.id for job in queue.claim(session, "w1", ["ingest"], now=NOW)] == [first]
            start_all([other])
            other.join(0.3)
        assert join_all([other]) == []
        assert taken == []

    def test_processes_claim_each_job_once(self, database_url, put):
        ids = {put().id for _ in range(40)}
        program = (
            "import sys\n"
            "from app.db import queue\n"
            "from app.db.engine import create_engine, session_factory\n"
            f"sessions = session_factory(create_engine({database_url!r}))\n"
            "while True:\n"
            "    with sessions.begin() as session:\n"
            "        batch = queue.claim(session, sys.argv[1], ['ingest'], limit=2)\n"
            "    for job in batch:\n"
            "        sys.stdout.write(job.id + '\\n')\n"
            "    if not batch:\n"
            "        break\n"
        )
        processes = [
            subprocess.Popen([sys.executable, "-c", program, f"w{number}"], stdout=subprocess.PIPE, text=True)
            for number in range(2)
        ]
        claimed = [line for process in processes for line in process.communicate()[0].split()]
        assert sorted(claimed) == sorted(ids)

    def test_a_claim_that_is_not_committed_is_none(self, sessions, put, take):
        put()
        with sessions() as session:
            assert len(queue.claim(session, "dies", ["ingest"], now=NOW)) == 1
        assert len(take("lives")) == 1


class TestLease:
    def test_a_heartbeat_prolongs_it(self, put, take, call):
        put()
        (job,) = take(lease_seconds=10)
        assert call(queue.heartbeat, "w", [job.id], lease_seconds=10, now=after(9)) == set()
        assert call(queue.release_expired, now=after(19)).todo == ()
        assert call(queue.release_expired, now=after(20)).todo == (job.id,)

    def test_an_expired_job_goes_to_another_worker(self, put, take, call):
        put()
        (job,) = take("dead", lease_seconds=10)
        call(queue.release_expired, now=after(11))
        (again,) = take("alive", now=after(11))
        assert (again.id, again.attempts, again.worker) == (job.id, 2, "alive")

    def test_a_job_outlives_a_clock_that_was_set_back_a_day(self, put, take, call):
        """Neither a dead worker's lease nor the time of a retry lasts until the clock is where it was."""
        day = 86_400
        put()
        (job,) = take("dead", now=after(day), lease_seconds=10)
        assert call(queue.release_expired, now=after(day + 5)).todo == ()
        assert call(queue.anything_due, ["ingest"], now=NOW)
        assert call(queue.release_expired, now=NOW).todo == (job.id,)
        (again,) = take("w", now=after(day))
        status = call(queue.fail, "w", again.id, code="x", detail="x", retry=RetryPolicy(), now=after(day))
        assert status == "todo"
        assert take("w", now=after(day)) == []
        assert [item.id for item in take("w")] == [job.id]

    def test_a_worker_that_lives_keeps_its_job_when_the_clock_is_set(self, put, take, call):
        put()
        (job,) = take("w", lease_seconds=10)
        for now in (after(86_400), after(0), after(-3600)):
            assert call(queue.heartbeat, "w", [job.id], lease_seconds=10, now=now) == set()
            assert call(queue.release_expired, now=now).todo == ()
        assert call(queue.succeed, "w", job.id)

    def test_what_is_postponed_waits_and_costs_no_attempt(self, put, take, call):
        put(max_attempts=1)
        for turn in range(3):
            (job,) = take(now=after(turn * 10))
            call(queue.postpone, "w", code="storage_full", detail="d", delay_seconds=5, now=after(turn * 10))
            assert take(now=after(turn * 10 + 4)) == []
        found = call(jobs.get, job.id)
        assert (found.status, found.attempts, found.error_code, found.worker) == (
            "todo",
            0,
            "storage_full",
            None,
        )

    def test_a_worker_that_lost_its_lease_changes_nothing(self, put, take, call):
        put()
        (job,) = take("slow", lease_seconds=10)
        call(queue.release_expired, now=after(11))
        (again,) = take("other", now=after(11))
        assert call(queue.heartbeat, "slow", [job.id], now=after(12)) == {job.id}
        assert not call(queue.progress, "slow", job.id, done=5)
        assert not call(queue.succeed, "slow", job.id)
        assert not call(queue.cancelled, "slow", job.id)
        assert call(queue.succeed_all, "slow", [job.id]) == set()
        assert call(queue.fail, "slow", job.id, code="x", detail="x") is None
        found = call(jobs.get, job.id)
        assert (found.status, found.worker, found.progress_done) == ("doing", "other", 0)
        assert call(queue.succeed, "other", again.id)

    def test_attempts_used_up_by_lost_workers_end_the_job(self, put, take, call):
        put(max_attempts=2)
        for turn in range(2):
            (job,) = take(now=after(100 * turn), lease_seconds=10)
            released = call(queue.release_expired, now=after(100 * turn + 50))
        assert released.failed == (job.id,)
        found = call(jobs.get, job.id)
        assert (found.status, found.error_code, found.finished_at) == ("failed", "worker_lost", after(150))

    def test_a_worker_that_stops_gives_its_jobs_back_without_a_mark(self, put, take, call):
        put()
        put(document_id=1)
        batch = take(limit=2)
        call(jobs.cancel, batch[1].id)
        released = call(queue.release_worker, "w", now=NOW)
        assert (released.todo, released.cancelled) == ((batch[0].id,), (batch[1].id,))
        (again,) = take("next")
        assert again.attempts == 1

    def test_only_its_own(self, put, take, call):
        put()
        take("other")
        assert call(queue.release_worker, "w").todo == ()

    def test_a_killed_process_loses_no_job(self, database_url, put, take, call):
        """Killed by the system right after the commit of the claim."""
        job_id = put().id
        program = (
            "import os, signal\n"
            "from datetime import datetime\n"
            "from app.db import queue\n"
            "from app.db.engine import create_engine, session_factory\n"
            f"now = datetime.fromisoformat({NOW.isoformat()!r})\n"
            f"with session_factory(create_engine({database_url!r})).begin() as session:\n"
            "    queue.claim(session, 'killed', ['ingest'], now=now)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        assert subprocess.run([sys.executable, "-c", program]).returncode == -9
        assert take("next", now=after(59)) == []
        call(queue.release_expired, now=after(61))
        assert [job.id for job in take("next", now=after(61))] == [job_id]


class TestEnding:
    def test_success_keeps_its_result(self, put, take, call):
        put()
        (job,) = take()
        assert call(queue.progress, "w", job.id, done=3, total=9, note="chunk\0ing")
        assert call(queue.succeed, "w", job.id, result={"n_chunks": 3}, now=after(5))
        found = call(jobs.get, job.id)
        assert (found.status, found.result, found.finished_at) == ("succeeded", {"n_chunks": 3}, after(5))
        assert (found.progress_done, found.progress_total, found.lease_expires_at) == (3, 9, None)
        assert not call(queue.succeed, "w", job.id)

    def test_many_at_once(self, put, take, call):
        for _ in range(3):
            put()
        batch = take(limit=3)
        assert call(queue.succeed_all, "w", [job.id for job in batch] + ["no"]) == {job.id for job in batch}
        assert {call(jobs.get, job.id).status for job in batch} == {"succeeded"}
        assert call(queue.succeed_all, "w", [job.id for job in batch]) == set()

    def test_many_at_once_are_only_those_that_the_worker_holds(self, put, take, call):
        ids = {name: put(now=after(-9 + n)).id for n, name in enumerate(("failed", "mine", "other", "todo"))}
        take("w", limit=2)
        take("w2")
        call(queue.fail, "w", ids["failed"], code="x", detail="x")
        before = {name: call(jobs.get, ids[name]) for name in ("failed", "other", "todo")}
        # More than one statement takes, and some twice.
        asked = [*ids.values(), *ids.values(), *(f"{number:032d}" for number in range(600))]
        assert call(queue.succeed_all, "w", asked, now=after(5)) == {ids["mine"]}
        mine = call(jobs.get, ids["mine"])
        assert (mine.status, mine.worker, mine.finished_at) == ("succeeded", "w", after(5))
        assert (mine.lease_expires_at, mine.error_code) == (None, None)
        for name, job in before.items():
            assert same(call(jobs.get, ids[name]), job), name

    def test_success_at_once_clears_the_error_of_an_earlier_attempt(self, put, take, call):
        job_id = put().id
        take()
        call(queue.fail, "w", job_id, code="x", detail="x", retry=AT_ONCE, now=NOW)
        take()
        assert call(queue.succeed_all, "w", [job_id]) == {job_id}
        found = call(jobs.get, job_id)
        assert (found.error_code, found.error_detail, found.attempts) == (None, None, 2)

    def test_a_retryable_failure_comes_back_later_and_later(self, put, take, call):
        put(max_attempts=3)
        policy = RetryPolicy(base_seconds=2, factor=4, jitter=0)
        now = 0.0
        for delay in (2, 8):
            (job,) = take(now=after(now))
            status = call(queue.fail, "w", job.id, code="x", detail="\0 \ud800", retry=policy, now=after(now))
            assert status == "todo"
            assert take(now=after(now + delay - 0.001)) == []
            now += delay
        (job,) = take(now=after(now))
        assert call(queue.fail, "w", job.id, code="x", detail="why", retry=policy, now=after(now)) == "failed"
        found = call(jobs.get, job.id)
        assert (found.status, found.attempts, found.error_code, found.error_detail) == (
            "failed",
            3,
            "x",
            "why",
        )

    def test_the_policy_can_end_it_earlier_than_the_job(self, put, take, call):
        put(max_attempts=9)
        (job,) = take()
        assert (
            call(queue.fail, "w", job.id, code="x", detail="", retry=RetryPolicy(max_attempts=1)) == "failed"
        )

    def test_a_permanent_failure_is_final(self, put, take, call):
        put()
        (job,) = take()
        assert call(queue.fail, "w", job.id, code="corrupt_file", detail="") == "failed"
        assert take(now=after(10**6)) == []

    def test_success_after_a_failure_leaves_no_error(self, put, take, call):
        put()
        (job,) = take()
        call(queue.fail, "w", job.id, code="x", detail="", retry=AT_ONCE, now=NOW)
        take()
        call(queue.succeed, "w", job.id)
        assert call(jobs.get, job.id).error_code is None


class TestCancelAndRetry:
    def test_a_waiting_job_is_cancelled_at_once(self, put, take, call):
        job = put()
        assert call(jobs.cancel, job.id).status == "cancelled"
        assert take() == []

    def test_the_worker_of_a_running_one_is_told(self, put, take, call):
        put()
        (job,) = take()
        assert call(jobs.cancel, job.id).status == "doing"
        assert call(queue.heartbeat, "w", [job.id]) == {job.id}
        assert call(queue.cancelled, "w", job.id)
        assert call(jobs.get, job.id).status == "cancelled"

    def test_a_failure_after_the_request_is_the_cancellation(self, put, take, call):
        put()
        (job,) = take()
        call(jobs.cancel, job.id)
        assert call(queue.fail, "w", job.id, code="x", detail="", retry=AT_ONCE) == "cancelled"

    def test_a_lost_worker_does_not_bring_a_cancelled_job_back(self, put, take, call):
        put()
        (job,) = take(lease_seconds=1)
        call(jobs.cancel, job.id)
        assert call(queue.release_expired, now=after(2)).cancelled == (job.id,)

    def test_work_that_was_done_before_the_request_was_seen_counts(self, put, take, call):
        put()
        (job,) = take()
        call(jobs.cancel, job.id)
        assert call(queue.succeed, "w", job.id)

    def test_what_has_ended_cannot_be_cancelled(self, put, take, call):
        put()
        (job,) = take()
        call(queue.succeed, "w", job.id)
        with pytest.raises(JobNotCancellable):
            call(jobs.cancel, job.id)

    def test_cancelling_twice_is_no_error(self, put, call):
        job = put()
        call(jobs.cancel, job.id)
        assert call(jobs.cancel, job.id).status == "cancelled"

    def test_retry_starts_afresh(self, put, take, call):
        put(max_attempts=1)
        (job,) = take()
        call(queue.fail, "w", job.id, code="x", detail="y")
        again = call(jobs.retry, job.id, now=after(9))
        assert (again.status, again.attempts, again.error_code, again.finished_at) == ("todo", 0, None, None)
        (claimed,) = take(now=after(9))
        assert claimed.id == job.id
        call(jobs.cancel, job.id)
        call(queue.cancelled, "w", job.id)
        assert not call(jobs.retry, job.id).cancel_requested

    @pytest.mark.parametrize("end", ["todo", "doing", "succeeded"])
    def test_retry_is_for_what_failed(self, put, take, call, end):
        job = put()
        if end != "todo":
            take()
        if end == "succeeded":
            call(queue.succeed, "w", job.id)
        with pytest.raises(JobNotRetryable):
            call(jobs.retry, job.id)

    def test_retry_gives_the_live_job_of_the_same_key(self, put, call):
        first = put(dedup_key="k")
        call(jobs.cancel, first.id)
        second = put(dedup_key="k")
        assert call(jobs.retry, first.id).id == second.id
        assert call(jobs.get, first.id).status == "cancelled"

    def test_no_such_job(self, call):
        for function in (jobs.get, jobs.cancel, jobs.retry):
            with pytest.raises(JobNotFound):
                call(function, "0" * 32)


class TestLooking:
    def test_pages_newest_first_and_filtered(self, put, call):
        ids = [
            put("build" if number == 2 else "ingest", now=after(number // 2), document_id=number).id
            for number in range(5)
        ]
        seen, cursor = [], None
        while True:
            page = call(jobs.list_page, limit=2, cursor=cursor)
            seen += [(job.created_at, job.id) for job in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == sorted(seen, reverse=True)
        assert {job_id for _, job_id in seen} == set(ids)
        assert [job.id for job in call(jobs.list_page, kind="build").items] == [ids[2]]
        assert [job.id for job in call(jobs.list_page, document_id=3).items] == [ids[3]]
        assert call(jobs.list_page, status="doing").items == []
        with pytest.raises(CursorError):
            call(jobs.list_page, cursor="x")

    def test_counts_and_the_age_of_the_oldest(self, put, take, call):
        assert call(jobs.oldest_waiting_seconds, now=NOW) == 0.0
        put(now=after(-30))
        put("build", now=after(-10))
        put(run_after=after(50))
        assert call(jobs.oldest_waiting_seconds, now=NOW) == 30.0
        assert call(jobs.oldest_waiting_seconds, kind="build", now=NOW) == 10.0
        take()
        assert call(jobs.counts) == {("ingest", "doing"): 1, ("ingest", "todo"): 1, ("build", "todo"): 1}

    def test_live_jobs_of_a_document(self, put, take, call):
        first, second = put(document_id=7), put(document_id=7, now=after(1))
        put(document_id=8)
        assert [job.id for job in call(jobs.live_jobs_of_document, 7)] == [first.id, second.id]

    def test_whether_anything_is_due(self, put, take, call):
        assert not call(queue.anything_due, now=NOW)
        put(run_after=after(5))
        assert not call(queue.anything_due, now=NOW)
        assert call(queue.anything_due, now=after(5))
        take(now=after(5), lease_seconds=10)
        assert not call(queue.anything_due, now=after(6))
        assert call(queue.anything_due, now=after(16))


class TestRetryPolicy:
    def test_delays_grow_to_a_limit(self):
        policy = RetryPolicy(base_seconds=2, factor=4, max_seconds=100, jitter=0)
        assert [policy.delay_seconds(attempt) for attempt in (1, 2, 3, 4, 10_000)] == [2, 8, 32, 100, 100]

    def test_jitter_takes_off_a_part_and_a_seed_repeats_it(self):
        policy = RetryPolicy(jitter=0.5, seed=1)
        delays = [policy.delay_seconds(attempt) for attempt in range(1, 6)]
        assert delays == [RetryPolicy(jitter=0.5, seed=1).delay_seconds(attempt) for attempt in range(1, 6)]
        for delay, full in zip(delays, (2, 8, 32, 128, 512), strict=True):
            assert full / 2 <= delay <= full


class QueueMachine(RuleBasedStateMachine):
    """The queue against a model of a few lines; `sessions` is set by the test."""

    sessions = None
    WORKERS = st.sampled_from(["w1", "w2"])
    KINDS = st.lists(st.sampled_from(["a", "b"]), min_size=1, unique=True)

    @initialize()
    def start(self):
        self.now = NOW
        self.model = {}
        with self.sessions.begin() as session:
            session.execute(delete(JobRow))

    def call(self, function, *arguments, **others):
        with self.sessions.begin() as session:
            return function(session, *arguments, now=self.now, **others)

    def pick(self, data, *statuses):
        ids = sorted(
            job_id for job_id, job in self.model.items() if not statuses or job["status"] in statuses
        )
        return data.draw(st.sampled_from(ids)) if ids else None

    def held(self, worker):
        return [i for i, job in self.model.items() if job["status"] == "doing" and job["worker"] == worker]

    @rule(
        kind=st.sampled_from(["a", "b"]),
        document=st.sampled_from([None, 1, 2]),
        key=st.sampled_from([None, "k", "l"]),
        priority=st.integers(0, 2),
        delay=st.sampled_from([0, 5]),
    )
    def enqueue(self, kind, document, key, priority, delay):
        made = self.call(
            jobs.enqueue,
            kind,
            document_id=document,
            dedup_key=key,
            priority=priority,
            max_attempts=2,
            run_after=self.now + timedelta(seconds=delay),
        )
        twins = [
            i
            for i, job in self.model.items()
            if key and job["key"] == key and job["status"] in jobs.LIVE and not job["asked"]
        ]
        assert made.is_new == (not twins)
        if twins:
            assert made.job.id == twins[0]
            return
        for job in self.model.values():
            if key and job["key"] == key and job["status"] == "doing":
                job["key"] = None
        self.model[made.job.id] = {
            "kind": kind, "document": document, "key": key, "status": "todo", "worker": None, "attempts": 0,
            "order": (priority, self.now, made.job.id), "run_after": self.now + timedelta(seconds=delay),
            "asked": False, "lease": None,
        }  # fmt: skip

    @rule(worker=WORKERS, kinds=KINDS, limit=st.integers(1, 3))
    def claim(self, worker, kinds, limit):
        busy = {job["document"] for job in self.model.values() if job["status"] == "doing"} - {None}
        expected = []
        for job_id, job in sorted(self.model.items(), key=lambda item: item[1]["order"]):
            due = job["status"] == "todo" and job["run_after"] <= self.now and job["kind"] in kinds
            if due and job["document"] not in busy and len(expected) < limit:
                expected.append(job_id)
                busy |= {job["document"]} - {None}
        claimed = self.call(queue.claim, worker, kinds, limit=limit, lease_seconds=10)
        assert [job.id for job in claimed] == expected
        for job_id in expected:
            job = self.model[job_id]
            job |= {"status": "doing", "worker": worker, "attempts": job["attempts"] + 1}
            job["lease"] = self.now + timedelta(seconds=10)

    @rule(seconds=st.sampled_from([1, 5, 10]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule(worker=WORKERS)
    def heartbeat(self, worker):
        asked = {job_id for job_id in self.model if job_id not in self.held(worker)}
        asked |= {job_id for job_id in self.held(worker) if self.model[job_id]["asked"]}
        assert self.call(queue.heartbeat, worker, list(self.model), lease_seconds=10) == asked
        for job_id in self.held(worker):
            self.model[job_id]["lease"] = self.now + timedelta(seconds=10)

    @rule(worker=WORKERS, data=st.data())
    def succeed(self, worker, data):
        job_id = self.pick(data)
        if job_id is not None:
            is_held = job_id in self.held(worker)
            assert self.call(queue.succeed, worker, job_id) == is_held
            if is_held:
                self.model[job_id]["status"] = "succeeded"

    @rule(worker=WORKERS)
    def succeed_all(self, worker):
        held = set(self.held(worker))
        assert self.call(queue.succeed_all, worker, list(self.model)) == held
        for job_id in held:
            self.model[job_id]["status"] = "succeeded"

    @rule(worker=WORKERS, retryable=st.booleans(), data=st.data())
    def fail(self, worker, retryable, data):
        job_id = self.pick(data)
        if job_id is None:
            return
        job, is_held = self.model[job_id], job_id in self.held(worker)
        status = self.call(
            queue.fail, worker, job_id, code="x", detail="", retry=AT_ONCE if retryable else None
        )
        if not is_held:
            assert status is None
            return
        again = "todo" if retryable and job["attempts"] < 2 else "failed"
        job["status"] = "cancelled" if job["asked"] else again
        job["run_after"] = self.now if job["status"] == "todo" else job["run_after"]
        assert status == job["status"]

    @rule(data=st.data())
    def cancel(self, data):
        job_id = self.pick(data, "todo", "doing")
        if job_id is not None:
            job = self.model[job_id]
            job["asked"] = True
            job["status"] = "cancelled" if job["status"] == "todo" else "doing"
            assert self.call(jobs.cancel, job_id).status == job["status"]

    @rule(data=st.data())
    def retry(self, data):
        job_id = self.pick(data, "failed", "cancelled")
        if job_id is None:
            return
        job = self.model[job_id]
        live = [
            i
            for i, other in self.model.items()
            if job["key"] and other["key"] == job["key"] and other["status"] in jobs.LIVE
        ]
        assert self.call(jobs.retry, job_id).id == (live[0] if live else job_id)
        if not live:
            job |= {"status": "todo", "attempts": 0, "asked": False, "run_after": self.now}

    @rule()
    def release_expired(self):
        lost = {i for i, job in self.model.items() if job["status"] == "doing" and job["lease"] < self.now}
        released = self.call(queue.release_expired)
        assert {*released.todo, *released.failed, *released.cancelled} == lost
        for job_id in lost:
            job = self.model[job_id]
            job["status"] = "cancelled" if job["asked"] else "failed" if job["attempts"] >= 2 else "todo"
            job["run_after"] = self.now

    @rule(worker=WORKERS)
    def release_worker(self, worker):
        held = self.held(worker)
        self.call(queue.release_worker, worker)
        for job_id in held:
            job = self.model[job_id]
            job |= {"status": "cancelled" if job["asked"] else "todo", "attempts": job["attempts"] - 1}
            job["run_after"] = self.now

    @invariant()
    def the_rows_are_as_the_model_says(self):
        with self.sessions() as session:
            rows = session.execute(select(JobRow.id, JobRow.status, JobRow.attempts)).all()
        expected = {(job_id, job["status"], job["attempts"]) for job_id, job in self.model.items()}
        assert {tuple(row) for row in rows} == expected


def test_the_queue_behaves_as_its_model(database, sessions):
    machine = type("Machine", (QueueMachine,), {"sessions": sessions})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25 if database == "sqlite" else 10,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


FAULTS: dict[threading.Thread, list[BaseException]] = {}


def start_all(threads):
    """Start threads whose faults `join_all` will give."""
    for thread in threads:
        faults = FAULTS[thread] = []
        thread.run = partial(_guarded, thread.run, faults)
        thread.start()


def join_all(threads):
    """Wait for the threads, and give what they raised."""
    for thread in threads:
        thread.join()
    return [fault for thread in threads for fault in FAULTS.pop(thread)]


def run_all(threads):
    start_all(threads)
    assert join_all(threads) == []


def _guarded(run, faults):
    try:
        run()
    except BaseException as exc:
        faults.append(exc)
