"""The price table that comes with the genai-prices package: data of its release, no network, no thread."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Final

from genai_prices import Usage as Tokens
from genai_prices import calc_price

from anabranch_gateway.application.pricing import Prices
from anabranch_gateway.domain.answers import Usage
from anabranch_gateway.domain.costs import Rates
from anabranch_observability import counter, get_logger
from anabranch_observability.names import gateway as names

log = get_logger()

# Which provider's names a backend's models bear. Others run what anyone may run, at a price only its operator knows.
_PROVIDERS: Final = {"openai": "openai"}
# Weights that anyone may serve: the name does not say who is paid.
_OPEN_WEIGHTS: Final = ("gpt-oss",)


class PackagedPrices:
    """The PriceTable port on genai-prices."""

    def of(self, backend: str, model: str, usage: Usage) -> int | None:
        """See the port. Prices that depend on the hour or the prompt's length are as of now and of this prompt."""
        provider = _PROVIDERS.get(backend)
        if provider is None or not model or model.lower().startswith(_OPEN_WEIGHTS):
            return None
        tokens = Tokens(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens)
        try:
            found = calc_price(tokens, model_ref=model, provider_id=provider)
        except (LookupError, ValueError):
            return None
        return micros(found.total_price)


def prices_with(rates: Rates) -> Prices:
    """Prices, ready for use: the operator's `rates`, then the packaged table; unknown models are logged once."""
    return Prices(rates=rates, table=PackagedPrices(), unknown=tell_unknown)


def micros(dollars: Decimal) -> int:
    """Whole millionths, rounded up."""
    return int((dollars * 1_000_000).to_integral_value(rounding=ROUND_CEILING))


def tell_unknown(backend: str, model: str) -> None:
    """Says once that a model has no price."""
    counter(names.UNPRICED_MODELS).labels(backend=backend).inc()
    advice = "set one: anabranch price set"
    log.warning(names.Log.PRICE_UNKNOWN, backend=backend, model=model, advice=advice)
