// Package charttest holds the tests of what deploys comfyrun: the Helm chart, the Kustomize overlays, the Helmfile and the
// Argo CD examples. They run the real tools, which make test-charts builds, and have the build tag charts.
//
// A render is what one of the tools prints for one set of values. An object is one document of it.
package charttest
