#!/bin/sh
# Registers pool, deployment and automation on the server that PREFECT_API_URL names; again: updates them.
# The folder of the files is the first argument; run beside the flows.
set -eu
files=$1
prefect --no-prompt work-pool create fairloop --type kubernetes --overwrite \
    --base-job-template "$files/base-job-template.json"
prefect --no-prompt deploy --all --prefect-file "$files/deployments.yaml"
# An automation has no name of its own to be overwritten by.
prefect --no-prompt automation inspect 'dead runs' >/dev/null 2>&1 ||
    prefect --no-prompt automation create --from-file "$files/dead-runs.json"
