package ort

import (
	"regexp"
	"strconv"
	"strings"
)

// Code says what kind of failure an Error is. The binding does not hand on
// ONNX Runtime's own numeric codes.
type Code string

// The kinds of failure.
const (
	CodeLibrary Code = "library" // the library is missing or cannot be loaded
	CodeVersion Code = "version" // the library has a version that is refused
	CodeDevice  Code = "device"  // the device, its driver or its libraries do not work
	CodeModel   Code = "model"   // the graph or a weight file is not accepted
	CodeInput   Code = "input"   // tensors do not fit the graph, or the session is closed
	CodeMemory  Code = "memory"  // memory ran out, the host's or the device's
	CodeRun     Code = "run"     // an operator failed
)

// Error is a failure of ONNX Runtime or of a call to it.
type Error struct {
	Op       string // what was done, with the session's name: `run session "unet"`
	Code     Code
	Provider string // execution provider or device, "" where none is concerned
	Message  string
	Needed   int64 // bytes that were asked for, of CodeMemory; 0 where it is not known
}

// Error returns "operation: message" with the provider, if any.
func (e *Error) Error() string {
	s := e.Op
	if e.Provider != "" {
		s += " on " + e.Provider
	}
	return s + ": " + e.Message
}

// wrap makes an Error of what the binding returned.
func wrap(op string, code Code, provider string, err error) error {
	e := &Error{Op: op, Code: code, Provider: provider, Message: err.Error()}
	_, device := err.(unusable)
	switch {
	case says(e.Message, memorySigns):
		e.Code, e.Needed = CodeMemory, needed(e.Message)
		e.Message = plain(e.Message)
	case device || provider != "cpu" && says(e.Message, deviceSigns):
		e.Code = CodeDevice
		e.Message = plain(places.ReplaceAllString(e.Message, ""))
		if advice := advise(provider, e.Message); advice != "" {
			e.Message += "; " + advice
		}
	}
	return e
}

// What ONNX Runtime's messages say when memory ran out: its own arena, the
// heap, CUDA and its libraries, and Dawn, which WebGPU stands on. There a buffer
// that could not be made is noticed when it is used, and a tensor beyond the
// largest buffer is one of too many parts.
var memorySigns = regexp.MustCompile(`Failed to allocate memory|smaller than requested bytes|bad_alloc|BFCArena|BFC Arena ran out|out of memory|Out of memory|` +
	`CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_(ALLOC_FAILED|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)|cudaErrorMemoryAllocation|` +
	`VK_ERROR_OUT_OF_\w+_MEMORY|Failed to create GPU buffer|max buffer size limit|Invalid Buffer|Too many storage buffers`)

// What they say when the device, its driver or a library of it is at fault.
var deviceSigns = regexp.MustCompile(`Failed to (get|create) (a WebGPU |GPU )?(adapter|device|instance)|[Nn]o supported adapters|Failed to get a WebGPU|` +
	`CUDA failure|CUDA error|CUDNN failure|CUBLAS failure|cudaGetDeviceCount|Invalid device ID|Failed to load (shared )?library|` +
	`[Dd]evice (is |was )?lost|VK_ERROR_|CUDA execution provider is not enabled`)

// Where in ONNX Runtime's source a message comes from, and what was checked there.
var places = regexp.MustCompile(`^.* was false\. |^.*\[ONNXRuntimeError\] : \d+ : \w+ : (\w+\.h:\d+ \w+ )?`)

// What ONNX Runtime says of itself around a failure of CUDA or of its own arena.
var (
	beforeFailure = regexp.MustCompile(`^.*/cuda_call\.cc:\d+ .*(C(UDA|UDNN|UBLAS) failure)`)
	insideFailure = regexp.MustCompile(` ?; (GPU|hostname|file|line)=[^;]*`)
	arena         = regexp.MustCompile(`/\S+/bfc_arena\.cc:\d+ [^()]*\([^()]*\) `)
)

// plain returns a message without them.
func plain(message string) string {
	message = insideFailure.ReplaceAllString(beforeFailure.ReplaceAllString(message, "$1"), "")
	return strings.TrimSpace(arena.ReplaceAllString(message, ""))
}

func says(message string, signs *regexp.Regexp) bool { return signs.MatchString(message) }

var sizes = regexp.MustCompile(`(?:requested buffer of size |requested bytes of |trying to allocate |size=|[Bb]uffer size \(?)(\d+)`)

// needed returns the bytes that a message says were asked for, or 0.
func needed(message string) int64 {
	m := sizes.FindStringSubmatch(message)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// advise says what may help a device that does not work.
func advise(provider, message string) string {
	switch {
	case provider == "webgpu" && strings.Contains(message, "adapter"):
		return "WebGPU needs Vulkan: the loader libvulkan.so.1 (Debian: libvulkan1) and a driver " +
			"(of the GPU's maker or mesa-vulkan-drivers; in containers NVIDIA_DRIVER_CAPABILITIES with graphics)"
	case strings.HasPrefix(provider, "cuda"):
		return "see: comfyrun runtime info"
	}
	return ""
}
