package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// job is one execution of a step with its arguments gathered.
type job struct {
	step   *Step
	args   Args
	scope  scope
	notify func(Blocker) // a blocker with a message reached this node
}

// returned is what one call gave, or the blocker that kept it from running.
type returned struct {
	Returned
	blocked bool
}

// calls runs the function once for each element of the longest input list;
// shorter lists repeat their last element. A type that takes lists is called
// once.
func (j *job) calls(ctx context.Context) ([]returned, error) {
	n, err := j.count()
	if err != nil {
		return nil, err
	}
	out := make([]returned, n)
	for i := range out {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if out[i], err = j.call(ctx, i); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (j *job) count() (int, error) {
	n := 1
	if j.step.Type.InputIsList {
		return n, nil
	}
	for i, values := range j.args.Values {
		if values != nil && len(values) == 0 {
			return 0, &InputError{Input: j.step.Type.Inputs[i].Name, Err: errors.New("got an empty list")}
		}
		n = max(n, len(values))
	}
	for name, values := range j.args.Rest {
		if len(values) == 0 {
			return 0, &InputError{Input: name, Err: errors.New("got an empty list")}
		}
		n = max(n, len(values))
	}
	return n, nil
}

func (j *job) call(ctx context.Context, i int) (returned, error) {
	args := j.element(i)
	if b, ok := blocker(args); ok {
		if b.Message != "" {
			j.notify(b)
		}
		return returned{Returned: blockAll(len(j.step.Type.Outputs), Blocker{}), blocked: true}, nil
	}
	s := j.scope
	s.call = i
	var out Returned
	err := catch(func() (err error) {
		out, err = j.step.Type.Call(withScope(ctx, &s), args)
		return err
	})
	return returned{Returned: out}, err
}

// element is the arguments of call i.
func (j *job) element(i int) *Args {
	if j.step.Type.InputIsList {
		return &j.args
	}
	a := j.args
	a.Values = make([][]any, len(j.args.Values))
	for k, values := range j.args.Values {
		a.Values[k] = pick(values, i)
	}
	if a.Rest != nil {
		a.Rest = make(map[string][]any, len(j.args.Rest))
		for name, values := range j.args.Rest {
			a.Rest[name] = pick(values, i)
		}
	}
	return &a
}

func pick(values []any, i int) []any {
	if values == nil {
		return nil
	}
	i = min(i, len(values)-1)
	return values[i : i+1]
}

func blocker(a *Args) (Blocker, bool) {
	for _, values := range a.Values {
		if b, ok := firstBlocker(values); ok {
			return b, true
		}
	}
	for _, values := range a.Rest {
		if b, ok := firstBlocker(values); ok {
			return b, true
		}
	}
	return Blocker{}, false
}

func firstBlocker(values []any) (Blocker, bool) {
	for _, v := range values {
		if b, ok := v.(Blocker); ok {
			return b, true
		}
	}
	return Blocker{}, false
}

// lazy asks which lazy inputs are needed, for each element as calls does.
func (j *job) lazy(ctx context.Context) ([]string, error) {
	n, err := j.count()
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range n {
		args := j.element(i)
		if _, ok := blocker(args); ok {
			continue
		}
		var more []string
		err := catch(func() (err error) { more, err = j.step.Type.NeedLazy(ctx, args); return err })
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// merge puts the calls' results together: a list output's lists one after the
// other, of other outputs one element per call. resolve gives the list that a
// link of an expansion stands for.
func merge(t *NodeType, calls []returned, resolve func(any) ([]any, bool)) (*outcome, error) {
	o := &outcome{values: make([][]any, len(t.Outputs)), ui: mergeUI(calls)}
	for slot := range t.Outputs {
		o.values[slot] = make([]any, 0, len(calls))
		for _, c := range calls {
			values, err := slotValues(&t.Outputs[slot], &c, slot, resolve)
			if err != nil {
				return nil, err
			}
			o.values[slot] = append(o.values[slot], values...)
		}
	}
	return o, nil
}

// at is the value of an output; nil where the call gave none.
func (r *returned) at(slot int) any {
	values := r.Values
	if r.Expand != nil && r.Expand.values != nil {
		values = r.Expand.values
	}
	if slot < len(values) {
		return values[slot]
	}
	return nil
}

func slotValues(o *Output, c *returned, slot int, resolve func(any) ([]any, bool)) ([]any, error) {
	v := c.at(slot)
	if c.Expand != nil {
		if values, ok := resolve(v); ok {
			return values, nil
		}
	}
	if _, blocked := v.(Blocker); blocked || !o.List {
		return []any{v}, nil
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		return v, nil
	case lister:
		return v.elements(), nil
	}
	return nil, fmt.Errorf("output %s is a list, but the function returned %T", o.Name, v)
}

// mergeUI joins the lists of each key, in the order of the calls.
func mergeUI(calls []returned) UI {
	var out UI
	for _, c := range calls {
		for key, values := range c.UI {
			if out == nil {
				out = UI{}
			}
			out[key] = append(out[key], values...)
		}
	}
	return out
}

// missing is the lazy inputs that the node wants and that are not evaluated.
func (j *job) missing(ctx context.Context) ([]string, error) {
	names, err := j.lazy(ctx)
	return slices.DeleteFunc(names, func(name string) bool { return j.args.Input(name) != nil }), err
}
