package engine

import (
	"context"
	"strings"
	"testing"
)

type (
	fakeModel   struct{ name string }
	fakeClip    struct{ name string }
	fakeVAE     struct{ name string }
	fakeCond    []string
	fakeLatent  struct{ w, h int }
	fakeImage   struct{ text string }
	samplerName string
	scheduler   string
	checkpoint  string
)

type kSampler struct {
	Model     *fakeModel  `in:"model"`
	Seed      uint64      `in:"seed" range:"0,0xffffffffffffffff" ui:"control_after_generate"`
	Steps     int         `in:"steps" range:"1,10000"`
	CFG       float64     `in:"cfg" range:"0,100,0.1,0.01"`
	Sampler   samplerName `in:"sampler_name"`
	Scheduler scheduler   `in:"scheduler"`
	Positive  fakeCond    `in:"positive"`
	Negative  fakeCond    `in:"negative"`
	Latent    fakeLatent  `in:"latent_image"`
	Denoise   float64     `in:"denoise" range:"0,1,0.01"`
}

func fakeCatalog() *Catalog {
	c := NewCatalog(
		Socket[*fakeModel]("MODEL"), Socket[*fakeClip]("CLIP"), Socket[*fakeVAE]("VAE"),
		Socket[fakeCond]("CONDITIONING"), Socket[fakeLatent]("LATENT"), Socket[fakeImage]("IMAGE"),
		Combo[samplerName](Choices("euler", "heun")), Combo[scheduler](Choices("simple", "normal")),
		Combo[checkpoint](Choices()),
	)
	Add(c, "KSampler", "sampling", kSampler{Steps: 20, CFG: 8, Denoise: 1},
		func(_ context.Context, in kSampler) (fakeLatent, error) { return in.Latent, nil })
	return c
}

func TestDeclareKSampler(t *testing.T) {
	c := fakeCatalog()
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	typ, _ := c.Type("KSampler")
	if len(typ.Inputs) != 10 || len(typ.Outputs) != 1 || typ.Outputs[0].Name != "LATENT" {
		t.Errorf("derived %+v", typ)
	}
	if got := typ.Inputs[1].Max.String(); got != "18446744073709551615" {
		t.Errorf("seed's max is %s", got)
	}
}

func TestDeclarationMistakes(t *testing.T) {
	c := NewCatalog(Socket[fakeImage]("IMAGE"), Socket[fakeImage]("MASK"))
	type bad struct {
		A int32   `in:"a"`
		B int     `in:"b" range:"9,1"`
		C string  `in:"c" range:"0,1"`
		D int     `in:"b" ui:"shiny"`
		E int     `in:"e,maybe"`
		F float64 ``
		G int     `in:"g" ui:"lazy"`
		H int     `in:"h" range:"1,5"`
	}
	type out struct {
		X fakeModel `out:"X"`
		Y int
	}
	Add(c, "Bad", "x", bad{}, func(context.Context, bad) (out, error) { return out{}, nil })
	Add(c, "Bad", "x", struct{}{}, func(context.Context, struct{}) (int, error) { return 0, nil })
	Add(c, "Odd", "x", 5, func(context.Context, int) (int, error) { return 0, nil }).
		Validate(func(int, map[string]string) error { return nil }, "nosuch")
	err := c.Err()
	for _, want := range []string{
		"engine.fakeImage is both IMAGE and MASK", "Bad: A: int32 is not a kind of value", "Bad: B: tag range: 9 is above 1",
		"Bad: C: tag range: STRING has no range", `Bad: D: tag ui: "shiny" is not one of`, `Bad: E: tag in: "maybe" is not optional`,
		"Bad: F: has no tag in", "Bad: H: default 0 is outside of 1 to 5", `Bad: input "g" is lazy`, `Bad: input "b" is declared twice`, "Bad: result X: engine.fakeModel is not",
		`Bad: result Y: has no tag out`, "Bad: declared twice", "Odd: inputs want a struct, not int", `Odd: the validator names "nosuch"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no mention of %q in\n%v", want, err)
		}
	}
}
