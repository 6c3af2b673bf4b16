//go:build nullcuda

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort/gpu/gputest"
)

// nullGPUs makes a machine of GPUs that compute nothing, each with so much memory, for programs that the test starts. It
// returns the folder of the libraries.
func nullGPUs(t *testing.T, free ...int64) (dir string) {
	t.Helper()
	var gpus []gputest.GPU
	for _, n := range free {
		gpus = append(gpus, gputest.GPU{Name: "Null GPU", Major: 9, Total: 80 << 30, Free: n})
	}
	dir = gputest.Null{GPUs: gpus}.Build(t)
	for _, entry := range gputest.Environment(dir) {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	return dir
}

// runOn runs the default workflow; what is told comes back.
func runOn(t *testing.T, dir, device string, args ...string) (out string, err error) {
	t.Helper()
	all := append([]string{"exec", "../../workflows/default.json", "--device", device, "--library", dir, "--out", filepath.Join(dir, "out")}, args...)
	cmd := exec.CommandContext(t.Context(), "comfyrun", all...)
	cmd.Env = append(os.Environ(), "COMFYRUN_HOME="+filepath.Join(dir, "home"))
	data, err := cmd.CombinedOutput()
	return string(data), err
}

// TestNullCUDARuntimeInfo expects the GPUs to be listed, and CUDA to work.
func TestNullCUDARuntimeInfo(t *testing.T) {
	dir := nullGPUs(t, 80<<30, 40<<30)
	out, err := exec.CommandContext(t.Context(), "comfyrun", "runtime", "info", "--provider", "cuda", "--library", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"works on Null GPU", "cuda:1 ", "compute capability 9.0, 81920 MiB, 40960 MiB free"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestNullCUDAExec draws pictures by the CUDA provider, on a GPU that is named and on the one that auto takes. What is on
// them is nothing. In half precision, the denoiser's weights go to the GPU once and latents in each step.
func TestNullCUDAExec(t *testing.T) {
	dir := nullGPUs(t, 80<<30, 80<<30)
	for _, device := range []string{"cuda:1", "auto"} {
		out, err := runOn(t, dir, device)
		if err != nil {
			t.Fatalf("%s: %v\n%s", device, err, out)
		}
	}
	receipts, err := filepath.Glob(filepath.Join(dir, "out", "*.receipt.json"))
	if err != nil || len(receipts) != 2 {
		t.Fatalf("receipts %v, %v", receipts, err)
	}
	for i, want := range []string{`"cuda:1"`, `"cuda:0"`} {
		if data, err := os.ReadFile(receipts[i]); err != nil || !strings.Contains(string(data), want) || !strings.Contains(string(data), "fp16") {
			t.Errorf("%s: %v, want %s and fp16 in it", receipts[i], err, want)
		}
	}
	counts := gputest.Counts(t, dir)
	for _, want := range []string{"cudnn: convolution", "cublasGemmEx", "copy to the host"} {
		if !slices.ContainsFunc(counts, func(c gputest.Count) bool { return c.Name == want }) {
			t.Errorf("nothing of %q was done", want)
		}
	}
}

// TestNullCUDALittleMemory has memory for one network at a time, then for fewer.
func TestNullCUDALittleMemory(t *testing.T) {
	for _, c := range []struct {
		free int64
		want string // what the error says, "" for a picture
	}{
		{48 << 20, ""},
		{20 << 20, "node 8 (VAEDecode): the memory of cuda:0 does not suffice for vae_decoder, whose weights are "},
		{11 << 20, "node 3 (KSampler): sample with euler: the memory of cuda:0 does not suffice for unet, whose weights are "},
	} {
		dir := nullGPUs(t, c.free)
		out, err := runOn(t, dir, "cuda", "--device-memory", "80GiB")
		if (err == nil) != (c.want == "") || !strings.Contains(out, c.want) {
			t.Errorf("%d bytes: %v, want %q in\n%s", c.free, err, c.want, out)
		}
		if strings.Contains(out, "onnxruntime_src") || strings.Contains(out, "SIG") {
			t.Errorf("%d bytes:\n%s", c.free, out)
		}
	}
}

// TestNullCUDASeats serves prompts on two GPUs at once.
func TestNullCUDASeats(t *testing.T) {
	dir := nullGPUs(t, 80<<30, 80<<30)
	server := start(t, twoModels(t), "serve", "--listen", "127.0.0.1:0", "--device", "cuda", "--library", dir)
	a, b := server.submit(lengthy(t, "a.safetensors", 1)), server.submit(lengthy(t, "b.safetensors", 2))
	server.atOnce(a, b)
	metrics := server.page("/metrics", 200)
	for _, want := range []string{`comfyrun_prompts_running{device="cuda:0"} 1`, `comfyrun_prompts_running{device="cuda:1"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
	server.cancelled(a)
	server.cancelled(b)
}
