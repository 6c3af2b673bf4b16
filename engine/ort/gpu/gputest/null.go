package gputest

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

//go:embed drivers/null/cudart.c
var cudartSource string

//go:embed drivers/null/libraries.c
var librariesSource string

//go:embed drivers/null/cudnn.c
var cudnnSource string

//go:embed drivers/null/driver.c
var driverSource string

//go:embed drivers/null/answers
var answers []byte

// Null is a machine with GPUs on which ONNX Runtime's own CUDA provider works
// and nothing is computed: stand-ins take the place of NVIDIA's libraries, the
// GPUs' memory is the host's, copies copy and kernels do nothing. What graphs
// give is meaningless, but for the trial graphs of ort.Probe, whose answers are
// written down.
type Null struct {
	GPUs []GPU // Free is what can be allocated
}

// OneNull is a machine with one GPU, of compute capability 9.0 and 80 GiB.
func OneNull() Null {
	return Null{GPUs: []GPU{{Name: "Null GPU", Major: 9, Total: 80 << 30, Free: 80 << 30}}}
}

// onnxruntimeLibraries are those that stay what they are.
var onnxruntimeLibraries = []string{"libonnxruntime.so.1.30.0", "libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so"}

// Build returns a folder with the libraries, which LD_LIBRARY_PATH must name.
func (n Null) Build(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	devices := map[string]string{"GPUS": gpus(n.GPUs), "COUNT": fmt.Sprint(len(n.GPUs))}
	runtime := filepath.Join(dir, "libcudart.so.13")
	compile(t, runtime, cudartSource, devices)
	for _, l := range []string{"libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10"} {
		name, _, _ := strings.Cut(strings.TrimPrefix(l, "lib"), ".")
		compile(t, filepath.Join(dir, l), librariesSource, map[string]string{"LIBRARY": name}, runtime)
	}
	compile(t, filepath.Join(dir, "libcudnn.so.9"), cudnnSource, nil, runtime)
	compile(t, filepath.Join(dir, "libcuda.so.1"), cudaSource+driverSource, CUDA{Version: 13000, GPUs: n.GPUs}.macros(), runtime)
	compile(t, filepath.Join(dir, "libnvidia-ml.so.1"), nvmlSource, NVML{Driver: "580.0", GPUs: n.GPUs}.macros())
	installed := onnxruntimeGPU(t)
	for _, name := range onnxruntimeLibraries {
		link(t, filepath.Join(installed, name), filepath.Join(dir, name))
	}
	if err := os.WriteFile(filepath.Join(dir, "answers"), answers, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// onnxruntimeGPU returns the folder of this checkout that has onnxruntime-gpu's
// libraries, with NVIDIA's or without.
func onnxruntimeGPU(t testing.TB) string {
	t.Helper()
	root, err := os.Getwd()
	for err == nil && root != filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		root = filepath.Dir(root)
	}
	for _, dir := range []string{"lib/cuda", ".cache/onnxruntime-gpu"} {
		if _, err := os.Stat(filepath.Join(root, dir, onnxruntimeLibraries[1])); err == nil {
			return filepath.Join(root, dir)
		}
	}
	t.Fatal("no libraries of onnxruntime-gpu: run make test-cuda-null")
	return ""
}

// Environment is what a process needs to use what Build made in a folder.
func Environment(dir string) []string {
	return append(os.Environ(), "LD_LIBRARY_PATH="+dir, "NULLCUDA_ANSWERS="+filepath.Join(dir, "answers"), "NULLCUDA_TRACE="+filepath.Join(dir, "trace"))
}

// Inside repeats a test in a process of its own on the machine, and says there
// where the libraries are; elsewhere the folder is "" and the test has passed or
// failed. A process loads one library for CUDA.
func (n Null) Inside(t *testing.T) (dir string) {
	t.Helper()
	const folder = "COMFYRUN_NULL_GPU"
	if dir := os.Getenv(folder); dir != "" {
		return dir
	}
	dir = n.Build(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], append(os.Args[1:], "-test.run", "^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")...)
	cmd.Env = append(Environment(dir), folder+"="+dir)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

// mostBytes begins the names of counters of memory.
const mostBytes = "most bytes of device "

// MostBytes returns the most that a device of the machine had allocated since it
// had nothing.
func MostBytes(t testing.TB, dir string, device int) int {
	t.Helper()
	for _, c := range counters(t, dir) {
		if c.Name == mostBytes+fmt.Sprint(device) {
			return c.Times
		}
	}
	return 0
}

// Count is how often something was done; kernels have the names that the
// compiler gave them.
type Count struct {
	Name  string
	Times int
}

// Counts returns what has been done on the machine of Build's folder so far.
func Counts(t testing.TB, dir string) []Count {
	t.Helper()
	return slices.DeleteFunc(counters(t, dir), func(c Count) bool { return strings.HasPrefix(c.Name, mostBytes) })
}

// counters reads the file that the libraries count in.
func counters(t testing.TB, dir string) (counts []Count) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "trace"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	const record = 512
	for ; len(data) >= record; data = data[record:] {
		if times := binary.LittleEndian.Uint64(data); times > 0 {
			name, _, _ := bytes.Cut(data[8:record], []byte{0})
			counts = append(counts, Count{string(name), int(times)})
		}
	}
	return counts
}

// Since returns what was done between two lists of Counts.
func Since(before, after []Count) (counts []Count) {
	had := map[string]int{}
	for _, c := range before {
		had[c.Name] = c.Times
	}
	for _, c := range after {
		if c.Times -= had[c.Name]; c.Times > 0 {
			counts = append(counts, c)
		}
	}
	return counts
}

// link puts a file into a folder without a symbolic link, behind which programs
// would look for others beside it.
func link(t testing.TB, from, to string) {
	t.Helper()
	if os.Link(from, to) == nil {
		return
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err == nil {
		_, err = io.Copy(out, in)
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}
