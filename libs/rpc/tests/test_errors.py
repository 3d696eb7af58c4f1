"""Faults become statuses and come back as the faults they were."""

from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from anabranch_faults import (
    Conflict,
    Denied,
    Fault,
    Invalid,
    NotFound,
    Overloaded,
    TooLarge,
    Transient,
    Unauthenticated,
    Unreachable,
)
from anabranch_rpc import CODES, fault_from, status_of

LAWFUL = (Invalid, NotFound, Conflict, TooLarge, Denied, Unauthenticated)
PASSING = (Transient, Overloaded, Unreachable)


def over_the_wire(error: BaseException, **options: Any) -> Fault:
    status = status_of(error, **options)
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", status.details)) if status.details else grpc.aio.Metadata()
    return fault_from(grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), trailing, status.message))


@given(
    st.sampled_from(LAWFUL),
    st.text(min_size=1, max_size=50),
    st.text("abc.[]0", max_size=20),
    st.text("ABC_", max_size=20),
)
def test_an_invalid_request_comes_back_as_it_was_raised(
    kind: type[Invalid], problem: str, field: str, reason: str
) -> None:
    back = over_the_wire(kind(problem, field=field, reason=reason))
    assert type(back) is kind
    assert (back.problem, back.field) == (problem, field)
    assert back.reason == (reason or status_reason(kind))


def status_reason(kind: type[Fault]) -> str:
    return {"NotFound": "NOT_FOUND", "TooLarge": "TOO_LARGE"}.get(kind.__name__, kind.__name__.upper())


@given(st.sampled_from(PASSING), st.integers(min_value=1, max_value=10_000_000))
def test_a_transient_fault_comes_back_with_its_delay(kind: type[Transient], microseconds: int) -> None:
    after = timedelta(microseconds=microseconds)
    back = over_the_wire(kind("later", retry_after=after))
    assert type(back) is kind
    assert back.retry_after == after


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Invalid("x"), StatusCode.INVALID_ARGUMENT),
        (TooLarge("x"), StatusCode.INVALID_ARGUMENT),
        (NotFound("x"), StatusCode.NOT_FOUND),
        (Conflict("x"), StatusCode.ABORTED),
        (Denied("x"), StatusCode.PERMISSION_DENIED),
        (Unauthenticated("x"), StatusCode.UNAUTHENTICATED),
        (Transient("x"), StatusCode.UNAVAILABLE),
        (Overloaded("x"), StatusCode.UNAVAILABLE),
        (Unreachable("x"), StatusCode.UNAVAILABLE),
        (TimeoutError("x"), StatusCode.DEADLINE_EXCEEDED),
        (Fault("x"), StatusCode.INTERNAL),
        (KeyError("x"), StatusCode.INTERNAL),
    ],
)
def test_each_fault_has_one_code(error: Exception, code: StatusCode) -> None:
    assert status_of(error).code is code


def test_the_nearest_class_of_an_extended_table_wins() -> None:
    class Gone(NotFound):
        pass

    class VeryGone(Gone):
        pass

    table = {**CODES, Gone: StatusCode.FAILED_PRECONDITION}
    assert status_of(VeryGone("x"), table).code is StatusCode.FAILED_PRECONDITION
    assert status_of(NotFound("x"), table).code is StatusCode.NOT_FOUND
    assert type(over_the_wire(VeryGone("x"), errors=table)) is NotFound


def test_an_error_of_the_service_itself_may_have_a_row_in_the_table() -> None:
    class QueueIsFull(Exception):  # noqa: N818  a name as a service might choose it
        pass

    back = over_the_wire(QueueIsFull("try later"), errors={**CODES, QueueIsFull: StatusCode.UNAVAILABLE})
    assert type(back) is Unreachable
    assert back.problem == "try later"
    assert back.retry_after == timedelta(seconds=1)


def test_a_bug_tells_its_id_and_nothing_else() -> None:
    status = status_of(ValueError("the password is swordfish"))
    assert status.message == f"internal error {status.error_id}"
    assert not status.details
    assert type(over_the_wire(ValueError("x"))) is Fault


def test_a_failed_call_to_another_service_is_relayed_as_the_fault_it_stands_for() -> None:
    status = status_of(Overloaded("full", retry_after=timedelta(seconds=3)))
    nested = grpc.aio.AioRpcError(
        status.code,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", status.details)),
        status.message,
    )
    back = over_the_wire(nested)
    assert type(back) is Overloaded
    assert back.retry_after == timedelta(seconds=3)


def test_a_long_problem_is_cut_to_what_trailing_metadata_can_carry() -> None:
    status = status_of(Invalid("x" * 100_000, field="f" * 10_000))
    assert len(status.message) <= 1_000
    assert len(status.details) < 4_000


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (StatusCode.UNAVAILABLE, Unreachable),
        (StatusCode.DEADLINE_EXCEEDED, Transient),
        (StatusCode.RESOURCE_EXHAUSTED, TooLarge),
        (StatusCode.ALREADY_EXISTS, Conflict),
        (StatusCode.UNIMPLEMENTED, Invalid),
        (StatusCode.INTERNAL, Fault),
        (StatusCode.UNKNOWN, Fault),
    ],
)
def test_statuses_of_other_servers_have_a_meaning_too(code: StatusCode, kind: type[Fault]) -> None:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "whatever")
    assert type(fault_from(error)) is kind


def test_details_that_nobody_can_read_do_not_hide_the_status() -> None:
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff\xff"))
    error = grpc.aio.AioRpcError(StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailing, "no such thing")
    assert type(fault_from(error)) is NotFound
