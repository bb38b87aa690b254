#!/bin/sh
# The latency gate, for any CI: runs a candidate against a baseline that the repository keeps.
#
#     latency-gate.sh NAME CANDIDATE [more options of `edgeship baseline check`]
#
# NAME is a folder in baselines/, CANDIDATE a bundle or an artifact. Results go to latency/.
# No verdict (exit code 3) is a warning, and with STRICT=1 in the environment a failure.
set -eu
name=$1
candidate=$2
shift 2
code=0
edgeship baseline check "$name" "$candidate" --out latency "$@" || code=$?
if [ "$code" -eq 3 ] && [ "${STRICT:-0}" != 1 ]; then
    echo "latency: no verdict in the time given, let through; latency/comparison.md says what would decide it" >&2
    code=0
fi
exit "$code"
