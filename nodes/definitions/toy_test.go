package definitions

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// The toy catalogue: pictures are texts that say how they came about.
type (
	picture string
	colour  string
	file    string
)

type paintIn struct {
	Width  int    `in:"width" range:"16,512,8"`
	Colour colour `in:"colour"`
	Label  string `in:"label,optional"`
}

type blurIn struct {
	Image  picture `in:"image"`
	Radius float64 `in:"radius" range:"0,10,0.5"`
	Width  int     `in:"width,optional" range:"64,1024"`
}

type chooseIn struct {
	First bool     `in:"first"`
	A     *picture `in:"a,optional" ui:"lazy"`
	B     *picture `in:"b,optional" ui:"lazy"`
}

type seeIn struct {
	Image picture `in:"image"`
}

type showIn struct {
	Value any `in:"value"`
}

type loadIn struct {
	Name file `in:"name"`
}

type joinIn struct {
	Images engine.List[picture] `in:"images"`
}

type splitIn struct {
	N int `in:"n" range:"1,9"`
}

// toys is the catalogue, how often each class ran, and the content of files.
type toys struct {
	*engine.Catalog
	mu      sync.Mutex
	ran     map[string]int // read when nothing runs
	content string
}

func (ty *toys) count(class string) {
	ty.mu.Lock()
	defer ty.mu.Unlock()
	ty.ran[class]++
}

func newToys(t testing.TB) *toys {
	ty := &toys{ran: map[string]int{}, content: "one"}
	c := engine.NewCatalog(engine.Socket[picture]("IMAGE"), engine.Combo[colour](engine.Choices("red", "green", "blue")),
		engine.Combo[file](engine.Choices("here.png")))
	ty.Catalog = c
	engine.Add(c, "Paint", "toys", paintIn{Width: 64}, func(_ context.Context, in paintIn) (picture, error) {
		ty.count("Paint")
		return picture(fmt.Sprintf("%s%d%s", in.Colour, in.Width, in.Label)), nil
	}).Doc("Paints.")
	engine.Add(c, "Blur", "toys", blurIn{Radius: 1, Width: 64}, func(_ context.Context, in blurIn) (picture, error) {
		ty.count("Blur")
		if in.Radius == 9 {
			return "", errors.New("too much blur")
		}
		return picture(fmt.Sprintf("blur%g(%s)", in.Radius, in.Image)), nil
	})
	engine.Add(c, "IsRed", "toys", seeIn{}, func(_ context.Context, in seeIn) (bool, error) {
		return strings.Contains(string(in.Image), "red"), nil
	})
	engine.Add(c, "Choose", "toys", chooseIn{}, func(_ context.Context, in chooseIn) (picture, error) {
		if in.First {
			return *in.A, nil
		}
		return *in.B, nil
	}).NeedLazy(func(_ context.Context, in chooseIn) []string {
		if in.First {
			return []string{"a"}
		}
		return []string{"b"}
	})
	engine.Add(c, "Show", "toys", showIn{}, func(_ context.Context, in showIn) (engine.UI, error) {
		ty.count("Show")
		return engine.UI{"text": {fmt.Sprint(in.Value)}}, nil
	}).Output()
	engine.Add(c, "Load", "toys", loadIn{}, func(_ context.Context, in loadIn) (picture, error) {
		ty.count("Load")
		return picture(string(in.Name) + "=" + ty.content), nil
	}).Fingerprint(func(loadIn) (string, error) { return ty.content, nil })
	engine.Add(c, "Split", "toys", splitIn{N: 1}, func(_ context.Context, in splitIn) (engine.List[picture], error) {
		var out engine.List[picture]
		for i := range in.N {
			out = append(out, picture(fmt.Sprint(i)))
		}
		return out, nil
	})
	engine.Add(c, "Join", "toys", joinIn{}, func(_ context.Context, in joinIn) (picture, error) {
		return picture(fmt.Sprint(in.Images)), nil
	})
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	return ty
}

// define writes definitions into a folder and loads them.
func (ty *toys) define(t testing.TB, texts ...string) *Set {
	t.Helper()
	folder := t.TempDir()
	for i, text := range texts {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i)+Suffix), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Load(ty.Catalog, folder)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs a workflow and returns what its output nodes show, with their ids.
func (ty *toys) run(t testing.TB, r *engine.Runner, g *workflows.Graph) string {
	t.Helper()
	plan, err := engine.NewPlan(g, ty.Catalog, engine.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	result, err := r.Run(t.Context(), plan, engine.RunOptions{})
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, ui := range result.UI {
		for _, text := range ui.UI["text"] {
			lines = append(lines, fmt.Sprintf("%s: %v", ui.Node, text))
		}
	}
	return strings.Join(lines, "\n")
}

func graph(t testing.TB, text string) *workflows.Graph {
	t.Helper()
	g, err := workflows.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func leaf(context.Context, struct{}) (picture, error) { return "leaf", nil }
