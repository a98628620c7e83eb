#!/bin/sh
# Generates the Python client from proto/: generate.sh [FOLDER], by default gen/ beside this file.
# PYTHON names the interpreter that has requirements.txt installed; by default python3.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
proto=$here/../../proto
out=${1:-$here/gen}
python=${PYTHON:-python3}

if ! "$python" -c 'import grpc_tools, google.api.annotations_pb2' 2>/dev/null; then
    echo "generate.sh: $python lacks grpcio-tools or googleapis-common-protos. Run: $python -m pip install -r $here/requirements.txt" >&2
    exit 4
fi

mkdir -p "$out"
# Only Berth's own files: google.api and google.rpc come from googleapis-common-protos, as a second
# copy of them could be imported in the place of the installed one.
"$python" -m grpc_tools.protoc -I "$proto" \
    --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" \
    "$proto"/berth/v1/*.proto
