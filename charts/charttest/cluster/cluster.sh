#!/bin/sh
# cluster.sh up|down FOLDER: a Kubernetes control plane on loopback, with nodes that only pretend to run pods (kwok).
# It needs openssl, and in bin/tools etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and kwok.
# No container runs: images, probes, init containers and the effect of network policies are not exercised.
set -e
here=$(cd "$(dirname "$0")" && pwd)
B=$here/../../../bin/tools D=$2
mkdir -p "$D/certs"
cd "$D"

spawn() { name=$1; shift; setsid nohup "$@" >"$name.log" 2>&1 & echo $! >"$name.pid"; }

certificates() {
  openssl genrsa -out sa.key 2048
  openssl rsa -in sa.key -pubout -out sa.pub
  openssl req -x509 -newkey rsa:2048 -nodes -keyout certs/ca.key -out certs/ca.crt -subj /CN=front-proxy-ca -days 30
  openssl req -newkey rsa:2048 -nodes -keyout certs/fp.key -out certs/fp.csr -subj /CN=front-proxy
  openssl x509 -req -in certs/fp.csr -CA certs/ca.crt -CAkey certs/ca.key -CAcreateserial -out certs/fp.crt -days 30
}

kubeconfig() {
  cat >kubeconfig <<END
apiVersion: v1
kind: Config
clusters: [{name: local, cluster: {server: "https://127.0.0.1:16443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: admintoken}}]
contexts: [{name: local, context: {cluster: local, user: admin}}]
current-context: local
END
  export KUBECONFIG=$D/kubeconfig
}

node() { # NAME GPUS CPUS MEMORY
  labels='kubernetes.io/os: linux' taints=
  if [ "$2" != 0 ]; then
    labels="$labels, nvidia.com/gpu.present: \"true\", nvidia.com/gpu.product: NVIDIA-H200"
    taints='{key: nvidia.com/gpu, value: present, effect: NoSchedule}'
  fi
  has="cpu: \"$3\", memory: $4, pods: \"110\", nvidia.com/gpu: \"$2\", ephemeral-storage: 4Ti"
  "$B/kubectl" apply -f - <<END
apiVersion: v1
kind: Node
metadata: {name: $1, labels: {kubernetes.io/hostname: $1, $labels}, annotations: {kwok.x-k8s.io/node: fake}}
spec: {taints: [$taints]}
status: {allocatable: {$has}, capacity: {$has}}
END
}

# alone waits until no other run has the ports. The servers inherit the lock, so it lasts until the last of them has gone.
alone() {
  command -v flock >/dev/null || return 0
  exec 9>"$B/cluster.lock"
  flock -w 600 9 || { echo 'another control plane has run for 10 minutes'; exit 1; }
}

up() {
  alone
  [ -f certs/fp.crt ] || certificates 2>/dev/null
  echo 'admintoken,admin,admin,system:masters' >tokens.csv
  kubeconfig
  ! "$B/kubectl" get --raw /readyz >/dev/null 2>&1 || { echo 'a control plane runs already: port 16443 answers'; exit 1; }
  spawn etcd "$B/etcd" --data-dir "$D/etcd" --listen-client-urls http://127.0.0.1:23790 --advertise-client-urls http://127.0.0.1:23790 \
    --listen-peer-urls http://127.0.0.1:23800 --unsafe-no-fsync --log-level error
  spawn apiserver "$B/kube-apiserver" --etcd-servers=http://127.0.0.1:23790 --cert-dir="$D/certs" --bind-address=127.0.0.1 \
    --secure-port=16443 --advertise-address=127.0.0.1 --endpoint-reconciler-type=none \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=sa.pub \
    --service-account-signing-key-file=sa.key --api-audiences=api --service-cluster-ip-range=10.96.0.0/16 \
    --token-auth-file=tokens.csv --authorization-mode=Node,RBAC --allow-privileged=true --client-ca-file=certs/ca.crt \
    --requestheader-client-ca-file=certs/ca.crt --requestheader-allowed-names=front-proxy \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --proxy-client-cert-file=certs/fp.crt --proxy-client-key-file=certs/fp.key
  until "$B/kubectl" get --raw /readyz >/dev/null 2>&1; do
    sleep 0.2
    kill -0 "$(cat apiserver.pid)" || { tail -5 apiserver.log; exit 1; }
  done
  spawn kcm "$B/kube-controller-manager" --kubeconfig=kubeconfig --service-account-private-key-file=sa.key \
    --root-ca-file=certs/apiserver.crt --leader-elect=false --bind-address=127.0.0.1 --secure-port=16444 --cert-dir="$D/certs-kcm"
  spawn sched "$B/kube-scheduler" --kubeconfig=kubeconfig --leader-elect=false --bind-address=127.0.0.1 --secure-port=16445 --cert-dir="$D/certs-ks"
  stages
  spawn kwok "$B/kwok" --config stages.yaml --node-lease-duration-seconds=40 --kubeconfig=kubeconfig --manage-all-nodes=true \
    --node-ip=127.0.0.1 --server-address=127.0.0.1:16446
  node gpu-0 4 64 512Gi; node gpu-1 4 64 512Gi; node cpu-0 0 32 128Gi
  "$B/kubectl" wait --for=condition=Ready node --all --timeout=60s
  until "$B/kubectl" get serviceaccount default >/dev/null 2>&1; do sleep 0.2; done
}

stages() {
  kwok=$(cd "$here/../../../tools/kwok" && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
  for f in node/fast/node-initialize node/heartbeat-with-lease/node-heartbeat-with-lease pod/fast/pod-ready pod/fast/pod-complete pod/fast/pod-delete; do
    cat "$kwok/$f.yaml"
    echo; echo ---
  done >stages.yaml
  cat "$here/test-pods.yaml" >>stages.yaml
}

down() { # etcd and the API server without ceremony: a graceful end takes seconds
  for p in kwok sched kcm; do [ ! -f $p.pid ] || kill "$(cat $p.pid)" 2>/dev/null || :; rm -f $p.pid; done
  for p in apiserver etcd; do [ ! -f $p.pid ] || kill -9 "$(cat $p.pid)" 2>/dev/null || :; rm -f $p.pid; done
  rm -rf "$D/etcd"
}

"$1"
