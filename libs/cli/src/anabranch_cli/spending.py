"""`anabranch cost`, `quota` and `price`: what was spent, what may be, and what models cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from anabranch.registry.v1 import cost_service_pb2 as pb
from anabranch.registry.v1 import cost_service_pb2_grpc as pb_grpc
from anabranch.registry.v1 import quotas_pb2 as quotas
from anabranch_cli.connection import data_option, platform
from anabranch_cli.internal import author, calls
from anabranch_cli.money import amount, dollars, micros, moment_before, windowed
from anabranch_cli.output import DONE, console, emit, json_option, note

DIMENSIONS: Final = ("tenant", "key", "user", "variant", "model", "day", "purpose")


@click.command()
@click.option("--by", "by_", multiple=True, required=True, help=f"{', '.join(DIMENSIONS)}; repeat for up to three.")
@click.option("--since", default="7d", show_default=True, help="How long ago (24h, 7d), or a day (2026-11-21).")
@click.option("--until", help="As --since. Default: now.")
@click.option("--tenant", default="", help="Only of this tenant. Default: all.")
@data_option
@json_option
def cost(*, by_: tuple[str, ...], since: str, until: str | None, tenant: str, data: Path | None, as_json: bool) -> int:
    """Add up what models cost, dearest first. Whole hours count."""
    by = [word for each in by_ for word in each.split(",")]
    for word in by:
        if word not in DIMENSIONS:
            raise click.UsageError(f"--by {word!r} is none of {', '.join(DIMENSIONS)}")
    now = datetime.now(UTC)
    first, last = moment_before(since, now), moment_before(until, now) if until else now
    request = pb.GetCostsRequest(by=[pb.CostDimension.Value(f"COST_DIMENSION_{word.upper()}") for word in by])
    request.tenant = tenant
    request.since.FromDatetime(first)
    request.until.FromDatetime(last)
    with calls(platform(data), "registry", pb_grpc.CostServiceStub) as costs:
        found = costs.GetCosts(request)
    report = {
        "by": by,
        "since": first.isoformat(),
        "until": last.isoformat(),
        "rows": [dict(zip(by, row.group, strict=True)) | sums(row) for row in found.rows],
        "total": sums(found.total),
        "left_out": int(found.left_out),
    }
    emit(report, as_json=as_json, human=lambda: show(report))
    if found.total.unpriced_calls:
        note(
            f"{found.total.unpriced_calls:,} of {found.total.calls:,} calls have no known price, and are in no sum: "
            "`anabranch price set` says what a model costs, from then on"
        )
    return DONE


def sums(row: pb.CostRow) -> dict[str, Any]:
    """As JSON; a cost that nobody knows is null, and never nothing."""
    known = row.calls == 0 or row.unpriced_calls < row.calls
    return {
        "calls": int(row.calls),
        "unpriced_calls": int(row.unpriced_calls),
        "prompt_tokens": int(row.prompt_tokens),
        "completion_tokens": int(row.completion_tokens),
        "cost_micros": int(row.cost_micros) if known else None,
        "cost_usd": row.cost_micros / 1_000_000 if known else None,
    }


def show(report: dict[str, Any]) -> None:
    """For people."""
    table = Table(box=None, pad_edge=False)
    for word in report["by"]:
        table.add_column(word)
    for word in ("calls", "prompt tokens", "completion tokens", "cost"):
        table.add_column(word, justify="right")
    for row in [*report["rows"], dict.fromkeys(report["by"], "") | {report["by"][0]: "all"} | report["total"]]:
        table.add_row(
            *(row[word] or "-" for word in report["by"]),
            f"{row['calls']:,}",
            f"{row['prompt_tokens']:,}",
            f"{row['completion_tokens']:,}",
            paid(row),
        )
    console.print(table, markup=False)
    if report["left_out"]:
        console.print(f"  and {report['left_out']:,} more", markup=False)


def paid(row: dict[str, Any]) -> str:
    """What it cost: with a `+` where there is more that nobody knows."""
    if row["cost_micros"] is None:
        return "unknown"
    return dollars(row["cost_micros"]) + ("+" if row["unpriced_calls"] else "")


@click.group()
def quota() -> None:
    """What tenants, keys, sessions and users may spend and ask."""


@quota.command(name="set")
@click.argument("subject")
@click.option(
    "--hard", multiple=True, metavar="WINDOW=DOLLARS", help="Never more than this, such as 1d=5.00. Repeatable."
)
@click.option("--soft", multiple=True, metavar="WINDOW=DOLLARS", help="An event when it is passed. Repeatable.")
@click.option("--requests", type=click.IntRange(0), help="A minute.")
@click.option("--tokens", type=click.IntRange(0), help="A minute.")
@click.option("--in-flight", type=click.IntRange(0), help="At once.")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def set_quota(
    *,
    subject: str,
    hard: tuple[str, ...],
    soft: tuple[str, ...],
    requests: int | None,
    tokens: int | None,
    in_flight: int | None,
    reason: str,
    data: Path | None,
    as_json: bool,
) -> int:
    """Set the whole quota of SUBJECT: what is not given is not bounded.

    SUBJECT is `*`, TENANT, TENANT/keys/KEY_ID, or for each one TENANT/keys, TENANT/sessions, TENANT/users.
    """
    budgets: dict[timedelta, quotas.Budget] = {}
    for given, name in ((hard, "hard_micros"), (soft, "soft_micros")):
        for window, most in map(windowed, given):
            setattr(budgets.setdefault(window, quotas.Budget()), name, most)
    wanted = quotas.QuotaChanged(
        subject=subject,
        limits=quotas.Limits(requests_per_minute=requests, tokens_per_minute=tokens, in_flight=in_flight),
        author=author(),
        reason=reason,
    )
    for window, budget in sorted(budgets.items()):
        budget.window.FromTimedelta(window)
        wanted.budgets.append(budget)
    with calls(platform(data), "registry", pb_grpc.CostServiceStub) as costs:
        present = costs.ListQuotas(pb.ListQuotasRequest()).quotas
        wanted.revision = next((each.revision for each in present if each.subject == subject), 0)
        changed = costs.SetQuota(pb.SetQuotaRequest(quota=wanted)).quota
    emit(of_quota(changed), as_json=as_json, human=lambda: show_quota(of_quota(changed)))
    return DONE


@quota.command(name="ls")
@data_option
@json_option
def list_quotas(*, data: Path | None, as_json: bool) -> int:
    """List all quotas."""
    with calls(platform(data), "registry", pb_grpc.CostServiceStub) as costs:
        found = [of_quota(each) for each in costs.ListQuotas(pb.ListQuotasRequest()).quotas]

    def human() -> None:
        for each in found:
            show_quota(each)

    emit({"quotas": found}, as_json=as_json, human=human)
    return DONE


def of_quota(message: quotas.QuotaChanged) -> dict[str, Any]:
    """As JSON: null is no bound."""
    limits = message.limits
    return {
        "subject": message.subject,
        "revision": int(message.revision),
        "budgets": [
            {
                "window": amount(each.window.ToTimedelta()),
                "soft_micros": int(each.soft_micros) or None,
                "hard_micros": int(each.hard_micros) if each.HasField("hard_micros") else None,
            }
            for each in message.budgets
        ],
        "limits": {
            name: int(getattr(limits, name)) if limits.HasField(name) else None
            for name in ("requests_per_minute", "tokens_per_minute", "in_flight")
        },
        "author": message.author,
        "reason": message.reason,
        "changed_at": message.changed_at.ToDatetime(tzinfo=UTC).isoformat(),
    }


def show_quota(found: dict[str, Any]) -> None:
    """One line."""
    parts = []
    for each in found["budgets"]:
        soft = f"{dollars(each['soft_micros'])} soft" if each["soft_micros"] else ""
        hard = f"{dollars(each['hard_micros'])} hard" if each["hard_micros"] is not None else ""
        parts.append(f"{each['window']}: {', '.join(one for one in (hard, soft) if one)}")
    parts += [f"{name.replace('_', ' ')}: {most:,}" for name, most in found["limits"].items() if most is not None]
    console.print(f"  {found['subject']:<24} {'; '.join(parts) or 'no bounds'}", markup=False)


@click.group()
def price() -> None:
    """What models cost, where the price table does not know or you pay something else."""


BACKEND = click.option("--backend", default="*", show_default=True, help="Generation backend; *: any.")
PER = "Dollars for a million tokens."


@price.command(name="set")
@click.argument("model")
@BACKEND
@click.option("--prompt", required=True, metavar="DOLLARS", help=PER)
@click.option("--completion", required=True, metavar="DOLLARS", help=PER)
@click.option("--request", "each", default="0", metavar="DOLLARS", help="For each request.")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def set_price(
    *,
    model: str,
    backend: str,
    prompt: str,
    completion: str,
    each: str,
    reason: str,
    data: Path | None,
    as_json: bool,
) -> int:
    """Say what MODEL costs; with * at its end, all whose names begin so."""
    wanted = quotas.PriceChanged(
        backend=backend,
        model=model,
        prompt_micros=micros(prompt),
        completion_micros=micros(completion),
        request_micros=micros(each),
        author=author(),
        reason=reason,
    )
    return changed_price(wanted, data=data, as_json=as_json)


@price.command()
@click.argument("model")
@BACKEND
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def withdraw(*, model: str, backend: str, reason: str, data: Path | None, as_json: bool) -> int:
    """Take your own price of MODEL back: the price table's holds again."""
    wanted = quotas.PriceChanged(backend=backend, model=model, withdrawn=True, author=author(), reason=reason)
    return changed_price(wanted, data=data, as_json=as_json)


def changed_price(wanted: quotas.PriceChanged, *, data: Path | None, as_json: bool) -> int:
    """Sets it, whatever it was before."""
    with calls(platform(data), "registry", pb_grpc.CostServiceStub) as costs:
        for each in costs.ListPrices(pb.ListPricesRequest()).prices:
            if (each.backend, each.model) == (wanted.backend, wanted.model):
                wanted.revision = each.revision
        changed = costs.SetPrice(pb.SetPriceRequest(price=wanted)).price
    emit(of_price(changed), as_json=as_json, human=lambda: show_price(of_price(changed)))
    return DONE


@price.command(name="ls")
@data_option
@json_option
def list_prices(*, data: Path | None, as_json: bool) -> int:
    """List your own prices."""
    with calls(platform(data), "registry", pb_grpc.CostServiceStub) as costs:
        found = [of_price(each) for each in costs.ListPrices(pb.ListPricesRequest()).prices]

    def human() -> None:
        for each in found:
            show_price(each)

    emit({"prices": found}, as_json=as_json, human=human)
    return DONE


def of_price(message: quotas.PriceChanged) -> dict[str, Any]:
    """As JSON."""
    return {
        "backend": message.backend,
        "model": message.model,
        "prompt_micros": int(message.prompt_micros),
        "completion_micros": int(message.completion_micros),
        "request_micros": int(message.request_micros),
        "withdrawn": message.withdrawn,
        "revision": int(message.revision),
        "author": message.author,
        "reason": message.reason,
        "changed_at": message.changed_at.ToDatetime(tzinfo=UTC).isoformat(),
    }


def show_price(found: dict[str, Any]) -> None:
    """One line."""
    said = (
        "withdrawn"
        if found["withdrawn"]
        else f"{dollars(found['prompt_micros'])} / {dollars(found['completion_micros'])} for a million tokens"
        + (f", {dollars(found['request_micros'])} a request" if found["request_micros"] else "")
    )
    console.print(f"  {found['backend']}/{found['model']}  {said}", markup=False)
