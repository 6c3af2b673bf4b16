package web

import (
	"os"
	"strconv"
	"strings"
)

// memory returns the bytes of the machine's memory, and those that are free for programs: what the kernel calls
// available, or what a container's limit leaves if that is less.
func memory() (total, free uint64) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kilobytes, _ := strconv.ParseUint(fields[1], 10, 64) // 0 if it is no number
		switch fields[0] {
		case "MemTotal:":
			total = kilobytes << 10
		case "MemAvailable:":
			free = kilobytes << 10
		}
	}
	return limited(total, free)
}

// limited applies the limit of a control group, version 2.
func limited(total, free uint64) (uint64, uint64) {
	limit, err := readNumber("/sys/fs/cgroup/memory.max")
	if err != nil || limit >= total {
		return total, free
	}
	used, err := readNumber("/sys/fs/cgroup/memory.current")
	if err != nil {
		return limit, min(free, limit)
	}
	return limit, min(free, limit-min(used, limit))
}

// readNumber reads a file of one number; "max" is none.
func readNumber(name string) (uint64, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
}
