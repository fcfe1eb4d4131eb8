"""`quire serve`'s options: four places, one meaning; help that can be searched; refusals."""

import json
import logging
import resource
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from quire.cli.command import REFUSED
from quire.cli.main import run
from quire.cli.options import name_model, serve_groups
from quire.cli.serve import ServeOptions, command, read_options
from quire.cli.values import dashes
from quire.core import env
from quire.core.errors import ConfigError, NotYetSupportedError
from quire.core.keywords import NO_EFFECT
from quire.metrics.config import ObservabilityConfig
from quire.server.config import ApiKey, ServerConfig

Captured = pytest.CaptureFixture[str]

# Every flag of vLLM 0.33 in the groups that matter (its own spelling).
VLLM_FLAGS = """
--model --served-model-name --tokenizer --tokenizer-mode --revision --trust-remote-code --dtype
--seed --max-model-len --hf-overrides --hf-token --generation-config --override-generation-config
--max-logprobs --logprobs-mode --enforce-eager --skip-tokenizer-init --enable-prompt-embeds
--model-impl --runner --convert --pooler-config --logits-processors --enable-sleep-mode
--quantization --quantization-config
--load-format --download-dir --safetensors-load-strategy --model-loader-extra-config
--ignore-patterns
--gpu-memory-utilization --device-memory-utilization --kv-cache-memory-bytes --block-size
--kv-cache-dtype --num-gpu-blocks-override --enable-prefix-caching --prefix-caching-hash-algo
--kv-offloading-size --kv-offloading-backend --cpu-offload-gb --offload-backend
--max-num-seqs --max-num-batched-tokens --max-num-queued-reqs --max-num-queued-tokens
--long-prefill-token-threshold --scheduling-policy --enable-chunked-prefill --async-scheduling
--stream-interval --watermark --scheduler-reserve-full-isl --scheduler-cls
--disable-hybrid-kv-cache-manager
-tp -pp -dp --tensor-parallel-size --pipeline-parallel-size --data-parallel-size
--enable-expert-parallel --decode-context-parallel-size --prefill-context-parallel-size --nnodes
--node-rank --master-addr --distributed-executor-backend --data-parallel-rank
--data-parallel-size-local --data-parallel-address --data-parallel-rpc-port
--data-parallel-backend --data-parallel-hybrid-lb --data-parallel-external-lb --enable-eplb
--all2all-backend --enable-dbo --disable-custom-all-reduce --numa-bind --device-ids
--enable-fault-tolerance
-O --optimization-level --performance-mode -cc --compilation-config --cudagraph-capture-sizes
--max-cudagraph-capture-size --attention-backend --moe-backend --linear-backend
--enable-flashinfer-autotune
--enable-lora --lora-modules --max-loras --max-lora-rank --max-cpu-loras --lora-dtype
--fully-sharded-loras --lora-target-modules --default-mm-loras
-sc --speculative-config --spec-method --spec-model --spec-tokens
--limit-mm-per-prompt --mm-processor-kwargs --media-io-kwargs --mm-processor-cache-gb
--language-model-only --mm-encoder-tp-mode --video-pruning-rate --skip-mm-profiling
--host --port --uds --api-key --ssl-keyfile --ssl-certfile --ssl-ca-certs --ssl-cert-reqs
--ssl-ciphers --enable-ssl-refresh --root-path --middleware --allowed-origins --allow-credentials
--allowed-methods --allowed-headers --api-server-count --headless --config --chat-template
--chat-template-content-format --default-chat-template-kwargs --response-role
--enable-request-id-headers --enable-prompt-tokens-details --enable-force-include-usage
--enable-per-request-metrics --enable-server-load-tracking --sse-keep-alive-interval
--fingerprint-mode --disable-fastapi-docs --enable-log-requests --enable-log-outputs
--max-log-len --log-error-stack --shutdown-timeout
--disable-log-requests --disable-log-stats --uvicorn-log-level --enable-auto-tool-choice
--tool-call-parser --reasoning-parser --trust-request-chat-template
--return-tokens-as-token-ids --otlp-traces-endpoint --disable-uvicorn-access-log
"""


def read(*arguments: str, **variables: str) -> ServeOptions:
    """As the command would, without running it."""
    context = command.make_context("serve", list(arguments))
    given = {**context.params}
    config = given.pop("config")
    name_model(given)
    return read_options(given, config, variables.get)


def test_every_field_is_an_option() -> None:
    """A new field needs an `option(...)`, unless it is made of others."""
    known = {option.field for group in serve_groups().values() for option in group}
    for section in (ServerConfig, ObservabilityConfig):
        assert {f.name for f in fields(section)} - known <= {"api_keys"}


def test_option_names_mean_one_thing() -> None:
    options = [option for group in serve_groups().values() for option in group]
    names = [name for o in options for name in (o.name, *o.also, *o.opposites)]
    assert sorted(names) == sorted(set(names))
    assert not set(names) & set(REFUSED)
    assert not set(NO_EFFECT) & set(REFUSED)
    assert all(o.help.endswith((".", "extra).", ").")) for o in options)


def test_every_flag_of_vllm_is_known() -> None:
    spelled = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    assert [flag for flag in VLLM_FLAGS.split() if flag not in spelled] == []


def test_nothing_given_is_the_default() -> None:
    assert read() == ServeOptions(read().engine, ServerConfig(), ObservabilityConfig())
    assert read().engine.model.model == "boxed"


def test_the_command_line() -> None:
    options = read(
        *("org/model", "--host", "127.0.0.1", "--port", "0", "--max-model-len", "8k"),
        *("--served-model-name", "a", "b", "--dtype", "float16", "--max_num_seqs", "7"),
        *("--no-enable-prefix-caching", "--block-size", "32", "--num-gpu-blocks-override", "50"),
        *("--max-num-queued-reqs", "9", "--request-timeout", "2.5", "--disable-log-requests"),
        *("--override-generation-config", '{"temperature": 0.1}', "--max-body-bytes", "1MiB"),
        *("--allowed-origins", '["http://a", "http://b"]', "-tp", "1", "--disable-fastapi-docs"),
        *("--uvicorn-log-level", "warning", "--enable-auto-tool-choice", "--enforce-eager"),
        *("--tool-call-parser", "hermes", "--kv-cache-dtype", "auto", "--disable-log-stats"),
    )
    engine, server, observing = options.engine, options.server, options.observability
    assert (engine.model.model, engine.model.max_model_len) == ("org/model", 8000)
    assert (engine.model.dtype, engine.scheduler.max_num_seqs) == ("float16", 7)
    assert (engine.cache.enable_prefix_caching, engine.cache.page_size) == (False, 32)
    assert (engine.cache.num_pages, engine.device.enforce_eager) == (50, True)
    assert engine.model.override_generation_config == {"temperature": 0.1}
    assert (server.host, server.port, server.served_model_names) == ("127.0.0.1", 0, ("a", "b"))
    assert (server.max_queue, server.request_timeout, server.max_body_bytes) == (9, 2.5, 1 << 20)
    assert server.allowed_origins == ("http://a", "http://b")
    assert (server.disable_docs, server.uvicorn_log_level) == (True, "warning")
    assert (server.enable_auto_tool_choice, server.tool_call_parser) == (True, "hermes")
    assert (observing.enable_log_requests, observing.log_stats) == (False, False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["org/m", "--served-model-name", "a", "b"],
        ["--served-model-name", "a", "--served-model-name", "b", "--", "org/m"],
        ["--model", "org/m", "--served-model-name", "a", "b"],
        ["--port", "5", "org/m", "--served-model-name", "a", "b", "--seed", "1"],
        ["--model=org/m", "--served_model_name=a", "b"],
        ["--served-model-name", '["a", "b"]', "--", "org/m"],
        ["--served-model-name", "a", "b", "org/m"],
        ["org/m", "--served-model-name", "a", "--seed", "-1", "--served-model-name", "b"],
    ],
)
def test_a_list_option_takes_several_words(arguments: list[str]) -> None:
    options = read(*arguments)
    assert options.engine.model.model == "org/m"
    assert options.server.served_model_names == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "model", "keys"),
    [
        (["--api-key", "secret", "org/m"], "org/m", ["secret"]),
        (["--api-key", "k1", "k2"], "boxed", ["k1", "k2"]),
        (["org/m", "--api-key", "k1", "a/b"], "org/m", ["k1", "a/b"]),
        (["--api-key", "k1", "--model", "org/m", "--api-key", "k2"], "org/m", ["k1", "k2"]),
    ],
)
def test_the_model_is_not_swallowed_by_a_list(
    arguments: list[str], model: str, keys: list[str]
) -> None:
    options = read(*arguments)
    assert options.engine.model.model == model
    assert [key.secret for key in options.server.api_keys] == keys


def test_json_in_pieces() -> None:
    options = read(
        *("--override-generation-config.temperature", "0.5", "org/m"),
        *("--override_generation_config.top_k=5", "--override-generation-config", '{"min_p": 0.1}'),
        *("--default-chat-template-kwargs.style.words+", "a", "-cc.mode", "3"),
        *(
            "--default-chat-template-kwargs.style.words+",
            "b",
            "--cudagraph-capture-sizes",
            "1",
            "2",
        ),
    )
    assert options.engine.model.model == "org/m"
    sampling = {"temperature": 0.5, "top_k": 5, "min_p": 0.1}
    assert options.engine.model.override_generation_config == sampling
    assert options.server.default_chat_template_kwargs == {"style": {"words": ["a", "b"]}}


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(
        "model: org/m\nport: 1\nmax-model-len: 4k\nseed: 3\nmax_num_seqs: 5\n"
        "served-model-name: [x, y]\nno-enable-prefix-caching: true\ndisable-log-stats: true\n"
        "api-key: abc\nmax-body-bytes: 2MiB\nrequest-timeout: 3\nallow-credentials: on\n"
        "default-chat-template-kwargs: {enable_thinking: false}\nenable-lora: false\n"
    )
    variables = {"port": "2", "seed": "4", "allowed_origins": "http://a,http://b"}
    options = read("--config", str(file), "--seed", "5", "--max-model-len", "auto", **variables)
    engine, server = options.engine, options.server
    assert (engine.model.model, server.port, engine.model.seed) == ("org/m", 2, 5)
    assert engine.model.max_model_len is None, "auto on the command line beats the file"
    assert (engine.scheduler.max_num_seqs, engine.cache.enable_prefix_caching) == (5, False)
    assert (server.served_model_names, server.allow_credentials) == (("x", "y"), True)
    assert server.allowed_origins == ("http://a", "http://b")
    assert server.default_chat_template_kwargs == {"enable_thinking": False}
    assert (server.request_timeout, server.max_body_bytes) == (3.0, 2 << 20)
    assert server.api_keys == (ApiKey("key", "abc"),)
    assert options.observability.log_stats is False
    assert read("org/other", "--config", str(file)).engine.model.model == "org/other"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot: 1", "serve.yaml: no option 'prot'; did you mean 'port'?"),
        ("port: lots", "serve.yaml: port must be a whole number in [0, 65535], got 'lots'"),
        ("port: [1]", "serve.yaml: port must be a whole number"),
        ("seed: 1.5", "serve.yaml: seed must be a whole number, got 1.5"),
        ("port: true", "serve.yaml: port must be a whole number in [0, 65535], got True"),
        ("enforce-eager: 7", "serve.yaml: enforce_eager must be true or false, got 7"),
        ("dtype: int3", "serve.yaml: dtype must be one of auto, half"),
        ("api-key: {a: b}", "serve.yaml: api_key must be a list of words"),
        ("enable-lora: true", "serve.yaml: enable_lora is not supported yet"),
        ("- a\n- b", "serve.yaml must hold"),
        ("a: [", "serve.yaml is not valid YAML (line 1)"),
        ("host: 0.0.0.0\nport: 99999", "port must be a whole number in [0, 65535], got 99999"),
        ("max-queue: -1", "max_queue must be a whole number of at least 0 such as 8k"),
        ("request-timeout: 0", "request_timeout must be a number above 0, got 0"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read("--config", str(file))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file() -> None:
    with pytest.raises(ConfigError, match=r"/no/such\.yaml cannot be read: No such file"):
        read("--config", "/no/such.yaml")


def test_variables(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(logging.getLogger("quire"), "propagate", True)
    for name, value in (
        ("QUIRE_MAX_MODEL_LEN", "2k"),
        ("QUIRE_API_KEY", "one,two"),
        ("QUIRE_ENFORCE_EAGER", "1"),
        ("QUIRE_PORT", "tcp://10.0.0.1:8000"),  # Kubernetes's, of a service named quire
        ("QUIRE_SERVICE_HOST", "10.0.0.1"),
        ("QUIRE_MAX_NUM_SEQ", "5"),
        ("QUIRE_HOST", ""),
    ):
        monkeypatch.setenv(name, value)
    options = read_options({})
    assert options.engine.model.max_model_len == 2000
    assert options.engine.device.enforce_eager is True
    assert [key.secret for key in options.server.api_keys] == ["one", "two"]
    assert (options.server.port, options.server.host) == (8000, None)
    assert "QUIRE_MAX_NUM_SEQ is no option; did you mean QUIRE_MAX_NUM_SEQS?" in caplog.text
    assert "SERVICE_HOST" not in caplog.text
    monkeypatch.setenv("QUIRE_PORT", "many")
    with pytest.raises(ConfigError, match="QUIRE_PORT must be a whole number"):
        read_options({})


def test_each_option_has_a_variable_of_its_own() -> None:
    names = {o.name for group in serve_groups().values() for o in group}
    variables = {env.option_variable(name) for name in names}
    assert len(variables) == len(names)
    assert not variables & env.KNOWN.keys()


# --- API keys ---


def test_keys_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# who may ask\nalice:s3cret-a\n\nbob : s3cret-b : 2.5\ns3cret-c\n")
    file.chmod(0o600)
    keys = read("--api-key-file", str(file), "--api-key", "s3cret-d").server.api_keys
    assert keys == (
        ApiKey("key-1", "s3cret-d"),
        ApiKey("alice", "s3cret-a"),
        ApiKey("bob", "s3cret-b", 2.5),
        ApiKey("line-5", "s3cret-c"),
    )
    assert "s3cret" not in repr(keys)
    assert "s3cret" not in repr(read("--api-key-file", str(file)).server)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no key; the server would be open"),
        ("# nothing", "holds no key"),
        ("alice:", "line 1 has no key"),
        ("alice:s3cret:heavy", "line 1: the weight must be a positive number"),
        ("alice:s3cret:-1", "line 1: the weight must be"),
        ("alice:s3cret\nalice:s3cret2", "names must differ, got alice, alice"),
        ("alice:s3cret\nbob:s3cret", "API keys alice and bob are the same"),
    ],
)
def test_a_wrong_key_file_shows_no_key(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read("--api-key-file", str(file))
    assert words in str(error.value)
    assert "s3cret" not in str(error.value)


# --- refusals ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--kv-offloading-size", "4"],
            "--kv-offloading-size 4 is not supported yet; leave it out",
        ),
        (["-ac", "x"], "--attention-backend x is not supported yet"),
        (["--enable-lora"], "--enable-lora is not supported yet"),
        (["-sc", "{}x"], "--speculative-config {}x is not supported yet"),
        (["-sc.method", "ngram"], '--speculative-config {"method": "ngram"} is not supported yet'),
        (["--lora-modules", "a=b", "c=d"], "--lora-modules a=b is not supported yet"),
        (["--hf-overrides.a.b", "2"], '--hf-overrides {"a": {"b": 2}} is not supported yet'),
        (["--tokenizer.x", "2"], "no option --tokenizer.x; did you mean '--tokenizer'?"),
        (["--enforce-eager=7"], "does not take a value"),
        (
            ["--structured-outputs-config.enable_in_reasoning", "true"],
            "structured_outputs_config enable_in_reasoning=True is not supported yet",
        ),
        (["-pp", "2"], "--pipeline-parallel-size 2 is not supported yet"),
        (["--api-server-count", "4"], "--api-server-count 4 is not supported yet"),
        (["-tp", "2"], "--tensor-parallel-size 2 is not supported yet"),
        (["--kv-cache-dtype", "int2"], "--kv-cache-dtype must be one of auto"),
        (["--max-num-seq", "2"], "did you mean '--max-num-seqs'?"),
        (["--prot", "2"], "no option --prot; did you mean '--port'?"),
        (["--dtype", "int3"], "--dtype must be one of auto, half"),
        (["--max-model-len", "big"], "of at least 1 such as 8k, got 'big'"),
        (["a", "--model", "b"], "two models: MODEL is 'a' and --model 'b'"),
        (["--port", "70000"], "port must be a whole number in [0, 65535], got '70000'"),
        (["--api-key", ""], "an api key is empty"),
    ],
)
def test_refusals_are_one_line(capsys: Captured, arguments: list[str], message: str) -> None:
    assert run(["serve", *arguments]) != 0
    error = capsys.readouterr().err
    assert error.startswith("quire: error: ")
    assert error.count("\n") == 1
    assert message in error


def test_harmless_values_of_what_does_not_exist_are_taken() -> None:
    read("--kv-cache-dtype", "auto", "-pp", "1", "--no-enable-lora", "--cpu-offload-gb", "0")
    read("-O3", "-cc", json.dumps({"mode": 3}), "--async-scheduling", "--disable-custom-all-reduce")
    read("--limit-mm-per-prompt", '{"image": 0}', "--structured-outputs-config.backend", "xgrammar")
    with pytest.raises(NotYetSupportedError):
        read("--enable-eplb")


def test_switches_may_have_a_value() -> None:
    words = ("--enforce-eager=True", "--enable-chunked-prefill", "false", "org/m")
    options = read(*words, "--enable-auto-tool-choice=false")
    assert options.engine.model.model == "org/m"
    assert options.engine.device.enforce_eager is True
    assert options.engine.scheduler.enable_chunked_prefill is False
    assert options.server.enable_auto_tool_choice is False


# --- help ---


def test_help_has_every_option_in_its_group(capsys: Captured) -> None:
    assert run(["serve", "--help"]) == 0
    text = capsys.readouterr().out
    for title, options in serve_groups().items():
        assert f"\n{title}:\n" in text
        for option in options:
            flag = dashes(option.name)
            assert f" {flag}" in text or f" --[no-]{flag[2:]}" in text
    assert "--kv-offloading-size" not in text
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize(
    ("word", "there", "absent"),
    [
        (
            "kv",
            ["KV cache:", "--block-size", "Not supported yet:", "--kv-offloading-size"],
            ["--port"],
        ),
        ("max-num-seqs", ["Scheduler:", "--max-num-seqs"], ["--port", "--async-steps"]),
        ("max_num_seqs", ["--max-num-seqs"], ["--port"]),
        ("lora", ["Not supported yet:", "--[no-]enable-lora"], ["--port"]),
        ("address", ["--port", "--ssl-keyfile"], ["--block-size"]),
        ("listgroup", ["Scheduler", "KV cache"], ["--port"]),
        ("xyzzy", ["nothing about 'xyzzy'"], ["--port"]),
        ("all", ["--port", "--block-size"], []),
    ],
)
def test_help_can_be_searched(
    capsys: Captured, word: str, there: list[str], absent: list[str]
) -> None:
    assert run(["serve", f"--help={word}"]) == 0
    text = capsys.readouterr().out
    assert [words for words in there if words not in text] == []
    assert [words for words in absent if words in text] == []


def test_help_is_quick_and_light() -> None:
    program = (
        "import sys; from quire.cli.main import run; run(['serve', '--help']);"
        "sys.exit(' '.join({'torch', 'transformers', 'numpy', 'fastapi', 'yaml', 'zmq', 'pydantic',"
        " 'uvicorn', 'httpx'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done: Any = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stderr.decode().strip() == ""
    # Of the processor, as other tests run beside this one.
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime <= 0.4
