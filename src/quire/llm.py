"""LLM: the offline API. Prompts in, `RequestOutput`s out, in one process and one call.

Keywords are vLLM's. All prompts of a call are checked before any is run, so bad input costs no
other prompt its result. Calls from several threads run one after another.
"""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from quire.beam_search import beam_search, one_token
from quire.core import garbage
from quire.core.config import BOXED_MODEL, EngineConfig, engine_config
from quire.core.errors import (
    CheckpointError,
    ConfigError,
    EngineDeadError,
    ModelNotFoundError,
    NotYetSupportedError,
    QuireError,
    RequestError,
)
from quire.core.messages import AbortRequests, EngineStats, ModelInfo
from quire.core.outputs import (
    BeamSearchOutput,
    EmbeddingRequestOutput,
    PoolingRequestOutput,
    RequestOutput,
    ScoringRequestOutput,
)
from quire.core.pooling_params import PoolingParams, PoolingTask, task_of
from quire.core.sampling_params import BeamSearchParams, SamplingParams
from quire.engine.client import InProcessEngine
from quire.engine.frontend import RequestTracker, Update
from quire.engine.frontend_prompt import Prompt, PromptInput, one_or_many
from quire.engine.frontend_request import TrackedRequest
from quire.engine.interrupts import interrupts_between_steps
from quire.engine.tokenizer import open_tokenizer
from quire.llm_pooling import embedding_output, pair_up, pooling_output, scoring_output
from quire.llm_progress import BatchProgress, ProgressChoice
from quire.text.chat import ContentFormat, Message, render_chat
from quire.text.tokenizer import HFTokenizer, Tokenizer
from quire.weights.build import check_model

T = TypeVar("T")
Params = TypeVar("Params", bound=SamplingParams | PoolingParams)

_FORMATS = ("auto", "string", "openai")


class LLM:
    """A model, loaded and ready.

    Args:
        model: "boxed" (the small chat model in the package), a directory, or a Hub id.
        options: `EngineConfig`'s fields by vLLM's names (dtype, max_model_len, seed,
            gpu_memory_utilization, …). An unknown one is an error that names the nearest.

    Raises:
        QuireError: one line with the cause and the remedy, whatever is wrong with the model.

    Several may live in one process; `close()` (or the end of a `with` block) frees the memory.
    """

    def __init__(self, model: str = BOXED_MODEL, **options: Any) -> None:
        self._engine: InProcessEngine | None = None
        show_loading = bool(options.get("use_tqdm_on_load", True))
        self.config: EngineConfig = engine_config(model=model, **options)
        try:
            self._tokenizer = open_tokenizer(self.config)
        except (CheckpointError, ModelNotFoundError):
            check_model(self.config.model)  # what is wrong with a model comes before its tokenizer
            raise
        self._engine = InProcessEngine(self.config, progress=show_loading)
        garbage.collect_seldom()  # each looks at every token id of the prompts that come
        self._tracker = RequestTracker(
            self._tokenizer, self._engine.model_info, self.config.model.max_logprobs
        )
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._caller: int | None = None  # the thread that has the lock

    # --- generating ---

    def generate(
        self,
        prompts: PromptInput | Sequence[PromptInput] | None = None,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        prompt_token_ids: Sequence[int] | Sequence[Sequence[int]] | None = None,
        use_tqdm: ProgressChoice = True,
        lora_request: None = None,
        priority: Sequence[int] | None = None,
    ) -> list[RequestOutput]:
        """Continue each prompt.

        Args:
            prompts: a text, token ids, a dict with "prompt" or "prompt_token_ids", or a list of
                any of these.
            sampling_params: for all prompts, or one each; None takes the model's defaults.
            prompt_token_ids: instead of `prompts`, for older scripts.
            use_tqdm: show progress on a terminal; or a callable with tqdm's interface.
            priority: one number a prompt, lower runs first (with scheduling_policy="priority").

        Returns:
            One output a prompt, in order. One that failed on the way has finish_reason "error"
            and its cause in `error`; the others are complete.

        Raises:
            RequestError: a prompt or parameter is wrong. Nothing has run then.
        """
        _refuse_lora(lora_request)
        if prompts is None:
            prompts = prompt_token_ids
        elif prompt_token_ids is not None:
            raise RequestError("give prompts or prompt_token_ids, not both", "prompt_token_ids")
        if prompts is None:
            raise RequestError("generate() needs prompts", "prompts")
        requests = self._prepare(one_or_many(prompts), sampling_params, priority)
        return self._run(requests, use_tqdm, TrackedRequest.output)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: ProgressChoice = True,
        lora_request: None = None,
        chat_template: str | None = None,
        chat_template_content_format: ContentFormat = "auto",
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[RequestOutput]:
        """Answer a conversation, or each of several.

        Args:
            messages: {"role": …, "content": …} dicts; or a list of such lists.
            chat_template: a template or a file with one, instead of the model's.
            chat_template_content_format: what the template takes as content.
            continue_final_message: go on with the last message instead of answering it; needs
                add_generation_prompt=False.
            tools: JSON schemas or functions the model may call.
            chat_template_kwargs: more variables for the template.

        Raises:
            RequestError: no chat template, or it refused a conversation. Nothing has run then.
        """
        _refuse_lora(lora_request)
        if chat_template_content_format not in _FORMATS:
            raise ConfigError(
                f"chat_template_content_format must be one of {', '.join(_FORMATS)},"
                f" got {chat_template_content_format!r}"
            )
        tokenizer = self._need_tokenizer("chat()")
        prompts = [
            Prompt(
                render_chat(
                    tokenizer,
                    conversation,
                    chat_template=chat_template,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=continue_final_message,
                    tools=tools,
                    content_format=chat_template_content_format,
                    template_kwargs=chat_template_kwargs,
                ),
                None,
                add_special_tokens=False,
            )
            for conversation in _conversations(messages)
        ]
        requests = self._prepare(prompts, sampling_params)
        return self._run(requests, use_tqdm, TrackedRequest.output)

    def stream(
        self, prompt: PromptInput | Prompt, sampling_params: SamplingParams | None = None
    ) -> Iterator[Update]:
        """Continue one prompt, giving each piece as it comes. Leaving the loop early (or closing
        the iterator) aborts the request."""
        with self._turn():
            yield from self._step_until_done(self._prepare([prompt], sampling_params))

    def beam_search(
        self,
        prompts: PromptInput | Sequence[PromptInput],
        params: BeamSearchParams,
        lora_request: None = None,
        use_tqdm: ProgressChoice = False,
    ) -> list[BeamSearchOutput]:
        """The `beam_width` likeliest continuations of each prompt, best first."""
        _refuse_lora(lora_request)
        prepared = self._prepare(one_or_many(prompts), None)
        progress = BatchProgress(use_tqdm, len(prepared))
        try:
            search = beam_search(
                [request.message.prompt_token_ids for request in prepared],
                params,
                decode=None if self._tokenizer is None else self._tokenizer.decode,
                eos_token_ids=frozenset(self._tracker.eos_token_ids),
                max_model_len=self.model_info.max_model_len,
                on_finished=progress.finished,
            )
            asked = next(search)
            while True:
                asked = search.send(self._generate_ids(asked, one_token(params)))
        except StopIteration as done:
            beams: list[BeamSearchOutput] = done.value
            return beams
        finally:
            progress.close()

    # --- vectors ---

    def embed(
        self,
        prompts: PromptInput | Sequence[PromptInput],
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
        use_tqdm: ProgressChoice = True,
        truncate_prompt_tokens: int | None = None,
        lora_request: None = None,
    ) -> list[EmbeddingRequestOutput]:
        """A vector for each prompt: its pooled final hidden states, of length 1.

        Args:
            prompts: as in `generate`.
            pooling_params: for all prompts, or one each; None is the model's own pooling.
            truncate_prompt_tokens: keep only the last k tokens of each prompt.

        Raises:
            RequestError: a prompt or parameter is wrong. Nothing has run then.
        """
        _refuse_lora(lora_request)
        return self._pool(
            prompts, pooling_params, "embed", truncate_prompt_tokens, use_tqdm, embedding_output
        )

    def encode(
        self,
        prompts: PromptInput | Sequence[PromptInput],
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
        use_tqdm: ProgressChoice = True,
        truncate_prompt_tokens: int | None = None,
        lora_request: None = None,
        pooling_task: str = "embed",
    ) -> list[PoolingRequestOutput]:
        """`embed`, with each vector as a torch tensor in `outputs.data`."""
        _refuse_lora(lora_request)
        task = task_of(pooling_task)
        return self._pool(
            prompts, pooling_params, task, truncate_prompt_tokens, use_tqdm, pooling_output
        )

    def score(
        self,
        data_1: PromptInput | Sequence[PromptInput],
        data_2: PromptInput | Sequence[PromptInput],
        pooling_params: PoolingParams | None = None,
        use_tqdm: ProgressChoice = True,
        truncate_prompt_tokens: int | None = None,
        lora_request: None = None,
    ) -> list[ScoringRequestOutput]:
        """How alike two texts are: the cosine of their vectors, for each pair.

        Args:
            data_1: one text, which meets each of `data_2`, or as many as there.
        """
        _refuse_lora(lora_request)
        first, second, pairs = pair_up(data_1, data_2)
        if pooling_params is not None and not pooling_params.normalize:
            pooling_params = dataclasses.replace(pooling_params, normalize=True)
        vectors = self._pool(
            [*first, *second],
            pooling_params,
            "score",
            truncate_prompt_tokens,
            use_tqdm,
            embedding_output,
        )
        return [scoring_output(vectors[a], vectors[len(first) + b]) for a, b in pairs]

    # --- what scripts ask an LLM ---

    @property
    def model_info(self) -> ModelInfo:
        """Facts of the running model: max_model_len, dtype, device, …"""
        return self._live().model_info

    def get_tokenizer(self) -> HFTokenizer:
        """The model's tokenizer as a `transformers` object, for scripts that want one."""
        return self._need_tokenizer("get_tokenizer()").hf()

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer in use; None with skip_tokenizer_init."""
        return self._tokenizer

    def get_default_sampling_params(self) -> SamplingParams:
        """What a prompt without parameters gets: the model's generation defaults."""
        return self._tracker.default_params()

    def reset_prefix_cache(self) -> bool:
        with self._turn():
            return self._live().reset_prefix_cache()

    def stats(self) -> EngineStats:
        """The engine's queues, cache use and counters."""
        return self._live().stats()

    def close(self) -> None:
        """Free the model and its cache. The object cannot be used afterwards."""
        engine, self._engine = getattr(self, "_engine", None), None
        if engine is not None:
            engine.shutdown()

    def __enter__(self) -> "LLM":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be half gone
            self.close()

    # --- running ---

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """The engine is one caller's at a time; other threads wait."""
        caller = threading.get_ident()
        if self._caller == caller:
            raise RequestError(
                "stream() of this LLM is not finished in this thread; end its loop or close the "
                "iterator before the next call",
                "prompts",
            )
        with self._lock:
            self._caller = caller
            try:
                yield
            finally:
                self._caller = None

    def _prepare(
        self,
        prompts: Sequence[PromptInput | Prompt],
        params: Params | Sequence[Params] | None,
        priority: Sequence[int] | None = None,
    ) -> list[TrackedRequest]:
        """Check all prompts before any runs."""
        self._live()
        all_params = _for_each(params, len(prompts), "sampling_params")
        ranks: list[int | None] = _for_each(priority, len(prompts), "priority")
        requests = []
        for index, (prompt, given, rank) in enumerate(zip(prompts, all_params, ranks)):
            try:
                requests.append(
                    self._tracker.prepare(prompt, given, request_id=self._id(), priority=rank or 0)
                )
            except QuireError as error:  # the message is the first argument of all of ours
                if len(prompts) > 1:
                    words = f"prompt {index} of {len(prompts)}: {error}"
                    error.args = (words, *error.args[1:])
                raise
        return requests

    def _pool(
        self,
        prompts: PromptInput | Sequence[PromptInput],
        params: PoolingParams | Sequence[PoolingParams] | None,
        task: PoolingTask,
        truncate: int | None,
        use_tqdm: ProgressChoice,
        output: Callable[[TrackedRequest], T],
    ) -> list[T]:
        """Check all prompts, then compute their vectors."""
        changes: dict[str, Any] = {"task": task}
        if truncate is not None:
            changes["truncate_prompt_tokens"] = truncate
        each = one_or_many(prompts)
        all_params = _for_each(params, len(each), "pooling_params")
        wanted = [dataclasses.replace(p or PoolingParams(), **changes) for p in all_params]
        return self._run(self._prepare(each, wanted), use_tqdm, output)

    def _run(
        self,
        requests: list[TrackedRequest],
        use_tqdm: ProgressChoice,
        output: Callable[[TrackedRequest], T],
    ) -> list[T]:
        """Finish all of them. Outputs are made as requests end, while the device runs others."""
        outputs: dict[str, T] = {}
        progress = BatchProgress(use_tqdm, len(requests))
        try:
            with self._turn():
                for update in self._step_until_done(requests):
                    request = update.request
                    if request.finished and request.request_id not in outputs:
                        outputs[request.request_id] = output(request)
                        generated = sum(len(s.token_ids) for s in request.sequences)
                        progress.finished(len(request.message.prompt_token_ids), generated)
        finally:
            progress.close()
        return [outputs[request.request_id] for request in requests]

    def _generate_ids(
        self, prompts: list[list[int]], params: SamplingParams
    ) -> list[RequestOutput]:
        """One call of beam search: no text, no progress, no limit on log-probabilities."""
        requests = [
            self._tracker.prepare(ids, params, request_id=self._id(), max_logprobs=-1)
            for ids in prompts
        ]
        return self._run(requests, False, TrackedRequest.output)

    def _step_until_done(self, requests: Sequence[TrackedRequest]) -> Iterator[Update]:
        """Submit, step, and give every update. Whatever ends this early aborts what is left."""
        engine, tracker = self._live(), self._tracker
        with interrupts_between_steps() as check_interrupt:
            try:
                for request in requests:
                    engine.add(tracker.start(request))
                while tracker.num_unfinished:
                    processed = tracker.process(engine.step().deltas)
                    for abort in processed.aborts:
                        engine.abort(abort)
                    yield from processed.updates
                    check_interrupt()
            finally:
                self._abort_unfinished()

    def _abort_unfinished(self) -> None:
        """Leave the engine empty, whatever happened."""
        left = self._tracker.unfinished()
        messages = [self._tracker.abort(request.request_id) for request in left]
        if self._engine is None:
            return
        with contextlib.suppress(EngineDeadError):
            for message in messages:
                if isinstance(message, AbortRequests):
                    self._engine.abort(message)
            while self._engine.has_work():
                self._engine.step()

    def _id(self) -> str:
        return str(next(self._ids))

    def _live(self) -> InProcessEngine:
        if self._engine is None:
            raise EngineDeadError("this LLM has been closed; make a new one")
        return self._engine

    def _need_tokenizer(self, what: str) -> Tokenizer:
        if self._tokenizer is None:
            raise RequestError(
                f"{what} needs a tokenizer, and skip_tokenizer_init=True left it out", "messages"
            )
        return self._tokenizer


def _conversations(
    messages: Sequence[Message] | Sequence[Sequence[Message]],
) -> Sequence[Sequence[Message]]:
    if isinstance(messages, list | tuple) and messages and isinstance(messages[0], list | tuple):
        return messages
    return [messages]  # type: ignore[list-item]


def _for_each(value: T | Sequence[T] | None, count: int, name: str) -> list[T | None]:
    """One value a prompt, out of none, one, or a list."""
    if value is None:
        return [None] * count
    if not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise RequestError(
            f"{name} has {len(value)} entries for {count} prompts; give one each, or one for all",
            name,
        )
    return list(value)


def _refuse_lora(lora_request: object) -> None:
    if lora_request is not None:
        raise NotYetSupportedError("lora_request is not supported yet; leave it out")
