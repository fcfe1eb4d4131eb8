"""Keywords and flags of vLLM that Quire knows and has nothing to set for: data only.

One that asks for what does not exist yet is refused by name; one whose default value is given
anyway is taken, so that commands and scripts that spell out every default still run.
"""

import contextlib
import json

from quire.core.option import Kind

# keyword -> the values that ask for nothing. A flag whose values are all booleans is a switch.
ENGINE_NOT_YET: dict[str, tuple[object, ...]] = {
    # model and weights
    "quantization_config": (None, {}),
    "hf_overrides": (None, {}),
    "hf_config_path": (None,),
    "additional_config": (None, {}),
    "rope_scaling": (None, {}),
    "rope_theta": (None,),
    "logprobs_mode": (None, "raw_logprobs"),
    "enable_prompt_embeds": (False,),
    "enable_sleep_mode": (False,),
    "logits_processors": (None, []),
    "model_loader_extra_config": (None, {}),
    "ignore_patterns": (None, []),
    # Every model generates and embeds: neither need be asked for.
    "runner": ("auto", "generate", "pooling"),
    "convert": ("auto", "none", "embed"),
    "pooler_config": (None,),
    "task": (None, "auto", "generate", "embed", "embedding", "score"),
    # memory
    "kv_offloading_size": (None, 0),
    "kv_offloading_backend": (None,),
    "kv_transfer_config": (None, {}),
    "cpu_offload_gb": (0, 0.0),
    "offload_backend": (None, "auto"),
    "swap_space": (None, 0, 4),
    "calculate_kv_scales": (False,),
    "disable_sliding_window": (False,),
    "mamba_cache_dtype": (None, "auto"),
    # kernels
    "attention_backend": (None, "auto"),
    "linear_backend": (None, "auto"),
    "moe_backend": (None, "auto"),
    "numa_bind": (False,),
    # batching
    "long_prefill_token_threshold": (None, 0),
    "stream_interval": (None, 1),
    "scheduler_cls": (None,),
    # several devices
    "tensor_parallel_size": (1,),
    "pipeline_parallel_size": (1,),
    "data_parallel_size": (1,),
    "enable_expert_parallel": (False,),
    "decode_context_parallel_size": (1,),
    "prefill_context_parallel_size": (1,),
    "nnodes": (1,),
    "node_rank": (0,),
    "distributed_executor_backend": (None, "uni"),
    "enable_eplb": (False,),
    "enable_dbo": (False,),
    "device_ids": (None,),
    # adapters and speculation
    "enable_lora": (False,),
    "max_loras": (1,),
    "max_lora_rank": (16,),
    "speculative_config": (None,),
    # images, sound and video
    "limit_mm_per_prompt": (None, {}),
    "mm_processor_kwargs": (None, {}),
    "allowed_local_media_path": ("",),
}

# The same for the server alone.
SERVER_NOT_YET: dict[str, tuple[object, ...]] = {
    "skip_tokenizer_init": (False,),
    "middleware": (None,),
    "api_server_count": (None, 1),
    "headless": (False,),
    "grpc": (False,),
    "log_config_file": (None,),
    "enable_offline_docs": (False,),
    "exclude_tools_when_tool_choice_none": (False,),
    "fingerprint_value": (None,),
    "kv_cache_metrics": (False,),
    "custom_histogram_buckets": (None,),
    "show_hidden_metrics_for_version": (None,),
    "collect_detailed_traces": (None,),
    "tool_strict_level": (None,),
    "enable_ssl_refresh": (False,),
    "lora_modules": (None,),
    "max_cpu_loras": (None,),
    "lora_dtype": (None, "auto"),
    "fully_sharded_loras": (False,),
    "lora_target_modules": (None,),
    "default_mm_loras": (None,),
    "spec_method": (None,),
    "spec_model": (None,),
    "spec_tokens": (None,),
    "master_addr": (None,),
    "master_port": (None,),
    "data_parallel_rank": (None, 0),
    "data_parallel_size_local": (None, 1),
    "data_parallel_address": (None,),
    "data_parallel_rpc_port": (None,),
    "data_parallel_backend": (None, "mp"),
    "data_parallel_hybrid_lb": (False,),
    "data_parallel_external_lb": (False,),
    "all2all_backend": (None,),
    "enable_fault_tolerance": (False,),
    "tool_parser_plugin": (None, ""),
    "reasoning_parser_plugin": (None, ""),
    "tool_server": (None,),
    "enable_log_outputs": (False,),
    "enable_per_request_metrics": (False,),
    "enable_tokenizer_info_endpoint": (False,),
    "trust_request_mm_kwargs": (False,),
    "media_io_kwargs": (None, {}),
    "allowed_media_domains": (None,),
    "language_model_only": (False,),
    "mm_encoder_tp_mode": (None, "weights"),
    "profiler_config": (None,),
    "enable_scale_out": (False,),
    "tokens_only": (False,),
}

# Change nothing here, because what they tune does not exist or is always so: how each is written.
NO_EFFECT: dict[str, Kind] = {
    "async_scheduling": "switch",
    "compilation_config": "str",
    "cudagraph_capture_sizes": "list",
    "disable_access_log_for_endpoints": "str",
    "disable_custom_all_reduce": "switch",
    "disable_frontend_multiprocessing": "switch",
    "disable_hybrid_kv_cache_manager": "switch",
    "disable_log_stats": "switch",
    "enable_flashinfer_autotune": "switch",
    "enable_log_deltas": "switch",  # answers are never logged
    "enable_reasoning": "switch",  # the reasoning parser alone decides
    "enable_server_load_tracking": "switch",  # /load always counts
    "fingerprint_mode": "str",
    "guided_decoding_backend": "str",  # llguidance takes every form
    "h11_max_header_count": "str",
    "h11_max_incomplete_event_size": "str",
    "log_error_stack": "switch",
    "max_cudagraph_capture_size": "str",
    "max_log_len": "str",  # prompts are never logged
    "max_num_partial_prefills": "str",
    "max_parallel_loading_workers": "str",
    "max_seq_len_to_capture": "str",
    "mm_processor_cache_gb": "str",
    "optimization_level": "str",
    "performance_mode": "str",
    "prefix_caching_hash_algo": "str",  # page hashes are always BLAKE2b
    "safetensors_load_strategy": "str",
    "scheduler_reserve_full_isl": "switch",
    "skip_mm_profiling": "switch",
    "use_tqdm_on_load": "switch",
    "use_v2_block_manager": "switch",
    "video_pruning_rate": "str",
    "watermark": "str",
}

# Short and second spellings of flags above.
SHORT_FLAGS: dict[str, tuple[str, ...]] = {
    "quantization": ("-q",),
    "tensor_parallel_size": ("-tp",),
    "pipeline_parallel_size": ("-pp",),
    "data_parallel_size": ("-dp",),
    "data_parallel_rank": ("-dpn",),
    "data_parallel_size_local": ("-dpl",),
    "data_parallel_address": ("-dpa",),
    "data_parallel_rpc_port": ("-dpp",),
    "data_parallel_backend": ("-dpb",),
    "decode_context_parallel_size": ("-dcp",),
    "prefill_context_parallel_size": ("-pcp",),
    "enable_expert_parallel": ("-ep",),
    "node_rank": ("-r",),
    "nnodes": ("-n",),
    "api_server_count": ("-asc",),
    "compilation_config": ("-cc",),
    "optimization_level": ("-O",),
    "speculative_config": ("-sc",),
    "attention_backend": ("-ac",),
}


def asks_for_nothing(value: object, neutral: tuple[object, ...]) -> bool:
    """Whether a refused keyword has one of its harmless values, as an object or as text; an
    object of nothing but zeros ({"image": 0}) is one."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if value in neutral or (isinstance(value, dict) and not any(value.values())):
        return True
    return isinstance(value, str) and value.strip().lower() in {str(n).lower() for n in neutral}
