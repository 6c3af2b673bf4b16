# make help lists the targets. Needed: Go, a C compiler, make, and npm or pip (make lib fetches ONNX Runtime through one
# of them).

GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 10s
BENCH       ?= .

# Packages that need cgo, and ONNX Runtime for their tests.
NATIVE := /(cmd/comfyrun|engine/arch/archtest|engine/diffusion|engine/ort(/[a-z]+)?|nodes|tools/gpubench)$$
SOURCES = $(shell git ls-files --cached --others --exclude-standard '*.go')

.DEFAULT_GOAL := help
.PHONY: help run test test-pure test-native test-clients test-browser test-slow test-xl test-full bench fuzz parity lint build lib clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build lib ## draw the default workflow with the demo model: a PNG appears in output/
	bin/comfyrun exec workflows/default.json

# gin without its codec for MessagePack, which nothing here speaks, makes a program that is 9 MB smaller.
build: ## compile bin/comfyrun
	CGO_ENABLED=1 $(GO) build -trimpath -tags nomsgpack -ldflags '-X main.version=$(VERSION)' -o bin/comfyrun ./cmd/comfyrun

lib: $(if $(wildcard lib/libonnxruntime*),,lib-install) ## fetch the pinned ONNX Runtime into lib/ unless it is there

.PHONY: lib-install
lib-install: build
	bin/comfyrun runtime install --dir lib

test: test-pure test-native $(if $(shell command -v npm),test-webgpu,without-webgpu) k8s-lint ## run the tests: vet, pure packages with -race and without cgo, then the rest, test-webgpu and k8s-lint

test-pure:
	@echo '== go vet'
	$(GO) vet ./...
	@echo '== packages that build without cgo'
	CGO_ENABLED=0 $(GO) build $$($(GO) list ./... | grep -vE '$(NATIVE)')
	@echo '== tests of pure packages, with the race detector'
	$(GO) test -race $$($(GO) list ./... | grep -vE '$(NATIVE)')

test-native: lib
	@echo '== tests that run ONNX Runtime'
	$(GO) test $$($(GO) list ./... | grep -E '$(NATIVE)')

# Tests named TestWebGPU…, in whichever packages hold files with that tag. SwiftShader is a Vulkan driver that computes on
# the CPU; it lies with its own Vulkan loader in npm's package of Chromium for servers, or in an installed Chromium.
# Mesa's lavapipe is another, some ten times as fast, which apt fetches: sampling and golden workflows run on that where it can be had.
.PHONY: test-webgpu
test-webgpu: lib .cache/swiftshader ## tests on WebGPU without a GPU, on SwiftShader and lavapipe (build tag webgpu; needs npm, or Chromium and libvulkan1; and apt)
	-@$(MAKE) --no-print-directory .cache/lavapipe
	@echo '== tests on WebGPU'
	@packages=$$(git grep -l --untracked '^//go:build webgpu' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's|^|./|'); \
	if [ -d .cache/lavapipe ]; then set -ex; \
	  $(ON_SWIFTSHADER) $(WEBGPU_TEST) -skip '^TestWebGPUGolden$$/^(file-dtypes|hires-chain)$$' $$(echo "$$packages" | grep -v /diffusion$$); \
	  $(ON_LAVAPIPE) $(WEBGPU_TEST) ./engine/diffusion; \
	  $(MAKE) --no-print-directory test-webgpu-goldens; \
	else set -ex; \
	  $(ON_SWIFTSHADER) $(WEBGPU_TEST) $$packages; \
	  echo '== all goldens on WebGPU: NOT RUN, there is no lavapipe (see above); a few ran on SwiftShader'; \
	fi

WEBGPU_TEST := $(GO) test -count=1 -timeout 30m -tags webgpu -run '^TestWebGPU'
ON_SWIFTSHADER := VK_DRIVER_FILES=$(CURDIR)/.cache/swiftshader/vk_swiftshader_icd.json LD_LIBRARY_PATH=$(CURDIR)/.cache/swiftshader
ON_LAVAPIPE := VK_DRIVER_FILES=$(CURDIR)/.cache/lavapipe/lvp_icd.json LD_LIBRARY_PATH=$(CURDIR)/.cache/lavapipe/lib \
  MESA_SHADER_CACHE_DIR=$(CURDIR)/.cache/mesa

.PHONY: without-webgpu
without-webgpu:
	@echo "== make test-webgpu: NOT RUN, there is no npm, and pip's build of ONNX Runtime has no WebGPU"

# Each process computes on one core: compiling shaders is not parallel, and a device has one queue. They share what was compiled.
GOLDEN_PROCESSES ?= $(shell n=$$(nproc); echo $$((n < 8 ? n : 8)))
.PHONY: test-webgpu-goldens
test-webgpu-goldens: lib .cache/lavapipe ## all golden workflows on WebGPU, on lavapipe, in a process for each core
	@echo '== all goldens on WebGPU, in $(GOLDEN_PROCESSES) processes'
	$(GO) test -c -tags webgpu -o .cache/goldens.test ./nodes
	rm -rf .cache/goldens && mkdir -p .cache/goldens
	@cd nodes && seq $(GOLDEN_PROCESSES) | \
	$(ON_LAVAPIPE) LP_NUM_THREADS=1 xargs -P $(GOLDEN_PROCESSES) -I{} \
	  ../.cache/goldens.test -test.timeout 2h -test.run '^TestWebGPUGolden$$' -all-goldens -divided ../.cache/goldens
	@echo "== $$(ls .cache/goldens | wc -l) golden workflows passed on WebGPU"

.cache/lavapipe:
	tools/lavapipe/fetch.sh $@.part
	rm -rf $@ && mv $@.part $@

SWIFTSHADER := @sparticuz/chromium@153.0.0
SWIFTSHADER_SHA256 := 20e5656fcdcf4118ede85edfb9d6bb9cc1bbb7ffb8b75622fffbcf36a835c3c0
UNBROTLI := const z = require("zlib"); process.stdin.pipe(z.createBrotliDecompress()).pipe(process.stdout)

.cache/swiftshader:
	rm -rf $@.part && mkdir -p $@.part
	cd $@.part && if npm pack --silent $(SWIFTSHADER) >/dev/null; then \
	  echo '$(SWIFTSHADER_SHA256) ' *.tgz | sha256sum --check --quiet && \
	  tar xzOf *.tgz package/bin/swiftshader.tar.br | node -e '$(UNBROTLI)' | tar x && rm *.tgz; \
	else \
	  ln -s /usr/lib/chromium/libvk_swiftshader.so /usr/lib/chromium/vk_swiftshader_icd.json .; \
	fi
	test -e $@.part/libvk_swiftshader.so -a -e $@.part/vk_swiftshader_icd.json
	mv $@.part $@

test-clients: lib .cache/clients ## run public clients of ComfyUI's API (npm, pip) against the server (build tag clients)
	$(GO) test -count=1 -tags clients -run '^TestClients$$' ./cmd/comfyrun

CLIENTS := cmd/comfyrun/testdata/clients
.cache/clients: $(CLIENTS)/package-lock.json $(CLIENTS)/requirements.txt
	rm -rf $@ && mkdir -p $@
	cp $(CLIENTS)/package.json $(CLIENTS)/package-lock.json $@
	cd $@ && npm ci --no-audit --no-fund --ignore-scripts
	python3 -m venv $@/venv && $@/venv/bin/pip install --quiet -r $(CLIENTS)/requirements.txt

test-browser: lib .cache/frontend/1.27.10 .cache/frontend/1.58.1 ## open the page and ComfyUI's editor in Chromium, which must be installed (build tag browser)
	$(GO) test -count=1 -tags browser -run '^Test(Frontend|Page)' ./cmd/comfyrun ./web

.cache/frontend/%:
	mkdir -p $@.part
	cd $@.part && python3 -m pip download --quiet --no-deps -d . comfyui-frontend-package==$* && python3 -m zipfile -e *.whl . && rm *.whl
	mv $@.part $@

test-slow: lib ## run the tests that take minutes too (build tag slow)
	$(GO) test -timeout 60m -tags slow ./...

.PHONY: test-cuda-libs
test-cuda-libs: lib-cuda ## all that CUDA needs is installed (1.2 GB, once) and can be loaded; no GPU is needed (build tag cudalibs)
	$(GO) test -count=1 -tags cudalibs -run '^TestCUDA(Libraries|Options)$$' ./cmd/comfyrun ./engine/ort

# Stand-ins for NVIDIA's libraries are compiled by the tests. Of what CUDA needs only ONNX Runtime's part is fetched, 250 MB.
.PHONY: test-cuda-null
test-cuda-null: lib $(if $(wildcard lib/cuda/libonnxruntime_providers_cuda.so),,.cache/onnxruntime-gpu) ## ONNX Runtime's CUDA provider on a GPU that computes nothing: placement, copies, memory (build tag nullcuda)
	$(GO) test -count=1 -timeout 30m -tags nullcuda -run '^TestNullCUDA' \
	  $$(git grep -l --untracked '^//go:build nullcuda$$' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's|^|./|')

GPU_RUNTIME := onnxruntime-gpu==1.30.0
GPU_RUNTIME_SHA256 := 6acc0f4b3d5ac5f2984432faa59dd8fcce6775f8b43a7140afa0f322c7a703b1
.cache/onnxruntime-gpu:
	rm -rf $@.part && mkdir -p $@.part
	cd $@.part && python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 -d . $(GPU_RUNTIME) && \
	  echo '$(GPU_RUNTIME_SHA256) ' *.whl | sha256sum --check --quiet && \
	  python3 -m zipfile -e *.whl . && mv onnxruntime/capi/libonnxruntime*.so* . && rm -r *.whl onnxruntime*/
	mv $@.part $@

test-xl: lib ## one step of SDXL at its real sizes: 7 GB of checkpoint, 11 of converted weights (build tag xl)
	$(GO) test -timeout 60m -tags xl -run '^TestFullXL$$' -v ./engine/diffusion

TOOLS := minio versitygw
LINT_TOOLS := helm3 helm-unittest kubeconform kustomize schemagen
RENDER_TOOLS := $(LINT_TOOLS) helm4 helmfile promtool

tools: $(TOOLS:%=bin/tools/%) ## build the servers that tests talk to, from the Go module proxy (minutes)

# Each tool is a module of its own, so that none decides about the versions of another or of the program.
bin/tools/%: tools/%/go.mod tools/%/go.sum
	cd tools/$* && CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o ../../$@ $$($(GO) list -f '{{.ImportPath}}' tool)

# What kubeconform checks with: Kubernetes' own types, and those of the operators whose objects the chart makes.
SCHEMAS := k8s.io/kubernetes@v1.36.3/api/openapi-spec/v3 \
  github.com/kedacore/keda/v2@v2.21.0/config/crd/bases \
  github.com/prometheus-operator/prometheus-operator@v0.85.0/example/prometheus-operator-crd \
  github.com/argoproj/argo-cd/v3@v3.2.0/manifests/crds \
  sigs.k8s.io/gateway-api@v1.4.0/config/crd/standard

bin/tools/schemagen: tools/schemagen/main.go

.cache/schemas: Makefile bin/tools/schemagen
	rm -rf $@ $@.part
	for s in $(SCHEMAS); do m=$${s%%@*} v=$${s#*@}; $(GO) mod download "$$m@$${v%%/*}" || exit 1; done
	bin/tools/schemagen $@.part $(SCHEMAS:%=$$($(GO) env GOMODCACHE)/%)
	mv $@.part $@

.PHONY: k8s-lint k8s-render k8s-test charts-docs
k8s-lint: $(LINT_TOOLS:%=bin/tools/%) .cache/schemas ## test the Helm chart, Kustomize and Argo CD examples with Helm 3, Kustomize, kubeconform (build tag charts)
	$(GO) test -count=1 -tags charts ./charts/charttest

k8s-render: $(RENDER_TOOLS:%=bin/tools/%) .cache/schemas ## the same with Helm 4, and Helmfile and alerts, too; their tools take minutes to build (build tag render)
	$(GO) test -count=1 -tags render ./charts/charttest

KUBERNETES := etcd kube-apiserver kube-controller-manager kube-scheduler kubectl
KUBERNETES_FLAGS := -s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
  -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36

$(KUBERNETES:%=bin/tools/%): tools/kubernetes/go.mod tools/kubernetes/go.sum
	cd tools/kubernetes && CGO_ENABLED=0 $(GO) build -trimpath -o ../../$@ -ldflags='$(KUBERNETES_FLAGS)' \
	  $(if $(filter %/etcd,$@),go.etcd.io/etcd/server/v3,k8s.io/kubernetes/cmd/$(@F))

k8s-test: k8s-render $(KUBERNETES:%=bin/tools/%) bin/tools/kwok ## k8s-render, then the chart on a real control plane without containers (build tag cluster; needs openssl)
	CRDS='$(patsubst %,$(shell $(GO) env GOMODCACHE)/%,$(filter-out k8s.io/%,$(SCHEMAS)))' $(GO) test -count=1 -timeout 30m -tags cluster -run '^TestCluster$$' -v ./charts/charttest

bin/tools/keda-operator bin/tools/keda-adapter: tools/keda/go.mod tools/keda/go.sum
	cd tools/keda && CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o ../../$@ github.com/kedacore/keda/v2/cmd/$(@F:keda-%=%)

.PHONY: k8s-keda
KEDA_TOOLS := keda-operator keda-adapter kwok nats-server helm3 helm4
k8s-keda: lib $(KUBERNETES:%=bin/tools/%) $(KEDA_TOOLS:%=bin/tools/%) ## let KEDA scale workers on that control plane by a backlog in NATS; KEDA takes a quarter of an hour to build (build tag keda; needs openssl)
	CRDS="$$(cd tools/keda && $(GO) list -m -f '{{.Dir}}' github.com/kedacore/keda/v2)/config/crd/bases" $(GO) test -count=1 -timeout 30m -tags keda -run '^TestKEDA$$' -v ./charts/charttest

charts-docs: bin/tools/helm3 ## write the table of values into the chart's README
	$(GO) test -count=1 -tags charts -run '^TestReadme$$' ./charts/charttest -update

.PHONY: tools test-s3
test-s3: lib tools ## tests of object storage against MinIO and versitygw, and of a full disk; as root (build tag s3)
	$(GO) test -tags s3 ./engine/models/...
	$(GO) test -tags s3 -run '^TestOutputs$$' ./cmd/comfyrun

.PHONY: test-drift
test-drift: $(KUBERNETES:%=bin/tools/%) ## bundle and drift against a real API server (build tag cluster; needs openssl)
	$(GO) test -count=1 -tags cluster -run '^TestDriftOnCluster$$' ./cmd/comfyrun

.PHONY: image test-image
image: lib ## pack comfyrun into a container image, dist/image (OCI layout), on a Debian machine; no container daemon
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/comfyrun-image ./cmd/comfyrun
	$(GO) run ./charts/image --program bin/comfyrun-image --version '$(VERSION)' --revision "$$(git rev-parse HEAD)" --epoch "$$(git log -1 --format=%ct)"

test-image: image ## unpack an image, draw with it in namespaces of its own; as root (build tag image)
	$(GO) test -count=1 -tags image -run '^TestImage$$' ./charts/image

test-full: test test-slow lint ## test, test-slow and lint

bench: lib ## run the benchmarks (BENCH=regexp chooses)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: gpu-bench gpu-bench-build
gpu-bench: gpu-bench-build lib-cuda ## goldens and speed on an NVIDIA GPU, beside PyTorch where python3 has it; dist/gpu-bench, 9 GB (CASES="sd15:512:20:1 …")
	tools/gpubench/run.sh $(CASES)

gpu-bench-build:
	$(GO) build -trimpath -tags nomsgpack -o bin/gpubench ./tools/gpubench
	$(GO) test -c -tags gpu -o bin/golden.test ./nodes

.PHONY: lib-cuda
lib-cuda: $(if $(wildcard lib/cuda/libonnxruntime*),,build)
	$(if $(wildcard lib/cuda/libonnxruntime*),,bin/comfyrun runtime install --provider cuda --dir lib)

fuzz: ## run every fuzz test for FUZZTIME (10s)
	@set -e; for pkg in $$($(GO) list ./... | grep -vE '$(NATIVE)'); do \
	  for name in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$name"; $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

parity: lib ## run every golden workflow, the one of full size too, and write docs/parity.md (minutes, 6 GB of disk)
	$(GO) test ./nodes -timeout 60m -tags slow -count=1 -run '^TestGolden$$' -update

lint: ## gofmt, vet, staticcheck
	@files=$$(gofmt -l $(SOURCES)); [ -z "$$files" ] || { echo "gofmt would change:"; echo "$$files"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) -checks inherit,-U1000 ./...
	$(GO) run $(STATICCHECK) -tests=false -checks U1000 ./... # tests declare fields that only reflection reads

clean: ## remove what make made; lib/ stays
	rm -rf bin output dist .cache
