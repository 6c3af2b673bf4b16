package diffusion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// feed is what a network is given: tensors, and what other networks left on the
// device.
type feed struct {
	tensors map[string]*tensor.Tensor
	kept    map[string]*kept
}

// kept is an output of a network that stays on the device as long as the
// network's session does; it moves to the host before that is dropped. One
// goroutine owns it, and closes it.
type kept struct {
	entry *entry // whose session holds it
	// network gave it, under the name output.
	network *component
	output  string
	// shape is that of the whole, where what is kept has a number for each plane.
	shape tensor.Shape

	mu    sync.Mutex // held while a run uses it, and while it moves
	there value      // nil once it is on the host
	here  *tensor.Tensor
	err   error // of moving it
}

// value is a tensor on a device: an *ort.Held.
type value interface {
	Shape() tensor.Shape
	Tensor(context.Context) (*tensor.Tensor, error)
	Close()
}

// given is what a session takes.
type given struct {
	tensors map[string]*tensor.Tensor
	there   map[string]value
}

// session is a graph that is ready to run: an *ort.Session, in the terms of
// this package.
type session interface {
	run(context.Context, given) (map[string]*tensor.Tensor, error)
	// hold leaves the outputs on the device.
	hold(context.Context, given) (map[string]value, error)
	Close() error
}

// ortSession makes a session of ONNX Runtime a session.
type ortSession struct{ *ort.Session }

func (s ortSession) run(ctx context.Context, in given) (map[string]*tensor.Tensor, error) {
	return s.RunHeld(ctx, in.inputs())
}

func (s ortSession) hold(ctx context.Context, in given) (map[string]value, error) {
	held, err := s.Hold(ctx, in.inputs())
	out := map[string]value{}
	for name, h := range held {
		out[name] = h
	}
	return out, err
}

func (g given) inputs() ort.Inputs {
	in := ort.Inputs{Tensors: g.tensors, Held: map[string]*ort.Held{}}
	for name, v := range g.there {
		in.Held[name] = v.(*ort.Held)
	}
	return in
}

// hold is run with the outputs staying on the device; the caller closes them.
func (p *pool) hold(ctx context.Context, c *component, in feed) (map[string]*kept, error) {
	out := map[string]*kept{}
	err := p.try(ctx, c, in, func(e *entry, g given) error {
		values, err := e.session.hold(ctx, g)
		if err != nil {
			return err
		}
		// Not pool.mu: who holds that may wait for a value of in to move.
		e.keeping.Lock()
		defer e.keeping.Unlock()
		for name, v := range values {
			k := &kept{entry: e, network: c, output: name, shape: v.Shape(), there: v}
			out[name] = k
			e.kept[k] = true
		}
		return nil
	})
	return out, err
}

// open returns what a session takes; the values stay where they are until done
// is called.
func (f feed) open() (in given, done func(), err error) {
	in = given{tensors: f.tensors, there: map[string]value{}}
	var used []*kept
	done = func() {
		for _, k := range used {
			k.mu.Unlock()
		}
	}
	if len(f.kept) > 0 {
		in.tensors = maps.Clone(f.tensors)
	}
	for _, name := range slices.Sorted(maps.Keys(f.kept)) {
		k := f.kept[name]
		k.mu.Lock()
		used = append(used, k)
		switch {
		case k.err != nil:
			return in, done, fmt.Errorf("move output %s of %s to the host: %w", k.output, k.network.name, k.err)
		case k.there != nil:
			in.there[name] = k.there
		default:
			in.tensors[name] = k.here
		}
	}
	return in, done, nil
}

// put takes an input over from another feed, under a name of its own; it reports
// whether there is one.
func (f feed) put(as string, from feed, name string) bool {
	if k := from.kept[name]; k != nil {
		f.kept[as] = k
		return true
	}
	if t := from.tensors[name]; t != nil {
		f.tensors[as] = t
		return true
	}
	return false
}

// shape returns that of an input, nil for none.
func (f feed) shape(name string) tensor.Shape {
	if k := f.kept[name]; k != nil {
		return k.shape
	}
	if t := f.tensors[name]; t != nil {
		return t.Shape
	}
	return nil
}

// names lists the inputs, sorted.
func (f feed) names() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(f.tensors)), maps.Keys(f.kept))
	slices.Sort(names)
	return names
}

// take removes an input and returns it alone.
func (f feed) take(name string) feed {
	one := feed{}
	if k := f.kept[name]; k != nil {
		one.kept = map[string]*kept{name: k}
	}
	delete(f.kept, name)
	delete(f.tensors, name)
	return one
}

// close gives back what is kept.
func (f feed) close() {
	for _, k := range f.kept {
		k.close()
	}
}

func (k *kept) close() {
	k.mu.Lock()
	if k.there != nil {
		k.there.Close()
	}
	k.there, k.here = nil, nil
	k.mu.Unlock()
	k.entry.keeping.Lock()
	defer k.entry.keeping.Unlock()
	delete(k.entry.kept, k)
}

// move brings the value to the host.
func (k *kept) move() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.there == nil {
		return
	}
	k.here, k.err = k.there.Tensor(context.Background())
	k.there.Close()
	k.there = nil
}

// copied returns the value as a tensor.
func (k *kept) copied(ctx context.Context) (*tensor.Tensor, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.there == nil {
		return k.here, k.err
	}
	return k.there.Tensor(ctx)
}

// blame returns the error of a network that was given f, or, where that is an
// overflow for one of a kept input, the error of the network that gave it.
func (f feed) blame(ctx context.Context, err error) error {
	if !isOverflow(err) {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(f.kept)) {
		k := f.kept[name]
		if k.network.target.Precision != nn.Float16 {
			continue
		}
		t, failed := k.copied(ctx)
		if failed != nil {
			return errors.Join(err, failed)
		}
		if earlier := k.network.checkFinite(map[string]*tensor.Tensor{k.output: t}); earlier != nil {
			return earlier
		}
	}
	return err
}
