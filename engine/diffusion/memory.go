package diffusion

import (
	"errors"
	"fmt"
	"strings"

	"github.com/comfyrun/comfyrun/engine/ort"
)

// MemoryError says that memory did not suffice for a network, even with no
// other one loaded.
type MemoryError struct {
	Network string // "unet", "vae_decoder"
	Device  ort.Device
	// Needed are the bytes that were asked for, Free those that were left, 0
	// where that is not known.
	Needed, Free int64
	// Weights are the bytes of the network's weights.
	Weights int64
	// Budget is Options.DeviceMemory, where it is what did not suffice, else 0.
	Budget int64
	Err    error
}

// Error names the network, and what it needed and what was free where that is
// known.
func (e *MemoryError) Error() string {
	s := fmt.Sprintf("the memory of %s does not suffice for %s, whose weights are %s", e.Device, e.Network, size(e.Weights))
	var known []string
	if e.Needed > 0 {
		known = append(known, size(e.Needed)+" were needed")
	}
	if e.Free > 0 || e.Budget > 0 {
		known = append(known, size(e.Free)+" free")
	}
	if len(known) > 0 {
		s += ": " + strings.Join(known, ", ")
	}
	if e.Budget > 0 {
		s += " of the " + size(e.Budget) + " that models may take"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the error of ONNX Runtime, if there is one.
func (e *MemoryError) Unwrap() error { return e.Err }

// size writes bytes in the largest unit that leaves a number of 1 or more.
func size(n int64) string {
	const step = 1024
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	v, unit := float64(n), 0
	for v >= step && unit < len(units)-1 {
		v, unit = v/step, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[unit])
}

// isMemory reports whether memory ran out.
func isMemory(err error) bool {
	var e *ort.Error
	var m *MemoryError
	return errors.As(err, &m) || errors.As(err, &e) && e.Code == ort.CodeMemory
}

// workingShare is the part of the device's memory that is left for what
// networks compute: one divided by it.
const workingShare = 4

// budget returns the bytes of the device that sessions may take, working memory
// included; 0 for no bound. Weights of the CPU are mapped files, which the
// system drops by itself.
func (r *Runtime) budget(p *Place) int64 {
	switch {
	case p.isCPU():
		return 0
	case r.options.DeviceMemory > 0:
		return r.options.DeviceMemory
	}
	return p.Capabilities.Free
}

// makeRoom drops sessions, those unused for longest first, until a component's
// weights leave a share of the budget free. One that takes up more of it than
// that stays alone.
func (p *pool) makeRoom(place *Place, c *component) error {
	budget, need := p.runtime.budget(place), c.copiedBytes()
	if budget == 0 {
		return nil
	}
	p.shrink(max(0, budget-budget/workingShare-need))
	p.mu.Lock()
	defer p.mu.Unlock()
	if free := budget - p.total(); need > free {
		return &MemoryError{Network: c.name, Device: place.Device, Needed: need, Free: max(0, free), Weights: need, Budget: budget}
	}
	return nil
}

// evict drops all sessions that are not running, but for the component's own.
// It reports whether there were any.
func (p *pool) evict(c *component) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	dropped := false
	for key, e := range p.entries {
		if e.users == 0 && key != c.key() {
			p.drop(key)
			dropped = true
		}
	}
	return dropped
}

// discard takes a session in which memory ran out on CUDA out of the pool: it
// refuses further runs. Its last user closes it.
func (p *pool) discard(key string, e *entry) {
	if p.runtime.placed().Device.Provider != "cuda" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries[key] == e {
		e.discarded = true
		delete(p.entries, key)
	}
}

// explained makes a MemoryError of an error of ONNX Runtime that is one.
func (p *pool) explained(c *component, err error) error {
	var m *MemoryError
	var e *ort.Error
	if errors.As(err, &m) || !errors.As(err, &e) || e.Code != ort.CodeMemory {
		return err
	}
	m = &MemoryError{Network: c.name, Device: p.runtime.placed().Device, Needed: e.Needed, Weights: c.copiedBytes(), Err: err}
	if free := p.runtime.options.FreeMemory; free != nil {
		m.Free = free(m.Device)
	}
	return m
}
