"""ModelInfo: what a front end needs to know about a loaded model."""

from dataclasses import dataclass

from quire.core.pooling_params import Pooling


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts of a running engine, all resolved: nothing here is "auto"."""

    model: str  # as the user named it
    directory: str  # where its files are
    architecture: str
    vocab_size: int  # width of the logits; a tokenizer may know fewer ids
    max_model_len: int
    dtype: str
    device: str
    eos_token_ids: tuple[int, ...]
    generation_defaults: dict[str, float | int]  # generation_config.json's, renamed
    page_size: int
    num_pages: tuple[int, ...]  # of each KV group
    max_num_seqs: int
    max_num_batched_tokens: int
    enable_prefix_caching: bool
    seed: int
    weight_bytes: int = 0
    kv_bytes: int = 0
    kv_cache_dtype: str = "bfloat16"
    hidden_size: int = 0  # E, of the final hidden states and so of embeddings
    pooling: Pooling = "last"  # of a request that does not say
