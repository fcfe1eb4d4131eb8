"""A body's fields to `SamplingParams`, and the refusal of what is not supported."""

import math
from typing import Any

from quire.core.errors import RequestError
from quire.core.sampling_params import WITH_DEFAULTS, RepetitionDetection, SamplingParams
from quire.server.config import ServerConfig
from quire.server.errors import APIError, refused
from quire.server.protocol.common import GenerationBody, RepetitionBody

MAX_TEMPERATURE = 2.0
MAX_CACHE_SALT = 128
_SALT_FORBIDDEN = "@/\\\0"

# Known parameters that are not supported -> the values that ask for nothing.
_REFUSED: dict[str, tuple[object, ...]] = {
    "logprob_token_ids": (None, []),
    "prompt_embeds": (None,),
    "mm_processor_kwargs": (None, {}),
    "media_io_kwargs": (None, {}),
    "kv_transfer_params": (None, {}),
    "ec_transfer_params": (None, {}),
    "vllm_xargs": (None, {}),
    "watermarking": (None, False, {}),
    "routed_experts_prompt_start": (None,),
    "return_weight_versions": (None, False),
    "thinking_token_budget": (None, -1),
    "logits_processors": (None, []),
    "functions": (None, []),
    "function_call": (None, "none"),
}
_REMEDIES = {
    "functions": "use tools",
    "function_call": "use tool_choice",
}


def check_body(body: GenerationBody, config: ServerConfig, num_prompts: int = 1) -> None:
    """Everything about a body that needs no tokenizer, before any work.

    Raises:
        APIError, RequestError: naming the field.
    """
    extra = body.model_extra or {}
    for name, nothing in _REFUSED.items():
        if name in extra and extra[name] not in nothing:
            raise refused(name, _REMEDIES.get(name, "leave it out"))
    if extra.get("best_of") not in (None, 1, body.n):
        raise refused("best_of", "use n")
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options needs stream=true", "stream_options")
    if isinstance(body.stop, list) and len(body.stop) > config.max_stop_strings:
        what = f"List should have at most {config.max_stop_strings} items, got {len(body.stop)}"
        raise APIError(400, f"1 validation error:\n  body.stop: {what}", param="body.stop")
    if num_prompts > config.max_prompts:
        raise RequestError(
            f"prompt holds {num_prompts} prompts, the limit is {config.max_prompts};"
            " send them in several requests",
            "prompt",
        )
    _check_count(body.n, num_prompts, config)
    if body.stream and body.prompt_logprobs is not None:
        raise RequestError("prompt_logprobs is not available with stream=true", "prompt_logprobs")
    if body.truncation_side not in (None, "left", "right"):
        raise RequestError(
            "truncation_side must be 'left' or 'right'", "truncation_side", body.truncation_side
        )
    check_cache_salt(body.cache_salt)


def _check_count(n: int | None, num_prompts: int, config: ServerConfig) -> None:
    count = 1 if n is None else n
    if count < 1:
        raise RequestError("n must be at least 1", "n", n)
    if count * num_prompts > config.max_sequences:
        raise RequestError(
            f"n={count} of {num_prompts} prompts are more than {config.max_sequences} sequences",
            "n",
            n,
        )


def check_cache_salt(salt: str | None) -> None:
    """Refuse a salt that is empty, too long, or could be part of another's.

    Raises:
        RequestError: naming the rule.
    """
    if salt is None:
        return
    if not salt or len(salt) > MAX_CACHE_SALT or any(c in salt for c in _SALT_FORBIDDEN):
        raise RequestError(
            f"cache_salt must have 1 to {MAX_CACHE_SALT} characters and none of '@', '/', '\\'"
            " and NUL",
            "cache_salt",
        )


def sampling_params(
    body: GenerationBody,
    defaults: dict[str, float | int],
    *,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
    **more: Any,
) -> SamplingParams:
    """What a body asks for.

    Args:
        defaults: the model's generation defaults, by SamplingParams' names.
        more: SamplingParams fields that only one endpoint has.

    Raises:
        RequestError: a value is out of its range.
    """
    if body.temperature is not None and not 0 <= body.temperature <= MAX_TEMPERATURE:
        raise RequestError(
            f"temperature must be in [0, {MAX_TEMPERATURE:g}]", "temperature", body.temperature
        )
    chosen: dict[str, Any] = {}
    for name in WITH_DEFAULTS:
        value = getattr(body, name)
        if value is None:
            value = defaults.get(name)
        if value is not None:
            chosen[name] = value
    return SamplingParams(
        n=1 if body.n is None or body.use_beam_search else body.n,
        **chosen,
        seed=body.seed,
        stop=body.stop,
        stop_token_ids=body.stop_token_ids,
        ignore_eos=body.ignore_eos,
        max_tokens=max_tokens,
        min_tokens=body.min_tokens,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        skip_special_tokens=body.skip_special_tokens,
        spaces_between_special_tokens=body.spaces_between_special_tokens,
        include_stop_str_in_output=body.include_stop_str_in_output,
        logit_bias=_logit_bias(body.logit_bias),
        allowed_token_ids=body.allowed_token_ids,
        bad_words=body.bad_words,
        repetition_detection=_repetition(body.repetition_detection),
        **more,
    )


def _repetition(given: RepetitionBody | None) -> RepetitionDetection | None:
    if given is None:
        return None
    return RepetitionDetection(
        max_pattern_size=given.max_pattern_size,
        min_pattern_size=given.min_pattern_size,
        min_count=given.min_count,
    )


def _logit_bias(given: dict[str, float] | None) -> dict[int, float] | None:
    if not given:
        return None
    biases = {}
    for token, bias in given.items():
        if math.isnan(bias):
            raise RequestError("logit_bias must hold numbers", "logit_bias", bias)
        try:
            biases[int(token)] = bias
        except ValueError:
            raise RequestError("logit_bias must map token ids", "logit_bias", token) from None
    return biases


def check_max_tokens(name: str, value: int | None, max_model_len: int) -> None:
    """Refuse what no prompt could leave room for.

    Raises:
        APIError: naming the parameter as the client wrote it.
    """
    if value is not None and value > max_model_len:
        raise APIError(
            400,
            f"{name}={value} cannot be greater than max_model_len={max_model_len}."
            f" Please request fewer output tokens. (parameter={name}, value={value})",
            "BadRequestError",
            name,
        )
