package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// torch is PyTorch, where there is one.
type torch struct {
	bench   *bench
	usable  bool
	version string
	why     string // it is not usable
}

// torch looks for PyTorch on the same device.
func (b *bench) torch(ctx context.Context) torch {
	if b.python == "" {
		return torch{why: "left out"}
	}
	probe := "import torch, safetensors; d = torch.zeros(1, device='" + b.torchDevice() + "'); print(torch.__version__)"
	out, err := exec.CommandContext(ctx, b.python, "-c", probe).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		lines := strings.Split(text, "\n")
		return torch{why: fmt.Sprintf("not measured: %s: %s", b.python, lines[len(lines)-1])}
	}
	return torch{bench: b, usable: true, version: text}
}

func (t torch) String() string {
	if t.usable {
		return t.version
	}
	return t.why
}

// torchDevice is the device in PyTorch's words; it has no WebGPU.
func (b *bench) torchDevice() string {
	if strings.HasPrefix(b.device, "cuda") {
		return b.device
	}
	return "cpu"
}

// measure times a case by baseline.py, in a process of its own, so that nothing
// stays on the device.
func (t torch) measure(ctx context.Context, checkpoint string, c benchCase) (result, error) {
	script := filepath.Join("tools", "gpubench", "baseline.py")
	dtype := "float16"
	if t.bench.torchDevice() == "cpu" || t.bench.precision == "fp32" {
		dtype = "float32"
	}
	cmd := exec.CommandContext(ctx, t.bench.python, script, "--checkpoint", checkpoint, "--device", t.bench.torchDevice(),
		"--dtype", dtype, "--rounds", strconv.Itoa(t.bench.rounds), fmt.Sprintf("%d:%d:%d", c.size, c.steps, c.batch))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return result{}, err
	}
	var r result
	return r, json.Unmarshal(out.Bytes(), &r)
}
