package tokenizer

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/cputest"
)

// number reads the goldens' numbers, which may be "Inf" or "NaN".
type number float64

func (n *number) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case `"Inf"`:
		*n = number(math.Inf(1))
		return nil
	case `"NaN"`:
		*n = number(math.NaN())
		return nil
	}
	return json.Unmarshal(data, (*float64)(n))
}

func readGolden(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func newTestCLIP(t testing.TB) *CLIP {
	t.Helper()
	c, err := NewCLIP()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseWeightsGoldens(t *testing.T) {
	var cases []struct {
		Text     string
		Segments [][2]json.RawMessage
	}
	readGolden(t, "segments.json", &cases)
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, tt := range cases {
		var want []Segment
		for _, s := range tt.Segments {
			var text string
			var weight number
			if err := json.Unmarshal(s[0], &text); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(s[1], &weight); err != nil {
				t.Fatal(err)
			}
			want = append(want, Segment{text, float64(weight)})
		}
		got := ParseWeights(tt.Text)
		for i := range got { // the goldens have 9 digits
			if i < len(want) && math.Abs(got[i].Weight-want[i].Weight) < 1e-8 {
				got[i].Weight = want[i].Weight
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.Text, diff)
		}
	}
}

func TestParseWeights(t *testing.T) {
	tests := []struct {
		text string
		want []Segment
	}{
		{"((b))", []Segment{{"b", 1.2100000000000002}}},
		{"(a (b)", []Segment{{"a ", 1.1}, {"(b", 1.1}}},
		{"(a:１.５)", []Segment{{"a", 1.5}}},
		{"(a:.5)", []Segment{{"a", 0.5}}},
		{"(a:5.)", []Segment{{"a", 5}}},
		{"(a:1e999)", []Segment{{"a", math.Inf(1)}}},
		{"(a:-Infinity)", []Segment{{"a", math.Inf(-1)}}},
		{"(a:1e-999)", []Segment{{"a", 0}}},
		{"(a:0x10)", []Segment{{"a:0x10", 1.1}}},
		{"(a:1__0)", []Segment{{"a:1__0", 1.1}}},
		{"(a:.)", []Segment{{"a:.", 1.1}}},
		{"(a:\x1f1.5\u2003)", []Segment{{"a", 1.5}}},
		{`\(a\) (b\):2)`, []Segment{{"(a) ", 1}, {"b)", 2}}},
		{"a)(b)", []Segment{{"a)(b)", 1}}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, ParseWeights(tt.text)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
	if got := ParseWeights("(a:nan)"); len(got) != 1 || got[0].Text != "a" || !math.IsNaN(got[0].Weight) {
		t.Errorf("(a:nan): %v", got)
	}
}

func TestDeepNestingEnds(t *testing.T) {
	const n = 200_000
	cputest.Within(t, 20*time.Second)
	got := ParseWeights(strings.Repeat("(", n) + "a" + strings.Repeat(")", n))
	if len(got) != 1 || len(got[0].Text) != 2*(n-maxDepth)+1 {
		t.Errorf("%d segments", len(got))
	}
}

// The embeddings of the goldens: their rows' first four elements.
var firstFour = map[string][][]float32{
	"emb-sd15-tiny": {
		{0.376547217, -0.98262763, -0.217494488, 0.79354167},
		{0.657107592, -0.95866251, 0.0605834723, -0.819643259},
		{-0.965937018, -0.507593513, -0.889370918, -0.661244392},
	},
	"emb-one-sd15-tiny":    {{0.407714844, 0.179931641, 0.553710938, 0.329589844}},
	"emb-sdxl-tiny/clip_l": {{-0.995352268, -0.656435013, -0.322091818, -0.706697702}, {0.0784658194, -0.154132128, 0.521628141, 0.340129614}},
	"emb-sdxl-tiny/clip_g": {{0.791333437, 0.826510429, -0.192706823, 0.889486074}, {-0.946982741, -0.901770473, -0.977331758, 0.164917111}},
}

// embeddings returns a lookup for one of the encoders.
func embeddings(encoder string) func(string) ([][]float32, bool) {
	return func(name string) ([][]float32, bool) {
		name = strings.TrimSuffix(name, ".safetensors")
		starts, ok := firstFour[name]
		if !ok {
			starts, ok = firstFour[name+"/"+encoder]
		}
		width := 64
		if name == "emb-sdxl-tiny" && encoder == "clip_g" {
			width = 128
		}
		var rows [][]float32
		for _, s := range starts {
			rows = append(rows, append(s[:4:4], make([]float32, width-4)...))
		}
		return rows, ok
	}
}

type goldenChunk struct {
	IDs          []int
	RepeatLastTo int `json:"repeat_last_to"`
	Weights      []number
	Embeddings   []struct {
		Pos, Width int
		First4     []float32
	}
}

// tokens writes the chunk out.
func (g goldenChunk) tokens() []Token {
	var out []Token
	for i, id := range g.IDs {
		w := float32(1)
		if g.Weights != nil {
			w = float32(g.Weights[i])
		}
		out = append(out, Token{ID: id, Weight: w})
	}
	for len(out) < g.RepeatLastTo {
		out = append(out, out[len(out)-1])
	}
	for _, e := range g.Embeddings {
		out[e.Pos].Embedding = append(e.First4[:4:4], make([]float32, e.Width-4)...)
	}
	return out
}

func TestEncodeGoldens(t *testing.T) {
	var cases []struct {
		Text  string
		CLIPL []goldenChunk `json:"clip_l"`
		CLIPG []goldenChunk `json:"clip_g"`
	}
	readGolden(t, "clip.json", &cases)
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	c := newTestCLIP(t)
	for _, tt := range cases {
		check := func(encoder string, pad int, golden []goldenChunk) {
			var want [][]Token
			for _, g := range golden {
				want = append(want, g.tokens())
			}
			got := c.Encode(tt.Text, Options{Pad: pad, Embedding: embeddings(encoder)})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s %q (-want +got):\n%s", encoder, tt.Text, diff)
			}
		}
		check("clip_l", End, tt.CLIPL)
		check("clip_g", 0, tt.CLIPG)
	}
}

// brief prints a chunk: ids up to the padding, * for a row, @weight unless 1.
func brief(chunks [][]Token) string {
	var b strings.Builder
	for _, chunk := range chunks {
		b.WriteString("|")
		for i, t := range chunk {
			if i > 0 && t.ID == End && t.Weight == 1 && i+1 < len(chunk) && chunk[i+1].ID == End {
				break
			}
			switch {
			case t.ID == -1:
				b.WriteString(" *")
			case t.ID < Start:
				fmt.Fprintf(&b, " %d", t.ID)
			}
			if t.ID == End && t.Weight != 1 {
				b.WriteString(" end")
			}
			if t.Weight != 1 {
				fmt.Fprintf(&b, "@%g", t.Weight)
			}
		}
	}
	return b.String()
}

func TestEncode(t *testing.T) {
	c := newTestCLIP(t)
	tests := []struct {
		text  string
		width int
		want  string
	}{
		{"cat embedding:none dog", 0, "| 2368 1929"},
		{"embedding:none, dog", 0, "| 267 1929"},
		{"embedding:,none dog", 0, "| 324 1929"}, // the last letter of ",none" is left over
		{"embedding: cat", 0, "|"},
		{"embedding:", 0, "|"},
		{"embedding:emb-one-sd15-tiny,,cat", 0, "|"},
		{"embedding:emb-one-sd15-tiny\ncat", 0, "| * 2368"},
		{"(cat embedding:emb-one-sd15-tiny dog:2)", 0, "| 2368@2 *@2 1929@2"},
		{"cat embedding:emb-sd15-tiny dog", 64, "| 2368 * * * 1929"},
		{"cat embedding:emb-sd15-tiny dog", 128, "| 2368 1929"},
		// Weights stay at their positions.
		{"cat embedding:emb-one-sd15-tiny (dog:3)", 128, "| 2368 1929 end@3"},
		{"<|STARTOFTEXT|>cat<|EndOfText|>", 0, "| 2368"},
		{"ΣΑΣ", 0, brief(c.Encode("σας", Options{Pad: End}))},
	}
	for _, tt := range tests {
		got := brief(c.Encode(tt.text, Options{Pad: End, Width: tt.width, Embedding: embeddings("clip_l")}))
		if got != tt.want {
			t.Errorf("%q, width %d: got %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}

func TestShortChunks(t *testing.T) {
	c := newTestCLIP(t)
	for length := 3; length < 20; length++ {
		var ids []int
		for _, chunk := range c.Encode("one two three four (five six seven:1.2) 1234567890123", Options{Pad: End, Length: length}) {
			if len(chunk) != length || chunk[0].ID != Start {
				t.Fatalf("length %d: chunk %v", length, chunk)
			}
			for _, t := range chunk[1:] {
				if t.ID != End {
					ids = append(ids, t.ID)
				}
			}
		}
		if len(ids) != 20 {
			t.Errorf("length %d: %d tokens, want 20", length, len(ids))
		}
	}
}

func TestLongWordEnds(t *testing.T) {
	c := newTestCLIP(t)
	var b strings.Builder
	for x := uint32(1); b.Len() < 50_000; x = x*1664525 + 1013904223 {
		b.WriteByte('a' + byte(x>>24)%26)
	}
	cputest.Within(t, 10*time.Second)
	chunks := c.Encode(b.String(), Options{})
	if len(chunks) < 100 {
		t.Errorf("%d chunks", len(chunks))
	}
}

func TestNewCLIPRefusesDamage(t *testing.T) {
	pack := func(text string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, file := range map[string][]byte{
		"no gzip":   []byte("i n"),
		"cut":       mergesFile[:len(mergesFile)/2],
		"too few":   pack("version\ni n\n"),
		"unknown":   pack("version\nin g\n"),
		"one word":  pack("version\nin\n"),
		"no merges": pack(""),
	} {
		if _, err := newCLIP(file); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParseWeights(f *testing.F) {
	for _, s := range []string{"a (b:1.2) c", `\(a\)`, "((a:1) b:2))", "(a:1_0e5)", "(:1)", "(\x00\x01)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var total int
		for _, s := range ParseWeights(text) {
			if s.Text == "" {
				t.Errorf("empty segment")
			}
			total += len(s.Text)
		}
		if total > len(text) {
			t.Errorf("%d bytes of text became %d", len(text), total)
		}
		if !strings.ContainsAny(text, `()\`+"\x00") && text != "" {
			if got := ParseWeights(text); len(got) != 1 || got[0] != (Segment{text, 1}) {
				t.Errorf("plain text became %v", got)
			}
		}
	})
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"a cat", "(a:1.2) embedding:emb-sd15-tiny, b", "<|endoftext|>", "\xff\xfe", "漢字 İΣ", "it's 1'ſ", "embedding:,x"} {
		f.Add(s, 77)
		f.Add(s, 5)
	}
	c := newTestCLIP(f)
	f.Fuzz(func(t *testing.T, text string, length int) {
		length = 3 + int(uint(length)%200)
		chunks := c.Encode(text, Options{Pad: End, Length: length, Width: 64, Embedding: embeddings("clip_g")})
		if len(chunks) == 0 {
			t.Fatal("no chunk")
		}
		for _, chunk := range chunks {
			if len(chunk) != length || chunk[0].ID != Start || chunk[length-1].ID != End {
				t.Fatalf("chunk of %d, want %d with start and end: %v", len(chunk), length, chunk)
			}
			for _, tok := range chunk {
				if tok.ID < -1 || tok.ID > End || (tok.ID == -1) != (len(tok.Embedding) == 64) {
					t.Fatalf("token %v", tok)
				}
			}
		}
	})
}

func BenchmarkNewCLIP(b *testing.B) {
	for b.Loop() {
		newTestCLIP(b)
	}
}

func BenchmarkEncode(b *testing.B) {
	c := newTestCLIP(b)
	text := "a highly detailed matte painting of an ancient library hidden inside a mountain, (dust:1.2) in beams of light"
	for b.Loop() {
		c.Encode(text, Options{Pad: End})
	}
}
