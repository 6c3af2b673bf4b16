# Container images with Docker or Podman; make image makes the CPU image without either, of the same files.
#
#   docker build --target cpu  -t comfyrun:VERSION --build-arg VERSION=VERSION .
#   docker build --target cuda -t comfyrun:VERSION-cuda --build-arg VERSION=VERSION --build-arg CUDA_LIBRARY=FOLDER .
#
# FROM lines have names without a registry; the arguments take others, best by digest: GO_IMAGE=MIRROR/golang@sha256:…
# A container runs as user 65532, needs no right, and writes to /data (its home) and /tmp only:
#
#   docker run --read-only --tmpfs /tmp -v comfyrun:/data --cap-drop ALL --security-opt no-new-privileges comfyrun:VERSION …

ARG GO_IMAGE=golang:1.26-bookworm
ARG CUDA_IMAGE=nvidia/cuda:12.9.1-cudnn-runtime-ubuntu24.04

# The program, the ONNX Runtime library that it is pinned to, and what of Debian they need to be opened, in /root-cpu.
FROM ${GO_IMAGE} AS build
ARG VERSION=devel
ARG SOURCE_DATE_EPOCH=0
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=1 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o bin/comfyrun-image ./cmd/comfyrun \
 && bin/comfyrun-image runtime install --source pip --dir lib \
 && go run ./charts/image --program bin/comfyrun-image --version "${VERSION}" --epoch "${SOURCE_DATE_EPOCH}" --root /root-cpu

FROM scratch AS cpu
ARG VERSION=devel
LABEL org.opencontainers.image.title="comfyrun" org.opencontainers.image.licenses="Apache-2.0" org.opencontainers.image.version="${VERSION}"
COPY --from=build /root-cpu/ /
COPY --from=build --chown=65532:65532 /root-cpu/data/ /data/
ENV PATH=/usr/local/bin:/usr/bin:/bin HOME=/data COMFYRUN_HOME=/data TMPDIR=/tmp
WORKDIR /data
USER 65532:65532
EXPOSE 8188
ENTRYPOINT ["/usr/local/bin/comfyrun"]

# Prepared for the program that computes on CUDA; today's --device knows the CPU only. runtime install fetches no build of
# build context with the libonnxruntime.so of the pinned version and its libonnxruntime_providers_*.so.
FROM ${CUDA_IMAGE} AS cuda
ARG VERSION=devel
ARG CUDA_LIBRARY=lib-cuda
LABEL org.opencontainers.image.title="comfyrun" org.opencontainers.image.licenses="Apache-2.0" org.opencontainers.image.version="${VERSION}"
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libstdc++6 && rm -rf /var/lib/apt/lists/*
COPY --from=build --chown=65532:65532 /root-cpu/data/ /data/
COPY --from=build /root-cpu/usr/local/bin/ /usr/local/bin/
COPY --from=build /root-cpu/usr/share/doc/comfyrun/ /usr/share/doc/comfyrun/
COPY ${CUDA_LIBRARY}/ /usr/local/lib/
ENV HOME=/data COMFYRUN_HOME=/data TMPDIR=/tmp CUDA_CACHE_PATH=/tmp/cuda
WORKDIR /data
USER 65532:65532
EXPOSE 8188
ENTRYPOINT ["/usr/local/bin/comfyrun"]
