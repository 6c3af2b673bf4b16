package ort

import (
	"context"
	"fmt"
	"sync"

	"github.com/comfyrun/comfyrun/engine/tensor"
	ortgo "github.com/yalue/onnxruntime_go"
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
// of many bytes would take more of the device's memory than they save time.
const (
	maxBindings   = 4
	maxBoundBytes = 16 << 20 // of one set, where there are several
)

// binding returns the set of inputs that needs the fewest bytes to become in,
// or a new one where most would have to change.
func (d *deviceSession) binding(in []*tensor.Tensor) (*ioBinding, error) {
	total, least := int64(0), int64(0)
	for _, t := range in {
		total += bytesOf(t)
	}
	var best *ioBinding
	for _, b := range d.bindings {
		if missing := b.missing(in); best == nil || missing < least {
			best, least = b, missing
		}
	}
	if best != nil && (2*least <= total || len(d.bindings) == maxBindings || total > maxBoundBytes) {
		return best, nil
	}
	b, err := d.newBinding()
	if err == nil {
		d.bindings = append(d.bindings, b)
	}
	return b, err
}

// missing is the number of bytes to upload before a run with in.
func (b *ioBinding) missing(in []*tensor.Tensor) int64 {
	bytes := int64(0)
	for i, t := range in {
		if !b.holds(i, t) {
			bytes += bytesOf(t)
		}
	}
	return bytes
}

func bytesOf(t *tensor.Tensor) int64 { return 4 * int64(len(t.Data)) }

// run uploads what has changed, runs the session and brings the outputs back.
func (d *deviceSession) run(ctx context.Context, ro *ortgo.RunOptions, in []*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-d.turn }()
	b, err := d.binding(in)
	if err != nil {
		return nil, err
	}
	crossed := Transfers{Runs: 1}
	defer func() { d.counted.add(crossed) }()
	for i, t := range in {
		if b.holds(i, t) {
			continue
		}
		if err := b.upload(i, t); err != nil {
			return nil, fmt.Errorf("input %q: %w", d.inputs[i], err)
		}
		crossed.In += bytesOf(t)
	}
	outs, err := b.run(ro)
	for _, t := range outs {
		crossed.Out += bytesOf(t)
	}
	return outs, err
}
