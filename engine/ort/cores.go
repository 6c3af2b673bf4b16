package ort

import (
	"os"
	"path/filepath"
	"runtime"
)

// physicalCores returns the number of cores that a run should use: the
// machine's cores without their second hardware threads, which only get in the
// way of matrix products, but no more than Go may use, which knows the limits
// of a container.
func physicalCores() int {
	limit := runtime.GOMAXPROCS(0)
	files, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")
	cores := map[string]bool{}
	for _, f := range files {
		if siblings, err := os.ReadFile(f); err == nil {
			cores[string(siblings)] = true
		}
	}
	if len(cores) == 0 {
		return limit
	}
	return min(limit, len(cores))
}
