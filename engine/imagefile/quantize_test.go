package imagefile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

type quantizeCase struct {
	Width, Height, Colours int
	Seed                   uint64
	Kind, Dither, SHA256   string
}

// picture is noise, or a gradient with a little of it.
func (c quantizeCase) picture() Picture {
	p, x := newPicture(c.Width, c.Height), c.Seed
	for i := range p.RGB {
		x = x*6364136223846793005 + 1442695040888963407
		p.RGB[i] = byte(x >> 56)
		if c.Kind == "gradient" {
			px, channel := i/3, i%3
			p.RGB[i] = byte(px%c.Width*(channel+2) + px/c.Width*(4-channel) + int(x>>60))
		}
	}
	return p
}

// TestQuantizeLikePillow compares every pixel with Pillow's.
func TestQuantizeLikePillow(t *testing.T) {
	data, err := os.ReadFile("testdata/quantize.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []quantizeCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%dx%d %s %d %s", c.Width, c.Height, c.Kind, c.Colours, c.Dither), func(t *testing.T) {
			got, err := Quantize(c.picture(), c.Colours, c.Dither)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(got.RGB)
			if hex.EncodeToString(sum[:]) != c.SHA256 {
				t.Error("differs from Pillow")
			}
		})
	}
}

func TestQuantizeErrors(t *testing.T) {
	p := newPicture(2, 2)
	for _, c := range []struct {
		p       Picture
		colours int
		dither  string
	}{{p, 0, DitherNone}, {p, 257, DitherNone}, {p, 2, "bayer-3"}, {Picture{}, 2, DitherNone}} {
		if _, err := Quantize(c.p, c.colours, c.dither); err == nil {
			t.Errorf("%d colours, %s: no error", c.colours, c.dither)
		}
	}
}
