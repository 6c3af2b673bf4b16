package main

import (
	"errors"
	"fmt"
	"strings"
)

// countGPUs says how many GPUs there are that --device=cuda stands for.
func countGPUs() (int, error) { return 0, errors.New("GPUs are not looked for") }

// severalDevices reads --device of commands that run several workflows at a time: devices separated by commas, and cuda for
// every GPU. A device that occurs twice runs two workflows at a time. gpus counts the GPUs; what it cannot tell is left to
// whoever opens the device, and says why not.
func severalDevices(text string, gpus func() (int, error)) (devices []string) {
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		n := 0
		if name == "cuda" {
			n, _ = gpus()
		}
		if n < 1 {
			devices = append(devices, name)
		}
		for i := range n {
			devices = append(devices, fmt.Sprintf("cuda:%d", i))
		}
	}
	return devices
}
