package ort

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Transfers counts what a session on a device copied between host and device.
type Transfers struct {
	In, Out int64 // bytes to the device and back
	Runs    int64
}

// counter is Transfers that grow while others read them.
type counter struct {
	sync.Mutex
	Transfers
}

func (c *counter) add(t Transfers) {
	c.Lock()
	defer c.Unlock()
	c.In += t.In
	c.Out += t.Out
	c.Runs += t.Runs
}

// Transfers returns what crossed between host and device in the runs so far.
// Inputs that have not changed since an earlier run lie on the device and do
// not cross again. On the CPU nothing crosses, and nothing is counted.
func (s *Session) Transfers() Transfers {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.device == nil {
		return Transfers{}
	}
	s.device.counted.Lock()
	defer s.device.counted.Unlock()
	return s.device.counted.Transfers
}

// A session keeps some sets of inputs on its device, so that runs which take
// turns, such as those for a prompt and for its negative, find theirs. Sets
// of many bytes would take more of the device's memory than they save time:
// those of one set are bounded, where there are several. What steers a network
// by a picture of 1024x1024 pixels is 42 MB for both sides of guidance.
const (
	maxBindings         = 4
	maxBoundBytes       = 64 << 20
	maxSeldomBoundBytes = 16 << 20 // with Options.Release
)

// binding returns the set of inputs that needs the fewest bytes to become in,
// or a new one where most would have to change.
func (d *deviceSession) binding(in []input) (*ioBinding, error) {
	total, least := int64(0), int64(0)
	for _, v := range in {
		total += v.bytes()
	}
	var best *ioBinding
	for _, b := range d.bindings {
		if missing := b.missing(in); best == nil || missing < least {
			best, least = b, missing
		}
	}
	if best != nil && (2*least <= total || len(d.bindings) == maxBindings || total > d.most) {
		return best, nil
	}
	b, err := d.newBinding()
	if err == nil {
		d.bindings = append(d.bindings, b)
	}
	return b, err
}

// missing is the number of bytes to upload before a run with in.
func (b *ioBinding) missing(in []input) int64 {
	bytes := int64(0)
	for i, v := range in {
		if !b.holds(i, v) {
			bytes += v.bytes()
		}
	}
	return bytes
}

func bytesOf(t *tensor.Tensor) int64 { return 4 * int64(len(t.Data)) }

// input is one that lies on the host, or on the device already.
type input struct {
	tensor *tensor.Tensor
	held   *Held
}

// bytes are those that cross where the device has none of them.
func (v input) bytes() int64 {
	if v.held != nil {
		return 0
	}
	return bytesOf(v.tensor)
}

// run uploads what has changed and runs the session.
func (d *deviceSession) run(ctx context.Context, r deviceRun) error {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.turn }()
	b, err := d.binding(r.in)
	if err != nil {
		return err
	}
	crossed := Transfers{Runs: 1}
	defer func() { d.counted.add(crossed) }()
	defer d.letGo(b, r.in)
	for i, v := range r.in {
		if b.holds(i, v) {
			continue
		}
		if err := b.set(i, v); err != nil {
			return fmt.Errorf("input %q: %w", d.inputs[i], err)
		}
		crossed.In += v.bytes()
	}
	crossed.Out, err = b.run(r)
	return err
}

// letGo unbinds what belongs to others.
func (d *deviceSession) letGo(b *ioBinding, in []input) {
	for i, v := range in {
		if v.held == nil {
			continue
		}
		if err := b.unbind(i); err != nil {
			d.bindings = slices.DeleteFunc(d.bindings, func(other *ioBinding) bool { return other == b })
			b.close()
			return
		}
	}
}
