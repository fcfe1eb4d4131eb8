"""Who used what: tokens, requests and latency by the name of the API key.

A key's name is what the operator called it; the key itself never comes here. A bounded number of
names is told apart, so that a scrape stays small whatever is configured.
"""

from quire.metrics import buckets
from quire.metrics.finished import FinishedRequest
from quire.metrics.instruments import Instruments

NO_KEY = "none"  # the server asks for no key
OTHER = "other"  # every name past the bound


class KeyUsage:
    """Counters by key name.

    Args:
        max_names: names told apart; those that come later are counted together as "other".
    """

    def __init__(self, instruments: Instruments, max_names: int) -> None:
        label = ("api_key_name",)
        counter = instruments.counter
        self._requests = counter("usage_requests", "Ended requests by API key name.", label)
        self._prompt = counter("usage_prompt_tokens", "Prompt tokens by API key name.", label)
        self._cached = counter(
            "usage_prompt_tokens_cached",
            "Prompt tokens found in the prefix cache, by API key name.",
            label,
        )
        self._generation = counter(
            "usage_generation_tokens", "Generated tokens by API key name.", label
        )
        self._latency = instruments.histogram(
            "usage_request_latency_seconds",
            "From arrival to end of a request, by API key name.",
            buckets.KEY_LATENCY,
            label,
        )
        self._max_names = max_names
        self._names: set[str] = set()

    def finished(self, request: FinishedRequest) -> None:
        name = request.key_name or NO_KEY
        if name not in self._names and len(self._names) >= self._max_names:
            name = OTHER
        self._names.add(name)
        computed = request.prompt_computed
        self._requests.labels(name).value += 1
        self._generation.labels(name).value += request.total_generation_tokens
        self._latency.labels(name).observe(request.e2e)
        self._prompt.labels(name).value += request.prompt_tokens if computed else 0
        self._cached.labels(name).value += request.cached_tokens if computed else 0
