package nn

// Target says what a graph is built for. The zero value is the CPU in fp32.
type Target struct {
	Provider  Provider
	Precision Precision
	// PlainAttention writes attention as matrix products and a softmax, for
	// devices on which the fused operator computes wrong.
	PlainAttention bool
	// PlainNorm writes group norms as means, for devices that are programs on
	// the processor: the operator takes them twenty times as long.
	PlainNorm bool
}

// Provider is an execution provider of ONNX Runtime; which operators there are,
// and which are fast, depends on it.
type Provider string

// The providers that graphs are built for.
const (
	CPU    Provider = "cpu" // the zero value is the same
	CUDA   Provider = "cuda"
	WebGPU Provider = "webgpu"
)

// Precision is the type of numbers that a graph computes with. Its inputs and
// outputs are fp32 in any case.
type Precision string

// The precisions.
const (
	Float32 Precision = "fp32" // the zero value is the same
	Float16 Precision = "fp16"
)

func (t Target) onCPU() bool { return t.Provider == CPU || t.Provider == "" }
