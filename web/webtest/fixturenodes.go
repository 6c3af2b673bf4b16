package webtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Image is what travels over IMAGE links.
type Image struct{ *tensor.Tensor }

// Mask is what travels over MASK links.
type Mask struct{ *tensor.Tensor }

type (
	previewFormat string
	letter        string
	many          string
	verdict       string
)

func fixtureKinds() []engine.Kind {
	var choices []string
	for k := range 25 {
		choices = append(choices, fmt.Sprintf("choice %02d", k))
	}
	return []engine.Kind{
		engine.Combo[previewFormat](engine.Choices("none", "jpeg", "png")),
		engine.Combo[letter](engine.Choices("a", "b", "c")),
		engine.Combo[many](engine.Choices(choices...)),
		engine.Combo[verdict](engine.Choices("ok", "text", "false", "raise")),
	}
}

const (
	fixtureCategory = "fixture"
	fixtureModule   = "custom_nodes.fixture_nodes"
)

// addFixtures declares the classes of the recorded server's fixture nodes.
func addFixtures(c *engine.Catalog) {
	engine.Add(c, "FxSteps", fixtureCategory, fxSteps{Steps: 3, FailAt: -1}, runSteps).Module(fixtureModule).Title("Fixture Steps")
	echo := engine.Add(c, "FxEcho", fixtureCategory, fxEcho{I: 1, F: 1, C: "b"}, runEcho).Module(fixtureModule).Output().Type()
	echo.Inputs[5].Default = engine.Int(7)
	echo.Inputs[6].Choices, echo.Inputs[6].Kind = nil, engine.KindCombo
	echo.Inputs[6].Options = engine.Members{{Key: "options", Value: []string{"x", "y"}}}
	echo.Inputs[6].Default = "y"
	engine.Add(c, "FxBig", fixtureCategory, fxBig{}, runBig).Module(fixtureModule).Output()
	engine.Add(c, "FxValidated", fixtureCategory, fxValidated{}, runValidated).Module(fixtureModule).Output().
		Validate(validate, "n", "how")
	engine.Add(c, "FxSleep", fixtureCategory, fxSleep{Value: 1, MS: 100}, runSleep).Module(fixtureModule)
	engine.Add(c, "FxBlock", fixtureCategory, fxBlock{Value: 1}, runBlock).Module(fixtureModule)
	engine.Add(c, "FxSwitch", fixtureCategory, fxSwitch{On: true}, runSwitch).Module(fixtureModule).NeedLazy(needed)
	engine.Add(c, "FxVolatile", fixtureCategory, fxVolatile{Value: 1}, runVolatile).Module(fixtureModule).Volatile()
	engine.Add(c, "FxShow", fixtureCategory, fxShow{}, runShow).Module(fixtureModule).Output()
	engine.Add(c, "FxExpand", fixtureCategory, fxExpand{N: 2}, runExpand).Module(fixtureModule)
	engine.Add(c, "FxList", fixtureCategory, fxList{N: 3}, runList).Module(fixtureModule)
}

// Exception is the error of a node of which ComfyUI would tell by the name of
// a Python exception.
type Exception struct{ Type, Text string }

// Error is the text.
func (e *Exception) Error() string { return e.Text }

// ExceptionType is the name of the Python exception.
func (e *Exception) ExceptionType() string { return e.Type }

type fxSteps struct {
	Seed    uint64        `in:"seed" range:"0,0xffffffffffffffff" ui:"control_after_generate"`
	Steps   int           `in:"steps" range:"1,1000"`
	Delay   int           `in:"delay_ms" range:"0,60000"`
	Preview previewFormat `in:"preview"`
	FailAt  int           `in:"fail_at" range:"-1,1000"`
	Image   *Image        `in:"image,optional"`
}

// runSteps reports progress, with previews if asked for, and fails where it is told to.
func runSteps(ctx context.Context, in fxSteps) (Image, error) {
	for i := range in.Steps {
		if i == in.FailAt {
			return Image{}, &Exception{"ValueError", fmt.Sprintf("failed at step %d", i)}
		}
		if err := sleep(ctx, in.Delay, i+1); err != nil {
			return Image{}, err
		}
		if in.Preview == "none" {
			engine.Progress(ctx, i+1, in.Steps)
		} else {
			engine.Preview(ctx, i+1, in.Steps, flatPreview(in.Preview, i))
		}
	}
	const width, height = 16, 8
	return Image{tensor.Full(float32(in.Seed%256)/255, 1, height, width, 3)}, nil
}

// sleep waits for some milliseconds before a step, or for the conversation that the node is in, or until ctx ends.
func sleep(ctx context.Context, ms, step int) error {
	if p, ok := ctx.Value(paceKey{}).(paced); ok && ms > 0 {
		return p.wait(ctx, step)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return ctx.Err()
	}
}

type fxEcho struct {
	I    int64   `in:"i" range:"-10,10,1"`
	F    float64 `in:"f" range:"-1,1.5,0.01"`
	S    string  `in:"s" ui:"multiline,dynamicPrompts,default"`
	B    bool    `in:"b"`
	C    letter  `in:"c"`
	Opt  *int64  `in:"opt,optional" range:"0,100"`
	V3C  *letter `in:"v3c,optional"`
	Any  any     `in:"any,optional"`
	Link *Image  `in:"link,optional"`
	ID   engine.UniqueID
}

type echoed struct {
	UI engine.UI
	I  int64  `out:"INT"`
	S  string `out:"STRING"`
}

// runEcho shows its literals as Python's json.dumps writes them.
func runEcho(_ context.Context, in fxEcho) (echoed, error) {
	members := engine.Members{
		{Key: "i", Value: in.I}, {Key: "f", Value: in.F}, {Key: "s", Value: in.S}, {Key: "b", Value: in.B},
		{Key: "c", Value: string(in.C)}, {Key: "unique_id", Value: string(in.ID)},
	}
	if in.Opt != nil {
		members = append(members, engine.Member{Key: "opt", Value: *in.Opt})
	}
	if in.V3C != nil {
		members = append(members, engine.Member{Key: "v3c", Value: string(*in.V3C)})
	}
	if in.Any != nil {
		members = append(members, engine.Member{Key: "any", Value: in.Any})
	}
	return echoed{UI: engine.UI{"text": {pythonJSON(members)}}, I: in.I, S: in.S}, nil
}

type fxBig struct {
	C many  `in:"c"`
	N int64 `in:"n" ui:"forceInput"`
}

func runBig(_ context.Context, in fxBig) (engine.UI, error) {
	return engine.UI{"text": {string(in.C), strconv.FormatInt(in.N, 10)}}, nil
}

type fxValidated struct {
	N   int64   `in:"n" range:"0,10"`
	How verdict `in:"how"`
}

type shown struct {
	UI    engine.UI
	Value int64 `out:"INT"`
}

func show(n int64) (shown, error) {
	return shown{engine.UI{"text": {strconv.FormatInt(n, 10)}}, n}, nil
}

func runValidated(_ context.Context, in fxValidated) (shown, error) { return show(in.N) }

func validate(in fxValidated, _ map[string]string) error {
	switch in.How {
	case "text":
		return fmt.Errorf("n is %d", in.N)
	case "false":
		return engine.ErrInvalid
	case "raise":
		panic(errors.New("validator raised"))
	}
	return nil
}

type fxSleep struct {
	Value int64 `in:"value"`
	MS    int   `in:"ms" range:"0,60000"`
}

func runSleep(ctx context.Context, in fxSleep) (int64, error) { return in.Value, sleep(ctx, in.MS, 1) }

type fxBlock struct {
	Value   int64  `in:"value"`
	Message string `in:"message" ui:"default"`
}

func runBlock(_ context.Context, in fxBlock) (int64, error) {
	return 0, engine.Blocker{Message: in.Message}
}

type fxSwitch struct {
	On  bool   `in:"on"`
	Yes *int64 `in:"yes,optional" ui:"lazy"`
	No  *int64 `in:"no,optional" ui:"lazy"`
}

func needed(_ context.Context, in fxSwitch) []string {
	switch {
	case in.On && in.Yes == nil:
		return []string{"yes"}
	case !in.On && in.No == nil:
		return []string{"no"}
	}
	return nil
}

func runSwitch(_ context.Context, in fxSwitch) (int64, error) {
	chosen := in.No
	if in.On {
		chosen = in.Yes
	}
	if chosen == nil {
		return 0, errors.New("the chosen branch is not linked")
	}
	return *chosen, nil
}

type fxVolatile struct {
	Value int64 `in:"value"`
}

func runVolatile(_ context.Context, in fxVolatile) (int64, error) { return in.Value, nil }

type fxShow struct {
	Value int64 `in:"value"`
}

func runShow(_ context.Context, in fxShow) (shown, error) { return show(in.Value) }

type fxExpand struct {
	N int `in:"n" range:"1,10"`
}

type expanded struct {
	Image  Image `out:"IMAGE"`
	Expand *engine.Expand
}

// runExpand is replaced by a chain of n FxSteps.
func runExpand(ctx context.Context, in fxExpand) (expanded, error) {
	e := engine.NewExpand(ctx)
	var last *engine.Expanded
	for k := range in.N {
		inputs := engine.Inputs{"seed": k, "steps": 2, "delay_ms": 0, "preview": "none", "fail_at": -1}
		if last != nil {
			inputs["image"] = last.Out(0)
		}
		last = e.Node("FxSteps", inputs)
	}
	return expanded{Expand: e.Return(last.Out(0))}, nil
}

type fxList struct {
	N int64 `in:"n" range:"0,10"`
}

func runList(_ context.Context, in fxList) (engine.List[int64], error) {
	out := engine.List[int64]{}
	for i := range in.N {
		out = append(out, i)
	}
	return out, nil
}

// pythonJSON writes a value as Python's json.dumps does.
func pythonJSON(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return pythonQuote(v)
	case float64:
		return strings.NewReplacer("nan", "NaN", "inf", "Infinity").Replace(engine.Float(v).String())
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = pythonJSON(item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		return pythonObject(sorted(v))
	case engine.Members:
		return pythonObject(v)
	}
	return fmt.Sprint(v)
}

func pythonObject(members engine.Members) string {
	parts := make([]string, len(members))
	for i, m := range members {
		parts[i] = pythonQuote(m.Key) + ": " + pythonJSON(m.Value)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
