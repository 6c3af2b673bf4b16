//go:build slow

package weights

import (
	"runtime"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// TestLocateFull converts a checkpoint with the widths of Stable Diffusion 1.5,
// 2.1 GB of halves, and finds it converted the second time.
func TestLocateFull(t *testing.T) {
	f, err := Open(weightstest.Write(t, t.TempDir(), "sd15-full-fp16"))
	if err != nil {
		t.Fatal(err)
	}
	var parts []Part
	for _, name := range f.Names() {
		i, _ := f.Tensor(name)
		parts = append(parts, Part{Name: name, Shape: i.Shape, From: []string{name}})
	}
	time.Sleep(2 * clockStep)
	c := Cache{Dir: t.TempDir()}
	for _, limit := range []time.Duration{30 * time.Second, time.Second} {
		start := time.Now()
		l, err := c.Locate(t.Context(), f, "all", parts)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		t.Logf("located in %v", took)
		if took > limit {
			t.Errorf("took %v, more than %v", took, limit)
		}
		l.Close()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d MB from the system", m.Sys>>20)
	start := time.Now()
	if _, err := (&Digests{}).Digest(t.Context(), f.Path); err != nil {
		t.Fatal(err)
	}
	t.Logf("hashed in %v", time.Since(start))
	start = time.Now()
	l, err := (&Cache{}).Locate(t.Context(), f, "all", parts)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("without a cache in %v", time.Since(start))
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
