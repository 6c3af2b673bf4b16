# Container images with Docker or Podman; make image makes the CPU image without either, of the same files.
#
#   docker build --target cpu  -t comfyrun:VERSION --build-arg VERSION=VERSION .
#   docker build --target cuda -t comfyrun:VERSION-cuda --build-arg VERSION=VERSION .
#
# FROM lines have names without a registry; the arguments take others, best by digest: GO_IMAGE=MIRROR/golang@sha256:…
# A container runs as user 65532, needs no right, and writes to /data (its home) and /tmp only:
#
#   docker run --read-only --tmpfs /tmp -v comfyrun:/data --cap-drop ALL --security-opt no-new-privileges comfyrun:VERSION …

ARG GO_IMAGE=golang:1.26-bookworm
ARG CUDA_IMAGE=debian:bookworm-slim

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

# The build of ONNX Runtime for CUDA with the libraries of CUDA 13 and cuDNN 9, from PyPI: 1.2 GB to fetch, 1.6 GB in the
# image. NVIDIA's are under NVIDIA's licence terms, /usr/local/lib/cuda/LICENSE.cuda and LICENSE.cudnn: read them before the image
# is given to others. The driver is the host's; NVIDIA's container toolkit brings it in (docker run --gpus all).
FROM build AS cuda-libraries
RUN bin/comfyrun-image runtime install --provider cuda --dir /cuda-lib

FROM ${CUDA_IMAGE} AS cuda
ARG VERSION=devel
LABEL org.opencontainers.image.title="comfyrun" org.opencontainers.image.licenses="Apache-2.0" org.opencontainers.image.version="${VERSION}"
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libstdc++6 zlib1g && rm -rf /var/lib/apt/lists/*
COPY --from=build --chown=65532:65532 /root-cpu/data/ /data/
COPY --from=cuda-libraries /cuda-lib/ /usr/local/lib/
COPY --from=build /root-cpu/usr/local/ /usr/local/
COPY --from=build /root-cpu/usr/share/doc/comfyrun/ /usr/share/doc/comfyrun/
ENV HOME=/data COMFYRUN_HOME=/data TMPDIR=/tmp CUDA_CACHE_PATH=/tmp/cuda
ENV COMFYRUN_DEVICE=auto NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /data
USER 65532:65532
EXPOSE 8188
ENTRYPOINT ["/usr/local/bin/comfyrun"]
