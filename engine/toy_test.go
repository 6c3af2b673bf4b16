package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/workflows"
)

// The toy catalogue: values are strings, so that every result says how it
// came about.
type (
	pic        string
	mask       string
	picOrFloat any
	letter     string
	many       string
	vital      string
)

// toys is the catalogue and what its nodes did.
type toys struct {
	*Catalog
	mu    sync.Mutex
	calls map[string]int // by class
	asked int            // of the fingerprint function
	together,
	most int // nodes at a time
	onDevice int
	content  string // what the fingerprint of File says
}

func (t *toys) ran(class string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls[class]++
}

func (t *toys) count(class string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls[class]
}

type srcIn struct {
	V int `in:"v" range:"0,10"`
}

type picIn struct {
	Image pic `in:"image"`
}

type saveIn struct {
	Images pic    `in:"images"`
	Prefix string `in:"filename_prefix"`
	Prompt Prompt
	Extra  ExtraPNGInfo
}

type comboIn struct {
	C   letter  `in:"c"`
	F   float64 `in:"f" range:"0,1"`
	Bo  bool    `in:"bo"`
	St  string  `in:"st"`
	Opt int     `in:"opt,optional" range:"0,100"`
	Any any     `in:"any,optional"`
	ID  UniqueID
}

type lazyIn struct {
	A *pic `in:"a" ui:"lazy"`
	B *pic `in:"b" ui:"lazy"`
}

type switchIn struct {
	On  bool `in:"on"`
	Yes *pic `in:"yes,optional" ui:"lazy"`
	No  *pic `in:"no,optional" ui:"lazy"`
}

type blockIn struct {
	Image   pic    `in:"image"`
	Message string `in:"msg"`
}

type listOut struct {
	List List[int] `out:"LIST"`
	One  int       `out:"ONE"`
}

type twoIn struct {
	A int `in:"a"`
	B int `in:"b,optional"`
}

type textOut struct {
	UI   UI
	Text string `out:"TEXT"`
}

func newToys(t testing.TB) *toys {
	ty := &toys{calls: map[string]int{}, content: "one"}
	ty.Catalog = NewCatalog(
		Socket[pic]("IMAGE"), Socket[mask]("MASK"), Socket[picOrFloat]("IMAGE,FLOAT"),
		Combo[letter](Choices("a", "b")), Combo[many](func() []string {
			var out []string
			for i := range 25 {
				out = append(out, fmt.Sprintf("choice %02d", i))
			}
			return out
		}),
	)
	ty.addPlain()
	ty.addOdd()
	ty.addValidated()
	ty.addExpanding()
	if err := ty.Err(); err != nil {
		t.Fatal(err)
	}
	return ty
}

func (t *toys) addPlain() {
	Add(t.Catalog, "Src", "toys", srcIn{}, func(_ context.Context, in srcIn) (pic, error) {
		t.ran("Src")
		return pic(fmt.Sprint(in.V)), nil
	})
	Add(t.Catalog, "Mid", "toys", picIn{}, func(_ context.Context, in picIn) (pic, error) {
		t.ran("Mid")
		return in.Image + "m", nil
	})
	Add(t.Catalog, "Save", "toys", saveIn{Prefix: "toy"}, func(_ context.Context, in saveIn) (UI, error) {
		t.ran("Save")
		return UI{"images": {in.Prefix + ":" + string(in.Images)}}, nil
	}).Output()
	Add(t.Catalog, "Boom", "toys", picIn{}, func(_ context.Context, in picIn) (pic, error) {
		return "", errors.New("boom on " + string(in.Image))
	})
	Add(t.Catalog, "Panic", "toys", picIn{}, func(_ context.Context, in picIn) (pic, error) {
		panic("panic on " + string(in.Image))
	})
	Add(t.Catalog, "Intr", "toys", picIn{}, func(_ context.Context, in picIn) (pic, error) {
		return "", fmt.Errorf("stop: %w", ErrInterrupted)
	})
	Add(t.Catalog, "Combo", "toys", comboIn{C: "b"}, func(_ context.Context, in comboIn) (textOut, error) {
		text := fmt.Sprintf("%v %v %v %q %v %v", in.C, in.F, in.Bo, in.St, in.Opt, in.Any)
		return textOut{UI{"text": {text}}, text}, nil
	}).Output()
	type manyIn struct {
		C many `in:"c"`
		N int  `in:"n" ui:"forceInput"`
	}
	Add(t.Catalog, "Big", "toys", manyIn{}, nothing[manyIn, UI]).Output()
	Add(t.Catalog, "MkList", "toys", twoIn{}, func(_ context.Context, in twoIn) (listOut, error) {
		out := listOut{One: in.A}
		for i := range in.A {
			out.List = append(out.List, i+in.B)
		}
		return out, nil
	})
	Add(t.Catalog, "Two", "toys", twoIn{}, func(_ context.Context, in twoIn) (textOut, error) {
		t.ran("Two")
		text := fmt.Sprintf("%d+%d", in.A, in.B)
		return textOut{UI{"text": {text}}, text}, nil
	}).Output()
	type joinIn struct {
		A    List[int] `in:"a"`
		With string    `in:"with"`
	}
	Add(t.Catalog, "Join", "toys", joinIn{}, func(_ context.Context, in joinIn) (textOut, error) {
		text := strings.Trim(strings.ReplaceAll(fmt.Sprint(in.A), " ", in.With), "[]")
		return textOut{UI{"text": {text}}, text}, nil
	}).Output()
}

func (t *toys) addOdd() {
	t.AddType(&NodeType{Class: "Listed", Unsupported: "toys do not do that", Inputs: []Input{{Name: "file", Kind: "COMBO", Choices: Choices("a")}},
		Outputs: []Output{{Name: "STYLE", Kind: "STYLE"}}})
	Add(t.Catalog, "Volatile", "toys", srcIn{}, func(_ context.Context, in srcIn) (pic, error) {
		t.ran("Volatile")
		return "v", nil
	}).Volatile()
	type fileIn struct {
		Name string `in:"name"`
		Link pic    `in:"link,optional"`
	}
	Add(t.Catalog, "File", "toys", fileIn{}, func(_ context.Context, in fileIn) (pic, error) {
		t.ran("File")
		return pic(in.Name + " " + t.content), nil
	}).Fingerprint(func(in fileIn) (string, error) {
		t.asked++
		if in.Link != "" {
			return "", errors.New("saw a linked value")
		}
		if t.content == "" {
			return "", errors.New("no file")
		}
		return t.content, nil
	})
	Add(t.Catalog, "Lazy", "toys", lazyIn{}, func(_ context.Context, in lazyIn) (pic, error) {
		t.ran("Lazy")
		if in.B != nil {
			return *in.A + *in.B, nil
		}
		return *in.A, nil
	}).NeedLazy(func(_ context.Context, in lazyIn) []string { return []string{"a"} })
	Add(t.Catalog, "Switch", "toys", switchIn{}, func(_ context.Context, in switchIn) (pic, error) {
		if in.On {
			return *in.Yes, nil
		}
		return *in.No, nil
	}).NeedLazy(func(_ context.Context, in switchIn) []string {
		if in.On {
			return []string{"yes"}
		}
		return []string{"no"}
	})
	Add(t.Catalog, "Block", "toys", blockIn{}, func(_ context.Context, in blockIn) (pic, error) {
		return "", Blocker{in.Message}
	})
	type oddIn struct {
		N int `in:"n"`
	}
	Add(t.Catalog, "BlockOdd", "toys", oddIn{}, func(_ context.Context, in oddIn) (out struct {
		N       int `out:"n"`
		Blocked Blocked
	}, err error) {
		if in.N%2 == 1 {
			out.Blocked = Blocked{"n": "odd"}
		}
		out.N = in.N
		return out, nil
	})
	type restIn struct {
		First float64        `in:"first"`
		Rest  map[string]any `in:"*"`
	}
	Add(t.Catalog, "Sum", "toys", restIn{}, func(_ context.Context, in restIn) (float64, error) {
		sum := in.First
		for _, v := range in.Rest {
			sum += v.(float64)
		}
		return sum, nil
	})
	type sleepIn struct {
		Value int `in:"value"`
		Ms    int `in:"ms"`
	}
	sleep := func(ctx context.Context, in sleepIn) (int, error) {
		t.mu.Lock()
		t.together++
		t.most = max(t.most, t.together)
		t.mu.Unlock()
		defer func() { t.mu.Lock(); t.together--; t.mu.Unlock() }()
		for i := range 4 {
			Progress(ctx, i+1, 4)
			select {
			case <-time.After(time.Duration(in.Ms) * time.Millisecond / 4):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		return in.Value, nil
	}
	Add(t.Catalog, "Sleep", "toys", sleepIn{}, sleep)
	Add(t.Catalog, "DeviceSleep", "toys", sleepIn{}, sleep).Device()
	type floatIn struct {
		Value float64 `in:"value"`
	}
	Add(t.Catalog, "Float", "toys", floatIn{}, func(_ context.Context, in floatIn) (float64, error) { return in.Value, nil })
	type maskIn struct{}
	Add(t.Catalog, "Mask", "toys", maskIn{}, nothing[maskIn, mask])
	type showIn struct {
		Value any `in:"value"`
	}
	type showOut struct {
		UI    UI
		Value any `out:"value"`
	}
	Add(t.Catalog, "Show", "toys", showIn{}, func(_ context.Context, in showIn) (showOut, error) {
		t.ran("Show")
		return showOut{UI{"text": {fmt.Sprint(in.Value)}}, in.Value}, nil
	}).Output()
	type timeoutIn struct{}
	Add(t.Catalog, "Timeout", "toys", timeoutIn{}, func(context.Context, timeoutIn) (int, error) {
		return 0, fmt.Errorf("own timeout: %w", context.DeadlineExceeded)
	})
}

type validIn struct {
	Input any `in:"input" ui:"nodefault"`
}

type rangedIn struct {
	Input  float64 `in:"input" range:"0,1"`
	Input2 float64 `in:"input2,optional"`
}

func (t *toys) addValidated() {
	type unionIn struct {
		Input picOrFloat `in:"input"`
	}
	literalFloat := func(v any) error {
		if _, isFloat := v.(float64); v != nil && !isFloat {
			return fmt.Errorf("%v is no float", v)
		}
		return nil
	}
	Add(t.Catalog, "Valid1", "toys", unionIn{}, nothing[unionIn, UI]).Output().
		Validate(func(in unionIn, _ map[string]string) error { return literalFloat(in.Input) }, "input")
	kinds := func(_ unionIn, types map[string]string) error {
		if k, ok := types["input"]; ok && k != "FLOAT" && k != "IMAGE" {
			return fmt.Errorf("%s is neither", k)
		}
		return nil
	}
	Add(t.Catalog, "Valid2", "toys", unionIn{}, nothing[unionIn, UI]).Output().Validate(kinds, "input", InputTypes)
	Add(t.Catalog, "Valid4", "toys", rangedIn{}, nothing[rangedIn, UI]).Output().
		Validate(func(rangedIn, map[string]string) error { return nil }, "input")
	Add(t.Catalog, "Valid5", "toys", rangedIn{}, nothing[rangedIn, UI]).Output().
		Validate(func(in rangedIn, _ map[string]string) error {
			if in.Input == 7 {
				return ErrInvalid
			}
			return nil
		}, AllInputs)
	type howIn struct {
		N   int    `in:"n" range:"0,10"`
		How string `in:"how"`
	}
	Add(t.Catalog, "Validated", "toys", howIn{}, func(_ context.Context, in howIn) (int, error) { return in.N, nil }).
		Output().Validate(func(in howIn, _ map[string]string) error {
		switch in.How {
		case "text":
			return fmt.Errorf("n is %d", in.N)
		case "false":
			return ErrInvalid
		case "raise":
			panic("validator raised")
		}
		return nil
	}, "n", "how")
}

type anyOut struct {
	Value  any `out:"value"`
	Expand *Expand
}

func (t *toys) addExpanding() {
	type expIn struct {
		Image pic `in:"image"`
		N     int `in:"n"`
	}
	Add(t.Catalog, "Exp", "toys", expIn{N: 1}, func(ctx context.Context, in expIn) (anyOut, error) {
		t.ran("Exp")
		e := NewExpand(ctx)
		var last any = string(in.Image)
		for range in.N {
			last = e.Node("Mid", Inputs{"image": last}).Out(0)
		}
		return anyOut{Expand: e.Return(last)}, nil
	})
	type mixIn struct {
		N int `in:"n"`
	}
	Add(t.Catalog, "Mixed", "toys", mixIn{}, func(ctx context.Context, in mixIn) (anyOut, error) {
		if in.N%2 == 0 {
			return anyOut{Value: pic(fmt.Sprint("plain", in.N))}, nil
		}
		e := NewExpand(ctx)
		return anyOut{Expand: e.Return(e.Node("Src", Inputs{"v": in.N}).Out(0))}, nil
	})
	Add(t.Catalog, "ExpSave", "toys", picIn{}, func(ctx context.Context, in picIn) (anyOut, error) {
		e := NewExpand(ctx)
		e.Node("Save", Inputs{"images": in.Image, "filename_prefix": "inner"})
		return anyOut{Expand: e.Return(in.Image)}, nil
	}).Output()
	Add(t.Catalog, "ExpSleep", "toys", mixIn{}, func(ctx context.Context, in mixIn) (out struct {
		A, B, C int `out:"n"`
		Expand  *Expand
	}, err error) {
		e := NewExpand(ctx)
		a := e.Node("Sleep", Inputs{"value": 1, "ms": in.N})
		b := e.Node("Sleep", Inputs{"value": 2, "ms": in.N})
		c := e.Node("Sleep", Inputs{"value": 3, "ms": in.N})
		out.Expand = e.Return(a.Out(0), b.Out(0), c.Out(0))
		return out, nil
	})
	Add(t.Catalog, "DynCycle", "toys", picIn{}, func(ctx context.Context, in picIn) (anyOut, error) {
		e := NewExpand(ctx)
		a := e.Named("a", "Mid", nil)
		b := e.Named("b", "Mid", Inputs{"image": a.Out(0)})
		a.Inputs = Inputs{"image": b.Out(0)}
		return anyOut{Expand: e.Return(b.Out(0))}, nil
	})
	Add(t.Catalog, "ExpBad", "toys", mixIn{}, func(ctx context.Context, in mixIn) (anyOut, error) {
		e := NewExpand(ctx)
		switch in.N {
		case 0:
			e.Node("Midd", nil)
		case 1:
			e.Node("Mid", nil)
		case 2:
			e.Node("Mid", Inputs{"image": workflows.Link{Node: "none"}})
		case 3:
			e.Node("Src", Inputs{"v": "many"})
		case 4:
			e.Named("x", "Src", Inputs{"v": 1})
			e.Named("x", "Src", Inputs{"v": 2})
		case 5:
			e.Return(workflows.Link{Node: "none"})
		case 6:
			e.Node("Listed", nil)
		}
		return anyOut{Expand: e}, nil
	})
	t.addLoop()
}

// flow is what a loop's ends are tied with; the closing end takes the link.
type flow workflows.Link

// addLoop adds the ends of a loop: what lies between them is repeated by
// expansion, as ComfyUI's test nodes do it.
func (t *toys) addLoop() {
	t.kinds[Socket[flow]("FLOW").Type] = Socket[flow]("FLOW")
	type openIn struct {
		Left  int `in:"left"`
		Value any `in:"value"`
	}
	type openOut struct {
		Flow  flow `out:"flow"`
		Left  int  `out:"left"`
		Value any  `out:"value"`
	}
	Add(t.Catalog, "LoopOpen", "toys", openIn{}, func(_ context.Context, in openIn) (openOut, error) {
		return openOut{Left: in.Left, Value: in.Value}, nil
	})
	type closeIn struct {
		Flow  flow `in:"flow" ui:"rawLink"`
		Left  int  `in:"left"`
		Value any  `in:"value"`
		Dyn   DynPrompt
		ID    UniqueID
	}
	Add(t.Catalog, "LoopClose", "toys", closeIn{}, func(ctx context.Context, in closeIn) (anyOut, error) {
		t.ran("LoopClose")
		if in.Left <= 1 {
			return anyOut{Value: in.Value}, nil
		}
		e := NewExpand(ctx)
		body := map[string]*Expanded{}
		inside(in.Dyn, string(in.ID), in.Flow.Node, body)
		clones := map[string]*Expanded{}
		for _, id := range sortedKeys(body) {
			clones[id] = e.Named(id, body[id].Class, Inputs{})
		}
		for id, n := range body {
			for name, v := range n.Inputs {
				if l, ok := v.(workflows.Link); ok && clones[l.Node] != nil {
					v = clones[l.Node].Out(l.Slot)
				}
				clones[id].Inputs[name] = v
			}
		}
		clones[in.Flow.Node].Inputs["left"] = in.Left - 1
		clones[in.Flow.Node].Inputs["value"] = in.Value
		return anyOut{Expand: e.Return(clones[string(in.ID)].Out(0))}, nil
	})
	type halfIn struct {
		Value any `in:"value"`
	}
	Add(t.Catalog, "Half", "toys", halfIn{}, func(_ context.Context, in halfIn) (any, error) {
		t.ran("Half")
		return in.Value.(float64) / 2, nil
	})
	type decIn struct {
		A int `in:"a"`
	}
	Add(t.Catalog, "Same", "toys", decIn{}, func(_ context.Context, in decIn) (int, error) { return in.A, nil })
}

// inside gathers the nodes between a loop's ends, both included.
func inside(d DynPrompt, id, open string, into map[string]*Expanded) bool {
	if into[id] != nil {
		return true
	}
	n, ok := d.Node(id)
	if !ok {
		return false
	}
	found := id == open
	for _, v := range n.Inputs {
		if l, ok := v.(workflows.Link); ok && id != open && inside(d, l.Node, open, into) {
			found = true
		}
	}
	if found {
		into[id] = &n
	}
	return found
}

func sortedKeys(m map[string]*Expanded) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// graph reads a workflow written as JSON.
func graph(t testing.TB, text string) *workflows.Graph {
	t.Helper()
	g, err := workflows.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// brief reads a workflow written one node a line: `id Class name=value …`,
// where a value is JSON or @id.slot for a link.
func brief(t testing.TB, lines ...string) *workflows.Graph {
	t.Helper()
	g := &workflows.Graph{}
	for _, line := range lines {
		words := strings.Fields(line)
		n := &workflows.Node{ID: words[0], Class: words[1], Inputs: workflows.Object{}}
		for _, w := range words[2:] {
			name, text, _ := strings.Cut(w, "=")
			if link, ok := strings.CutPrefix(text, "@"); ok {
				i := strings.LastIndex(link, ".")
				text = fmt.Sprintf("[%q, %s]", link[:i], link[i+1:])
			}
			v, err := workflows.ParseValue([]byte(text))
			if err != nil {
				t.Fatalf("%s: %v", w, err)
			}
			n.Inputs.Set(name, v)
		}
		if err := g.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	return g
}
