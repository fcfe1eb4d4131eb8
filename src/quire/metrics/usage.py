"""Who used what: tokens, requests and latency by the name of the API key.

A key's name is what the operator called it; the key itself never comes here. A bounded number of
names is told apart, so that a scrape stays small whatever is configured.
"""

from quire.metrics import buckets
from quire.metrics.finished import FinishedRequest
from quire.metrics.instruments import Histogram, Instruments, Value

NO_KEY = "none"  # the server asks for no key
OTHER = "other"  # every name past the bound


class _Key:
    """One name's counters."""

    __slots__ = ("cached", "generation", "latency", "prompt", "requests")

    def __init__(
        self, requests: Value, prompt: Value, cached: Value, generation: Value, latency: Histogram
    ) -> None:
        self.requests = requests
        self.prompt = prompt
        self.cached = cached
        self.generation = generation
        self.latency = latency


class KeyUsage:
    """Counters by key name.

    Args:
        instruments: where the families are made.
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
        self._keys: dict[str, _Key] = {}

    def finished(self, request: FinishedRequest) -> None:
        """Count a request that has ended, however it ended."""
        key = self._key(request.key_name or NO_KEY)
        key.requests.value += 1
        key.generation.value += request.total_generation_tokens
        key.latency.observe(request.e2e)
        if request.prompt_computed:
            key.prompt.value += request.prompt_tokens
            key.cached.value += request.cached_tokens

    def _key(self, name: str) -> _Key:
        found = self._keys.get(name)
        if found is not None:
            return found
        if len(self._keys) >= self._max_names and name != OTHER:
            return self._key(OTHER)
        found = self._keys[name] = _Key(
            self._requests.labels(name),
            self._prompt.labels(name),
            self._cached.labels(name),
            self._generation.labels(name),
            self._latency.labels(name),
        )
        return found
