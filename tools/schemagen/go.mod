// schemagen writes the JSON schemas that kubeconform checks manifests with: make k8s-lint runs it.
module github.com/comfyrun/comfyrun/tools/schemagen

go 1.26.0

require sigs.k8s.io/yaml v1.6.0

require go.yaml.in/yaml/v2 v2.4.2 // indirect
