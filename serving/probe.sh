#!/bin/bash
# Is the model alive? Makes a real request: a payload of a tiny image is restored.
#
#     probe.sh [HOST] [PORT] [MODEL]
#
# For health checks inside the container tensorflow/serving, which has bash but neither curl nor
# Python. A server that is AVAILABLE has loaded its graph, which says nothing of its answers.
set -euo pipefail

host=${1:-localhost} port=${2:-8501} model=${3:-default}

# A GIF of 1 x 1 pixel.
image=R0lGODlhAQABAIAAAAAAAP///yH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==

# post BODY: the body of the answer.
post() {
    exec 3<>"/dev/tcp/$host/$port"
    printf 'POST /v1/models/%s:predict HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
        "$model" "$host" "${#1}" "$1" >&3
    timeout 25 cat <&3
    exec 3>&-
}

answer=$(post "{\"signature_name\":\"encode\",\"instances\":[{\"image_bytes\":{\"b64\":\"$image\"},\"quality\":50}]}")
[[ $answer =~ \"b64\":\ ?\"([A-Za-z0-9+/=]+)\" ]] || { echo "not encoded: $answer" >&2; exit 1; }

answer=$(post "{\"instances\":[{\"b64\":\"${BASH_REMATCH[1]}\"}]}")
# A PNG's base64 begins so.
[[ $answer =~ \"b64\":\ ?\"iVBORw0KGgo ]] || { echo "not restored: $answer" >&2; exit 1; }
