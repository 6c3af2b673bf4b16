package ort

import (
	"errors"
	"strings"
	"testing"
)

// What ONNX Runtime says, and what is made of it. Messages of CUDA are those of
// the library's source, the others were seen.
func TestWrap(t *testing.T) {
	for _, c := range []struct {
		provider, message string
		code              Code
		needed            int64
		want              string
	}{
		{"cpu", "Non-zero status code returned while running Add node. Status Message: bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 281474976710656", CodeMemory, 281474976710656, ""},
		{"cuda:0", "bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, Stream*) Failed to allocate memory for requested buffer of size 1073741824", CodeMemory, 1 << 30, ""},
		{"cuda:0", "Available memory of 100 is smaller than requested bytes of 4096", CodeMemory, 4096, ""},
		{"cuda:1", "CUDA failure 2: out of memory ; GPU=1 ; hostname=h ; file=cuda_allocator.cc ; line=66 ; expr=cudaMalloc((void**)&p, size);", CodeMemory, 0, ""},
		{"cuda:1", "Error creating C session: /src/cuda_call.cc:154 std::enable<T, void> CudaCall(int) /src/cuda_call.cc:146 CudaCall() [with T = Status] CUDA failure 2: out of memory ; GPU=0 ; hostname=vm ; file=/src/cuda_allocator.cc ; line=47 ; expr=cudaMalloc((void**)&p, size);",
			CodeMemory, 0, "create session: CUDA failure 2: out of memory; expr=cudaMalloc((void**)&p, size);"},
		{"cuda:0", "running Sin node. Name:'sin' Status Message: /src/bfc_arena.cc:360 void* BFCArena::AllocateRawInternal(size_t, bool, Stream*) Failed to allocate memory for requested buffer of size 4096",
			CodeMemory, 4096, "create session: running Sin node. Name:'sin' Status Message: Failed to allocate memory for requested buffer of size 4096"},
		{"cuda:0", "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", CodeMemory, 0, ""},
		{"cuda:0", "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1", CodeDevice, 0, "comfyrun runtime info"},
		{"cuda:0", "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1", CodeDevice, 0, ""},
		{"cuda:0", "CUDA failure 700: an illegal memory access was encountered ; GPU=0", CodeDevice, 0, ""},
		{"cuda:7", "Invalid device ID: 7, must be between 0 (inclusive) and 1 (exclusive).", CodeDevice, 0, ""},
		{"cuda:0", "/x/provider_bridge_ort.cc:1988 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library /lib/cuda/libonnxruntime_providers_cuda.so with error: libcuda.so.1: cannot open",
			CodeDevice, 0, "create session: Failed to load library /lib/cuda/libonnxruntime_providers_cuda.so with error: libcuda.so.1: cannot open; see: comfyrun runtime info"},
		{"cuda:0", `/x/info.cc:62 FromProviderOptions() [ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:187 Parse Failed to parse provider option "device_id": CUDA failure 35: CUDA driver version is insufficient`,
			CodeDevice, 0, `create session: Failed to parse provider option "device_id": CUDA failure 35`},
		{"cuda:0", "OrtSessionOptionsAppendExecutionProvider_Cuda: Failed to load shared library", CodeDevice, 0, ""},
		{"webgpu", "/x/webgpu_context.cc:136 lambda()> adapter_result.status == Success was false. Failed to get a WebGPU adapter: No supported adapters", CodeDevice, 0,
			"create session: Failed to get a WebGPU adapter: No supported adapters; WebGPU needs Vulkan"},
		{"webgpu", "WebGPU validation failed. Buffer size (4294967296) exceeds the max buffer size limit (1073741824).", CodeMemory, 4 << 30, ""},
		{"webgpu", "WebGPU validation failed. [Invalid Buffer (unlabeled)] is invalid due to a previous error.", CodeMemory, 0, ""},
		{"webgpu", "WebGPU device lost (2): gone", CodeDevice, 0, ""},
		{"webgpu", "Failed to create GPU buffer: size=128, usage=140.", CodeMemory, 128, ""},
		{"webgpu", "Could not find an implementation for GroupNorm(1)", CodeModel, 0, ""},
		{"cpu", "No Op registered for NoSuchOperator", CodeModel, 0, ""},
	} {
		var e *Error
		if err := wrap("create session", CodeModel, c.provider, errors.New(c.message)); !errors.As(err, &e) {
			t.Fatal(err)
		}
		text := strings.Replace(e.Error(), " on "+c.provider, "", 1)
		if e.Code != c.code || e.Needed != c.needed || !strings.Contains(text, c.want) {
			t.Errorf("%s: %s, %d bytes\n%s", c.message, e.Code, e.Needed, text)
		}
	}
}
