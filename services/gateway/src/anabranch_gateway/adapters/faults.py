"""What a failed call to another service means to our caller."""

from __future__ import annotations

from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch_faults import Fault, Invalid, NotFound
from anabranch_rpc import fault_from


def meaning(error: AioRpcError) -> Exception:
    """The exception to raise from a failed call.

    Deadlines stay deadlines. A request that we had checked and the other service calls invalid is a fault of the
    platform (of a variant's settings, most likely), not of whoever asked: it becomes a plain Fault, which tells the
    caller nothing and the log everything. Only NotFound is the caller's to know.
    """
    if error.code() is StatusCode.DEADLINE_EXCEEDED:
        return TimeoutError("the deadline passed")
    fault = fault_from(error)
    if isinstance(fault, Invalid) and not isinstance(fault, NotFound):
        return Fault(f"a request made by the gateway was refused: {fault}")
    return fault
