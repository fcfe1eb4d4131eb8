#!/bin/sh
# Ask a running server for its models and for an answer, with a bearer key.
#
#   quire serve --api-key my-key &
#   sh examples/curl_models_and_chat.sh http://localhost:8000 my-key
set -eu

url=${1:-http://localhost:8000}
key=${2:-${QUIRE_API_KEY:-EMPTY}}

echo "== models"
curl --silent --show-error --fail-with-body "$url/v1/models" \
    --header "Authorization: Bearer $key"
echo

# Without "model" the server's own answers.
echo "== an answer"
curl --silent --show-error --fail-with-body "$url/v1/chat/completions" \
    --header "Authorization: Bearer $key" \
    --header "Content-Type: application/json" \
    --data '{
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the capital of South Korea?"}
        ],
        "temperature": 0
    }'
echo

echo "== the same, streamed"
curl --silent --show-error --fail-with-body --no-buffer "$url/v1/chat/completions" \
    --header "Authorization: Bearer $key" \
    --header "Content-Type: application/json" \
    --data '{
        "messages": [{"role": "user", "content": "What is the capital of South Korea?"}],
        "temperature": 0,
        "stream": true
    }'
