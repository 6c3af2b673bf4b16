// Package gpu finds the machine's GPUs by asking their drivers: NVIDIA's
// through libcuda and libnvidia-ml, all others through Vulkan. It needs none of
// them to be there and computes nothing.
//
// Vocabulary: a driver is what the system's administrator installs, a kernel
// module and libraries that belong to it. A GPU is what CUDA counts, in CUDA's
// order (CUDA_VISIBLE_DEVICES is obeyed). An adapter is what Vulkan lists, which
// may be a program that draws on the processor.
package gpu

import "fmt"

// System says where drivers are. The zero value takes the names under which
// drivers install themselves; tests put others.
type System struct {
	CUDA   string // "" is libcuda.so.1
	NVML   string // "" is libnvidia-ml.so.1
	Vulkan string // "" is libvulkan.so.1
	Kernel string // the NVIDIA kernel module's version; "" is /proc/driver/nvidia/version
}

// Nvidia is NVIDIA's driver and what it drives.
type Nvidia struct {
	Driver string  `json:"driver"` // release, such as "580.159.04"; "" where it is not known
	CUDA   Version `json:"cuda"`   // the newest CUDA that the driver knows
	GPUs   []GPU   `json:"gpus"`   // by index
}

// GPU is one of NVIDIA's.
type GPU struct {
	Index      int     `json:"index"` // CUDA's number
	Name       string  `json:"name"`
	Capability Version `json:"capability"` // compute capability, what generation of GPU it is
	Bus        string  `json:"bus"`        // PCI address
	Total      int64   `json:"total"`      // bytes of memory
	Free       int64   `json:"free"`       // of them free; 0 where it is not known
}

// Version is a major and a minor number.
type Version struct{ Major, Minor int }

// String returns "13.0".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// MarshalText returns String.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (v *Version) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(string(text), "%d.%d", &v.Major, &v.Minor)
	return err
}

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// Kind says what an adapter is.
type Kind string

// The kinds of adapters.
const (
	Discrete   Kind = "discrete"   // a card with memory of its own
	Integrated Kind = "integrated" // in the processor, with its memory
	Virtual    Kind = "virtual"    // a virtual machine's
	Software   Kind = "cpu"        // a program on the processor
	Other      Kind = "other"
)

// Adapter is a device that Vulkan lists.
type Adapter struct {
	Name   string `json:"name"`
	Kind   Kind   `json:"kind"`
	Vulkan string `json:"vulkan"` // version that it speaks, such as "1.3.280"
	Memory int64  `json:"memory"` // bytes of its largest heap of its own
}
