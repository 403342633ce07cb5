#!/bin/sh
# Lists running processes through the HTTP API: your own, or those of all users with the scope processes:*.
#
#     DISTILLERY_TOKEN=dst_... processes.sh https://calls.example.org
#
# Needs curl and jq.
set -eu

# The token goes through a pipe, as every user of the machine sees arguments.
processes=$(printf 'header = "Authorization: Bearer %s"\n' "$DISTILLERY_TOKEN" |
    curl --silent --show-error --fail-with-body --config - "$1/api/v1/processes?outcome=running")
printf %s "$processes" | jq --raw-output '.[] | [.id, .call, .user, .started] | @tsv'
