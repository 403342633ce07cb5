#!/bin/sh
# Runs a call with nothing but HTTP requests.
#
#     call.sh http://127.0.0.1:8080 NAME [PARAM ...] < input
#
# The input is sent first, then it ends. Output is asked for every half second. $DISTILLERY_TOKEN says for which user.
# Needs curl and jq. Where a websocket is possible, `distillery call` and ../python/call.py are better.
set -eu

pow="$1/api/v1/pow"
name="$2"
shift 2

request() {
    if [ -n "${DISTILLERY_TOKEN:-}" ]; then
        # Through a pipe, as every user of the machine sees arguments.
        printf 'header = "Authorization: Bearer %s"\n' "$DISTILLERY_TOKEN" | curl --silent --show-error --fail-with-body --config - "$@"
    else
        curl --silent --show-error --fail-with-body "$@"
    fi
}

body=$(jq --null-input --compact-output --arg call "$name" '{call: $call, params: $ARGS.positional}' --args -- "$@")
id=$(request --header 'Content-Type: application/json' --data "$body" "$pow/new") || {
    echo "$id" >&2
    exit 1
}
id=$(printf %s "$id" | jq --raw-output .)
# A second reader of stdin would be curl's own configuration.
input=$(mktemp)
trap 'rm -f "$input"' EXIT
cat > "$input"
[ ! -s "$input" ] || request --data-binary "@$input" "$pow/input/$id" > /dev/null
request --request POST "$pow/closeInput/$id" > /dev/null
trap 'request --request POST "$pow/cancel/$id" > /dev/null' INT

offset=0
while :; do
    status=$(request "$pow/status/$id?offset=$offset")
    printf %s "$status" | jq --join-output .buffer
    offset=$(printf %s "$status" | jq .offset)
    case $(printf %s "$status" | jq --raw-output .result.status) in
        fulfilled) exit 0 ;;
        rejected)
            printf %s "$status" | jq --raw-output .result.reason >&2
            exit 1
            ;;
    esac
    sleep 0.5
done
