package ort_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/ort"
)

// mall is a shop whose pip has two wheels: one.whl with libone.so and a
// licence, two.whl with the library.
type mall struct {
	*shop
	wheels []ort.Wheel
	said   []string
}

func newMall(t *testing.T) *mall {
	t.Helper()
	m := &mall{shop: &shop{bin: t.TempDir()}}
	t.Setenv("PATH", m.bin+":/bin:/usr/bin")
	for name, members := range map[string][]ort.Member{
		"one": {{Path: "nvidia/lib/libone.so", As: ""}, {Path: "one.dist-info/License.txt", As: "LICENSE.one"}},
		"two": {{Path: "capi/" + ort.LibraryName}},
	} {
		var archive bytes.Buffer
		zw := zip.NewWriter(&archive)
		for i, member := range members {
			text := "text of " + member.Path
			w, err := zw.Create(member.Path)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, text)
			members[i].SHA256, members[i].Bytes = sum([]byte(text)), int64(len(text))
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		m.write(t, name+".whl", archive.String())
		m.wheels = append(m.wheels, ort.Wheel{Package: name + "==1", Platform: "any", Archive: sum(archive.Bytes()),
			Bytes: int64(archive.Len()), Members: members})
	}
	if m.wheels[0].Package != "one==1" {
		m.wheels[0], m.wheels[1] = m.wheels[1], m.wheels[0]
	}
	m.works(t)
	return m
}

// works makes pip copy the wheel that is asked for, and note that it was.
func (m *mall) works(t *testing.T) {
	m.client(t, "pip", `for last; do :; done
echo "$last" >>"$here/asked"
[ "$TMPDIR" = "$PWD" ] && [ "$PIP_NO_CACHE_DIR" = 1 ] || exit 9
cp "$here/${last%==1}.whl" .`)
}

// asked returns the packages that pip was asked for, since the last call.
func (m *mall) asked() string {
	text, _ := os.ReadFile(filepath.Join(m.bin, "asked"))
	os.Remove(filepath.Join(m.bin, "asked"))
	return strings.Join(strings.Fields(string(text)), " ")
}

func (m *mall) install(ctx context.Context, dir string) (*ort.InstalledCUDA, error) {
	return ort.InstallCUDA(ctx, dir, ort.CUDAOptions{Wheels: m.wheels, Say: func(s string) { m.said = append(m.said, s) }})
}

func TestInstallCUDA(t *testing.T) {
	m := newMall(t)
	dir := filepath.Join(t.TempDir(), "new")
	plan, err := ort.PlanCUDA(t.Context(), dir, ort.CUDAOptions{Wheels: m.wheels})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the plan made the folder")
	}
	got, err := m.install(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	plan.New = true
	if diff := cmp.Diff(plan, got); diff != "" {
		t.Errorf("(-plan +did):\n%s", diff)
	}
	if asked := m.asked(); asked != "one==1 two==1" || !strings.HasPrefix(strings.Join(m.said, "\n"), "1 of 2: one==1, 0 of 0 MB\n2 of 2: two==1") {
		t.Errorf("asked for %q, said %q", asked, m.said)
	}
	folder := filepath.Join(dir, ort.CUDAFolder)
	for name, want := range map[string]string{"libone.so": "nvidia/lib/libone.so", "LICENSE.one": "one.dist-info/License.txt",
		ort.LibraryName: "capi/" + ort.LibraryName} {
		if text, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(text) != "text of "+want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	checkEmpty(t, folder, 3)
	if found, err := ort.FindFor("cuda", "", "", dir); err != nil || found != got.Path {
		t.Errorf("found %q, %v", found, err)
	}
	got, err = m.install(t.Context(), dir)
	if err != nil || got.New || got.Missing != nil || got.Kept == 0 || m.asked() != "" {
		t.Errorf("again: %+v, %v", got, err)
	}
}

// What was interrupted goes on with what is missing or damaged; what a killed
// installation left goes away.
func TestInstallCUDAGoesOn(t *testing.T) {
	m := newMall(t)
	dir := t.TempDir()
	m.client(t, "pip", `for last; do :; done
echo "$last" >>"$here/asked"
[ "$last" = one==1 ] && cp "$here/one.whl" . && exit
echo the line is dead; exit 1`)
	_, err := m.install(t.Context(), dir)
	if err == nil || !strings.Contains(err.Error(), "install two==1 with pip") || !strings.Contains(err.Error(), "the line is dead") {
		t.Errorf("error %v", err)
	}
	m.asked()
	folder := filepath.Join(dir, ort.CUDAFolder)
	checkEmpty(t, folder, 2)
	if _, err := ort.FindFor("cuda", "", dir); err == nil {
		t.Error("half an installation is found")
	}
	if err := os.MkdirAll(filepath.Join(folder, ".install-1", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.works(t)
	if _, err := m.install(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if asked := m.asked(); asked != "two==1" {
		t.Errorf("asked for %q", asked)
	}
	checkEmpty(t, folder, 3)
	if err := os.WriteFile(filepath.Join(folder, "libone.so"), []byte("text of nvidia/lib/libtwo.so"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := m.install(t.Context(), dir); err != nil || len(got.Missing) != 1 || len(got.Missing[0].Members) != 1 {
		t.Errorf("repaired %+v, %v", got, err)
	}
}

func TestInstallCUDARefuses(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		change func(*mall)
		want   string
	}{
		"other archive": {`echo forged >one.whl`, nil, "one.whl has sha256"},
		"other member":  {"", func(m *mall) { m.wheels[0].Members[0].SHA256 = sum(nil) }, "libone.so has sha256"},
		"no member":     {"", func(m *mall) { m.wheels[0].Members[0].Path = "absent.so" }, "unpack absent.so from one.whl"},
		"full disk":     {"", func(m *mall) { m.wheels[1].Bytes = 1 << 60 }, "2305843009213 MB must be free in "},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMall(t)
			if c.script != "" {
				m.client(t, "pip", c.script)
			}
			if c.change != nil {
				c.change(m)
			}
			dir := t.TempDir()
			_, err := m.install(t.Context(), dir)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			checkEmpty(t, filepath.Join(dir, ort.CUDAFolder), 0)
		})
	}
}

func TestInstallCUDAStops(t *testing.T) {
	m := newMall(t)
	m.client(t, "pip", `exec sleep 30`)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	dir := t.TempDir()
	if _, err := m.install(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	checkEmpty(t, filepath.Join(dir, ort.CUDAFolder), 0)
}

// Two installations into one folder do not meet.
func TestInstallCUDAOnce(t *testing.T) {
	m := newMall(t)
	dir := t.TempDir()
	folder := filepath.Join(dir, ort.CUDAFolder)
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := m.install(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "another installation into "+folder) {
		t.Errorf("error %v", err)
	}
}

// The table names whole wheels of exact versions, and the library last, so that
// a folder that has it has all.
func TestCUDAWheels(t *testing.T) {
	wheels := ort.CUDAWheels()
	names := map[string]bool{}
	var last string
	for _, w := range wheels {
		if len(w.Archive) != 64 || w.Bytes == 0 || w.Platform == "" || w.Licence == "" || !strings.Contains(w.Package, "==") {
			t.Errorf("incomplete: %+v", w)
		}
		for _, m := range w.Members {
			last = m.Name()
			if len(m.SHA256) != 64 || m.Bytes == 0 || names[last] {
				t.Errorf("incomplete or twice: %+v", m)
			}
			names[last] = true
		}
	}
	if last != ort.LibraryName {
		t.Errorf("the last file is %s", last)
	}
	for _, want := range []string{"libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudart.so.13", "libcudnn.so.9",
		"libnvrtc.so.13", "libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so", "LICENSE.cuda", "LICENSE.cudnn"} {
		if !names[want] {
			t.Errorf("no %s", want)
		}
	}
}

func TestFindForCUDA(t *testing.T) {
	dir := t.TempDir()
	put := emptyFiles(t, dir)
	put("cpu/" + ort.LibraryName)
	put("home/lib/libonnxruntime.so.1")
	installed := put("home/lib/cuda/" + ort.LibraryName)
	own := put("own/libonnxruntime.so.1.30.1")
	put("own/libonnxruntime_providers_cuda.so")
	cpu, home := filepath.Join(dir, "cpu"), filepath.Join(dir, "home/lib")
	for _, c := range []struct {
		explicit string
		dirs     []string
		want     string
	}{
		{"", []string{"", cpu, home}, installed},
		{home, nil, installed},
		{filepath.Dir(own), []string{home}, own},
		{own, nil, own},
		{filepath.Join(home, "libonnxruntime.so.1"), nil, installed},
	} {
		if got, err := ort.FindFor("cuda", c.explicit, c.dirs...); err != nil || got != c.want {
			t.Errorf("FindFor(cuda, %q, %v) = %q, %v; want %q", c.explicit, c.dirs, got, err, c.want)
		}
	}
	only := filepath.Dir(put("only/cuda/" + ort.LibraryName))
	if got, err := ort.Find("", filepath.Dir(only), cpu); err != nil || got != filepath.Join(cpu, ort.LibraryName) {
		t.Errorf("for the CPU: %q, %v", got, err)
	}
	if got, err := ort.Find("", filepath.Dir(only)); err != nil || got != filepath.Join(only, ort.LibraryName) {
		t.Errorf("for the CPU, with CUDA's only: %q, %v", got, err)
	}
	if got, err := ort.FindFor("webgpu", "", filepath.Dir(only)); err == nil {
		t.Errorf("for WebGPU: %q", got)
	}
	_, err := ort.FindFor("cuda", "", cpu)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(cpu, "cuda")+"; install it with: comfyrun runtime install --provider cuda") {
		t.Errorf("not found: %v", err)
	}
}
