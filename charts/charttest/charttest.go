// Package charttest holds the tests of what deploys comfyrun: the Helm chart, the Kustomize overlays, the Helmfile and the
// Argo CD examples. They run the real tools, which make builds:
// build tag charts what make k8s-lint runs, render what takes more tools (make k8s-render), cluster what takes a control plane (make k8s-test),
// keda what takes KEDA beside it (make k8s-keda).
//
// A render is what one of the tools prints for one set of values. An object is one document of it.
package charttest
