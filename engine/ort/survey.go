package ort

import (
	"cmp"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/comfyrun/comfyrun/engine/ort/gpu"
)

// Survey is what the machine has for computing on GPUs, and what is missing.
type Survey struct {
	Nvidia *gpu.Nvidia `json:"nvidia,omitempty"` // absent without a driver
	// Refused has the reason for each GPU that this build cannot use, "" for
	// the others, by index.
	Refused []string `json:"refused,omitempty"`
	// NvidiaProblem says why no GPU can be asked for.
	NvidiaProblem string        `json:"nvidia_problem,omitempty"`
	Adapters      []gpu.Adapter `json:"adapters,omitempty"`
	VulkanProblem string        `json:"vulkan_problem,omitempty"`
	Libraries     []Part        `json:"libraries"` // all that CUDA needs
}

// Part is a shared library that CUDA needs.
type Part struct {
	Name  string `json:"name"`
	Path  string `json:"path,omitempty"` // "" for what belongs to the system
	State string `json:"state"`          // "found", "missing" or why it cannot be loaded
}

// Found is the State of a Part that can be used.
const Found = "found"

// LookAround asks the drivers and tries whether the libraries in a folder that
// InstallCUDA made can be loaded, and what the system must have: the driver,
// and what Linux distributions have anyway. With "" for the folder it looks for
// the latter only.
func LookAround(drivers gpu.System, folder string) *Survey {
	s := &Survey{}
	n, err := drivers.Nvidia()
	if err := refuseDriver(n, err); err != nil {
		s.NvidiaProblem = err.Error()
	}
	if n.Driver != "" || len(n.GPUs) > 0 {
		s.Nvidia = n
	}
	for _, g := range n.GPUs {
		reason := ""
		if err := refuseGPU(g); err != nil {
			reason = err.Error()
		}
		s.Refused = append(s.Refused, reason)
	}
	if s.Adapters, err = drivers.Adapters(); err != nil {
		s.VulkanProblem = err.Error()
	}
	for _, name := range []string{cmp.Or(drivers.CUDA, "libcuda.so.1"), "libstdc++.so.6", "libz.so.1"} {
		s.Libraries = append(s.Libraries, systemPart(name))
	}
	if folder != "" {
		s.Libraries = append(s.Libraries, lookInto(folder)...)
	}
	return s
}

// Usable reports whether there is a GPU that this build can use.
func (s *Survey) Usable() bool {
	if s.NvidiaProblem != "" {
		return false
	}
	for _, reason := range s.Refused {
		if reason == "" {
			return true
		}
	}
	return false
}

// lookInto tries all that InstallCUDA puts into a folder.
func lookInto(folder string) []Part {
	var parts []Part
	for _, w := range cudaWheels {
		for _, m := range w.Members {
			if strings.Contains(m.Name(), ".so") {
				parts = append(parts, filePart(filepath.Join(folder, m.Name())))
			}
		}
	}
	return parts
}

// notFound is what the system says of a library that it does not find.
const notFound = ": cannot open shared object file"

// systemPart tries a library of the system.
func systemPart(name string) Part {
	part := Part{Name: filepath.Base(name), State: Found}
	if err := loadLibrary(name); err != nil && strings.Contains(err.Error(), name+notFound) {
		part.State = "missing"
	} else if err != nil {
		part.State = err.Error()
	}
	return part
}

// filePart tries a library in a folder. Those of ONNX Runtime can be loaded by
// ONNX Runtime only: of them it tries what they are linked against.
func filePart(path string) Part {
	part := Part{Name: filepath.Base(path), Path: path, State: Found}
	var err error
	switch _, absent := os.Stat(path); {
	case absent != nil:
		part.State = "missing"
	case strings.HasPrefix(part.Name, "libonnxruntime"):
		err = linked(path)
	default:
		err = loadLibrary(path)
	}
	if err != nil {
		part.State = err.Error()
	}
	return part
}

// linked tries the libraries that a library is linked against.
func linked(path string) error {
	file, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	names, err := file.ImportedLibraries()
	if err != nil {
		return err
	}
	var missing []string
	for _, name := range names {
		if loadLibrary(name) != nil {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return errors.New("needs " + strings.Join(missing, ", "))
	}
	return nil
}
