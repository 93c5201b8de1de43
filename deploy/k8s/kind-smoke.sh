#!/usr/bin/env bash
# The overlay kind on a cluster of its own: images loaded, secrets made, everything ready, one real call.
# Needs kind and a container engine; `make images` first. KUBECTL and PYTHON name the programs; the cluster is
# deleted afterwards unless KEEP is set.
set -euo pipefail
cd "$(dirname "$0")/../.."

kubectl=${KUBECTL:-kubectl}
python=${PYTHON:-python3}
name=fairloop-smoke
command -v kind >/dev/null || { echo 'kind is not installed' >&2; exit 2; }

end() {
    code=$?
    if [ "$code" -ne 0 ]; then
        "$kubectl" -n fairloop get pods,jobs,events --sort-by=.metadata.creationTimestamp || true
    fi
    if [ -z "${KEEP:-}" ]; then
        kind delete cluster --name "$name"
    fi
    exit "$code"
}
trap end EXIT

kind create cluster --name "$name" --wait 180s
release=$("$python" -c 'from importlib.metadata import version; print(version("fairloop"))')
for image in "generator:$release-cpu" "annotator:$release-cpu" "recognizer:$release-cpu" "metrics:$release" "flows:$release"; do
    archive=$(mktemp --suffix=.tar)
    buildah push --quiet "fairloop/$image" "docker-archive:$archive:fairloop/$image"
    kind load image-archive --name "$name" "$archive"
    rm -f "$archive"
done

"$kubectl" create namespace fairloop
token=$(openssl rand -hex 32)
"$kubectl" -n fairloop create secret generic fairloop-store \
    --from-literal=access-key=fairloop --from-literal=secret-key="$(openssl rand -hex 32)"
"$kubectl" -n fairloop create secret generic fairloop-tokens \
    --from-literal=tokens="$token" --from-literal=internal-token="$(openssl rand -hex 32)"
"$kubectl" -n fairloop create secret generic fairloop-caller --from-literal=token="$token"
"$kubectl" -n fairloop create secret generic fairloop-postgres --from-literal=password="$(openssl rand -hex 32)"

"$kubectl" apply -k deploy/k8s/overlays/kind
"$kubectl" -n fairloop wait --for=condition=complete --timeout=20m job/bucket job/weights job/prefect-register
"$kubectl" -n fairloop rollout status --timeout=15m deployment/generator deployment/annotator \
    deployment/recognizer deployment/metrics deployment/prefect-server deployment/prefect-worker

"$kubectl" -n fairloop port-forward service/annotator 19312:9312 &
forward=$!
sleep 3
secret=$(mktemp)
printf '%s' "$token" > "$secret"
FAIRLOOP_ANNOTATOR_ADDRESS=127.0.0.1:19312 FAIRLOOP_TOKEN_FILE="$secret" "$python" - <<'PYTHON'
from fairloop.client import Client

with Client.from_environment() as client:
    print("annotators:", ", ".join(a.name for a in client.annotator.list_annotators()))
PYTHON
kill "$forward"
rm -f "$secret"
echo 'kind-smoke: all well'
