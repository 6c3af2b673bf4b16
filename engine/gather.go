package engine

import (
	"crypto/sha256"
	"encoding/hex"
)

// job gathers the arguments of a task that is about to run. What lies behind
// lazy inputs that nobody asked for yet is absent.
func (r *run) job(t *task) *job {
	s := t.step
	j := &job{step: s, args: Args{Type: s.Type, Values: make([][]any, len(s.Inputs))}}
	for i := range s.Inputs {
		j.args.Values[i] = r.gather(s, &s.Inputs[i], &s.Type.Inputs[i])
	}
	if len(s.Rest) > 0 {
		j.args.Rest = make(map[string][]any, len(s.Rest))
	}
	for i := range s.Rest {
		j.args.Rest[s.Rest[i].Name] = r.output(s.Rest[i].From, s.Rest[i].Slot)
	}
	if len(s.Type.Hidden) > 0 {
		j.args.Hidden = r.hidden(s)
	}
	j.scope = scope{node: s.ID, expansions: r.grown[s], progress: func(value, total int, preview any) {
		r.tell(s, Event{Kind: EventProgress, Value: value, Total: total, Preview: preview})
	}, warn: func(text string) { r.tell(s, Event{Kind: EventWarning, Text: text}) }}
	j.notify = func(b Blocker) { r.blocked(s, b) }
	return j
}

func (r *run) gather(s *Step, src *Source, in *Input) []any {
	switch {
	case src.From == nil:
		return src.Values
	case in.RawLink:
		return []any{s.linkTo(src)}
	case in.Lazy && !r.available(src.From):
		return nil
	}
	return r.output(src.From, src.Slot)
}

func (r *run) available(s *Step) bool {
	if t, ok := r.tasks[s]; ok && t.out != nil {
		return true
	}
	_, ok := r.lookup(s.Key)
	return ok
}

// output is the list on a step's output; null where there is none.
func (r *run) output(s *Step, slot int) []any {
	var out *outcome
	if t, ok := r.tasks[s]; ok && t.out != nil {
		out = t.out
	} else if found, ok := r.lookup(s.Key); ok {
		out = found
	}
	if out == nil || slot >= len(out.values) {
		return []any{nil}
	}
	return out.values[slot]
}

func (r *run) hidden(s *Step) HiddenValues {
	h := HiddenValues{Extra: r.options.Extra, UniqueID: UniqueID(s.ID)}
	if s.Type.hides(HiddenPrompt) {
		h.Prompt = r.plan.prompt()
	}
	if s.Type.hides(HiddenDynPrompt) {
		h.DynPrompt = dynPrompt{r}
	}
	return h
}

// blocked tells of a blocker with a message that reached a node. The run goes
// on.
func (r *run) blocked(s *Step, b Blocker) {
	m := s.meta()
	err := &NodeError{Node: s.ID, Class: s.Type.Class, Kind: ExecutionBlocked, Err: b, Display: m.Display, Real: m.Real, RealClass: s.real().Type.Class}
	r.tell(s, Event{Kind: EventBlocked, Nodes: r.finished(), Err: err})
}

// digest names the content of each output, where its values can tell.
func (o *outcome) digest() {
	o.digests, o.sketches = make([]string, len(o.values)), make([]string, len(o.values))
	for i, values := range o.values {
		// A value whose Digest panics cannot tell.
		_ = catch(func() error { o.digests[i] = digestOf(values); return nil })
		_ = catch(func() error { o.sketches[i] = sketchOf(values); return nil })
	}
}

// sketchOf is the sketch of a single value that can make one; else empty.
func sketchOf(values []any) string {
	if len(values) != 1 {
		return ""
	}
	if s, ok := values[0].(sketcher); ok {
		return s.Sketch()
	}
	return ""
}

// digested is a copy with digests, for results that others may be reading.
func (o *outcome) digested() *outcome {
	c := *o
	c.digest()
	return &c
}

// digestOf is the digest of a single value, or a hash of those of a list;
// empty when one of them cannot tell.
func digestOf(values []any) string {
	if len(values) == 1 {
		return digestValue(values[0])
	}
	sum := sha256.New()
	for _, v := range values {
		d := digestValue(v)
		if d == "" {
			return ""
		}
		sum.Write([]byte(d))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func digestValue(v any) string {
	if d, ok := v.(digester); ok {
		return d.Digest()
	}
	switch v := canonical(v).(type) {
	case int64, uint64, float64, string, bool:
		var h hasher
		h.value(v)
		sum := sha256.Sum256(h.buf)
		return hex.EncodeToString(sum[:])
	}
	return ""
}
