#!/bin/sh
# keda.sh up|down FOLDER: KEDA's operator and metrics adapter, as processes, for the control plane that cluster.sh has started with
# FOLDER. Its definitions must be installed. It needs openssl, and in bin/tools keda-operator, keda-adapter and kubectl.
set -e
here=$(cd "$(dirname "$0")" && pwd)
B=$here/../../../bin/tools D=$2
mkdir -p "$D/certs-keda"
cd "$D"

spawn() { name=$1; shift; setsid nohup "$@" >"$name.log" 2>&1 & echo $! >"$name.pid"; }

certificates() { # of the link between operator and adapter, under the names that KEDA asks for
  cd certs-keda
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=keda-ca -days 30
  openssl req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=keda-operator
  printf 'subjectAltName=DNS:localhost,DNS:keda-operator,DNS:keda-operator.keda.svc,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' >ext
  openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out tls.crt -days 30 -extfile ext
  cd ..
}

# The API server reaches the adapter through a Service that is a name for this machine.
service() {
  "$B/kubectl" create namespace keda
  "$B/kubectl" apply -f - <<END
apiVersion: v1
kind: Service
metadata: {name: keda-operator-metrics-apiserver, namespace: keda}
spec: {type: ExternalName, externalName: localhost, ports: [{port: 16447}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.external.metrics.k8s.io}
spec:
  group: external.metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: keda-operator-metrics-apiserver, namespace: keda, port: 16447}
END
}

up() {
  [ -f certs-keda/tls.crt ] || certificates 2>/dev/null
  export KUBECONFIG=$D/kubeconfig
  service
  export POD_NAMESPACE=keda WATCH_NAMESPACE= KEDA_CLUSTER_OBJECT_NAMESPACE=keda # WATCH_NAMESPACE must be set, even though empty
  spawn keda-operator "$B/keda-operator" --kubeconfig=kubeconfig --leader-elect=false --cert-dir="$D/certs-keda" --ca-dir="$D/certs-keda" \
    --metrics-bind-address=127.0.0.1:16450 --metrics-service-bind-address=127.0.0.1:16452 --health-probe-bind-address=127.0.0.1:16451 \
    --enable-apiservice-patching=false --enable-webhook-patching=false
  spawn keda-adapter "$B/keda-adapter" --kubeconfig=kubeconfig --lister-kubeconfig=kubeconfig --authentication-kubeconfig=kubeconfig \
    --authorization-kubeconfig=kubeconfig --secure-port=16447 --bind-address=127.0.0.1 --cert-dir="$D/certs-keda" \
    --metrics-service-address=localhost:16452 --port=16448
  "$B/kubectl" wait --for=condition=Available apiservice/v1beta1.external.metrics.k8s.io --timeout=120s || {
    tail -5 keda-operator.log keda-adapter.log
    exit 1
  }
}

down() {
  for p in keda-adapter keda-operator; do [ ! -f $p.pid ] || kill "$(cat $p.pid)" 2>/dev/null || :; rm -f $p.pid; done
}

"$1"
