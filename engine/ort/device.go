package ort

import (
	"fmt"
	"strconv"
	"strings"
)

// Device is where sessions run. The zero value is the CPU.
type Device struct {
	Provider string // "cpu", "cuda" or "webgpu"; "" is "cpu"
	Index    int    // of several GPUs; cuda only
}

// ParseDevice reads "cpu", "cuda", "cuda:1" or "webgpu"; "" is "cpu".
func ParseDevice(s string) (Device, error) {
	provider, index, numbered := strings.Cut(s, ":")
	d := Device{Provider: provider}
	if provider == "" {
		d.Provider = "cpu"
	}
	bad := fmt.Errorf("device %q is not known; known are cpu, cuda, cuda:N and webgpu", s)
	switch d.Provider {
	case "cpu", "webgpu":
		if numbered {
			return Device{}, bad
		}
	case "cuda":
		n, err := strconv.ParseUint(index, 10, 8)
		if numbered && err != nil {
			return Device{}, bad
		}
		d.Index = int(n)
	default:
		return Device{}, bad
	}
	return d, nil
}

// String returns what ParseDevice reads.
func (d Device) String() string {
	switch {
	case d.Provider == "":
		return "cpu"
	case d.Provider == "cuda":
		return fmt.Sprintf("cuda:%d", d.Index)
	}
	return d.Provider
}

// Capabilities are what a device turned out to have when it was tried.
type Capabilities struct {
	Name string // of the hardware, "" where it is not known
	// Software says that the device is emulated by the processor.
	Software bool
	// Float16 says that half precision computes right.
	Float16 bool
	// Attention says that the fused attention operator computes right.
	Attention bool
	// Total and Free are bytes of the device's memory, 0 where not known.
	Total, Free int64
}
