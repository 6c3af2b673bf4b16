package diff

import (
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/comfyrun/comfyrun/workflows/diff/difftest"
)

func mustParse(t testing.TB, data []byte) *Document {
	t.Helper()
	doc, err := Parse(data, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return doc
}

// plain is a node as a listing of differences can rebuild it: without layout.
type plain struct {
	Class, Title string
	Mode         int64
	Values       map[string]string
	Links        map[string]string
	Members      map[string]string
}

func plainOf(s *Sheet) map[string]*plain {
	nodes := map[string]*plain{}
	for _, n := range s.Nodes {
		p := &plain{n.Class, n.Title, int64(n.Mode), map[string]string{}, map[string]string{}, map[string]string{}}
		for _, l := range n.Literals {
			p.Values[l.Name] = l.Value.Raw()
		}
		for _, in := range n.Inputs {
			p.Links[in.Name] = fmt.Sprint(in.From.Node, " ", in.From.Slot)
		}
		for _, m := range n.Members {
			p.Members[m.Name] = m.Value.Raw()
		}
		nodes[n.ID] = p
	}
	return nodes
}

// apply makes the changes of a listing, which was read from JSON, to the nodes of the old side.
func apply(nodes map[string]*plain, changes []Change) map[string]*plain {
	ids := map[string]string{} // new ones by old ones
	for id := range nodes {
		ids[id] = id
	}
	for _, c := range changes {
		switch c.Kind {
		case Renumbered:
			ids[c.Before.ID] = c.Node.ID
		case Removed:
			delete(ids, c.Node.ID)
		}
	}
	after := map[string]*plain{}
	for _, old := range slices.Sorted(maps.Keys(ids)) {
		n := nodes[old]
		for name, from := range n.Links {
			var id string
			var slot int
			fmt.Sscan(from, &id, &slot)
			if to, ok := ids[id]; ok {
				n.Links[name] = fmt.Sprint(to, " ", slot)
			}
		}
		after[ids[old]] = n
	}
	for _, c := range changes {
		if c.Kind != Removed && c.Kind != Renumbered {
			applyTo(after, c)
		}
	}
	return after
}

func applyTo(nodes map[string]*plain, c Change) {
	n := nodes[c.Node.ID]
	set := func(values map[string]string) {
		switch {
		case c.New != nil:
			values[c.Input] = c.New.Raw()
		case c.Old != nil:
			delete(values, c.Input)
		}
	}
	switch c.Kind {
	case Added:
		n = &plain{c.Node.Class, c.Node.Title, int64(c.Content.Mode), map[string]string{}, map[string]string{}, map[string]string{}}
		for _, v := range c.Content.Values {
			n.Values[v.Name] = v.Value.Raw()
		}
		for _, l := range c.Content.Links {
			n.Links[l.Name] = fmt.Sprint(l.From.Node.ID, " ", l.From.Slot)
		}
		for _, m := range c.Content.Members {
			n.Members[m.Name] = m.Value.Raw()
		}
		nodes[c.Node.ID] = n
	case Replaced:
		n.Class = c.Node.Class
	case Titled:
		n.Title = ""
		if c.New != nil {
			n.Title, _ = c.New.Str()
		}
	case Mode:
		n.Mode, _ = c.New.Int64()
	case Member:
		set(n.Members)
	case Literal:
		set(n.Values)
	case Wired:
		set(n.Values)
		delete(n.Links, c.Input)
		if c.NewFrom != nil {
			n.Links[c.Input] = fmt.Sprint(c.NewFrom.Node.ID, " ", c.NewFrom.Slot)
		}
	}
}

// A diff lists enough to rebuild the other side, whatever was edited; of a document and itself it is empty.
func TestListingRebuilds(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 7))
		f := difftest.New(r, seed%2 == 0, r.IntN(14))
		before := f.Text()
		log := ""
		for range 1 + r.IntN(6) {
			log += f.Edit(0, len(f.Nodes)) + "\n"
		}
		if seed%4 == 0 {
			f.Renumber()
			log += "renumber\n"
		}
		after := f.Text()
		a, b := mustParse(t, before), mustParse(t, after)
		if d := Compare(a, mustParse(t, before)); !d.Same() || d.Text(false) != "" {
			t.Fatalf("seed %d: a document differs from itself:\n%s", seed, d.Text(false))
		}
		data, err := Compare(a, b).JSON()
		if err != nil {
			t.Fatal(err)
		}
		var listing struct{ Changes []Change }
		if err := json.Unmarshal(data, &listing); err != nil {
			t.Fatal(err)
		}
		got := apply(plainOf(a.Sheets[0]), listing.Changes)
		if d := cmp.Diff(plainOf(b.Sheets[0]), got); d != "" {
			t.Fatalf("seed %d: the listing rebuilds another document (-want +got):\n%s\n%s%s\n%s\n%s", seed, d, log, data, before, after)
		}
	}
}

// New ids alone are no difference, where nodes can be told apart.
func TestRenumberedIsTheSame(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 8))
		f := difftest.New(r, seed%2 == 0, 40)
		before := f.Text()
		f.Renumber()
		for _, c := range Compare(mustParse(t, before), mustParse(t, f.Text())).Changes {
			if c.Kind != Renumbered {
				t.Fatalf("seed %d: %+v", seed, c)
			}
		}
	}
}

// The change of one value of a renumbered workflow is the only thing told.
func TestRenumberedAndEdited(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 9))
		f := difftest.New(r, false, 40)
		before := f.Text()
		n := f.Nodes[slices.IndexFunc(f.Nodes, func(n *difftest.Node) bool { return len(n.Values) > 2 })]
		n.Values[0] = "another"
		f.Renumber()
		var told []Change
		for _, c := range Compare(mustParse(t, before), mustParse(t, f.Text())).Changes {
			if c.Kind != Renumbered {
				told = append(told, c)
			}
		}
		if len(told) != 1 || told[0].Kind != Literal || told[0].Node.ID != fmt.Sprint(n.ID) {
			t.Fatalf("seed %d: %+v", seed, told)
		}
	}
}

// Nodes that say the same are told apart by nothing, and are as many as before.
func TestAlike(t *testing.T) {
	text := func(first int) []byte {
		var nodes []string
		for i := range 1000 {
			nodes = append(nodes, fmt.Sprintf(`"%d": {"class_type": "A", "inputs": {"x": 1}}`, first+i))
		}
		return []byte("{" + strings.Join(nodes, ",") + "}")
	}
	d := Compare(mustParse(t, text(1)), mustParse(t, text(5000)))
	if len(d.Changes) != 1000 || slices.ContainsFunc(d.Changes, func(c Change) bool { return c.Kind != Renumbered }) {
		t.Errorf("%d changes, want 1000 new ids", len(d.Changes))
	}
}

// BenchmarkCompare compares graphs of 1,000 nodes, which takes less than 100 ms on a machine of its own.
func BenchmarkCompare(b *testing.B) {
	for _, c := range []struct {
		name   string
		change func(*difftest.Flow)
	}{
		{"edited", func(f *difftest.Flow) { f.Edit(0, 1000) }},
		{"renumbered", func(f *difftest.Flow) { f.Renumber() }},
		{"renumbered and edited", func(f *difftest.Flow) {
			f.Renumber()
			for range 20 {
				f.Edit(0, 1000)
			}
		}},
		{"other", func(f *difftest.Flow) { *f = *difftest.New(rand.New(rand.NewPCG(3, 3)), false, 1000) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := difftest.New(rand.New(rand.NewPCG(1, 1)), false, 1000)
			before := mustParse(b, f.Text())
			c.change(f)
			after := mustParse(b, f.Text())
			for b.Loop() {
				Compare(before, after)
			}
		})
	}
}

func TestWords(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"a cat on grass", "a dog on grass", "a [-cat-]{+dog+} on grass"},
		{"a cat", "a cat, sharp", "a cat{+, sharp+}"},
		{"one two three", "two three", "[-one -]two three"},
		{"red green blue", "cyan magenta blue", "[-red green-]{+cyan magenta+} blue"},
		{"", "new words", "{+new words+}"},
		{"(cat:1.2)", "(cat:1.4)", "(cat:1.[-2-]{+4+})"},
		{"猫 と 犬", "猫 と 鳥", "猫 と [-犬-]{+鳥+}"},
	} {
		p := &printer{}
		if got := p.words(words(tt.a, tt.b)); got != tt.want {
			t.Errorf("words(%q, %q) = %s, want %s", tt.a, tt.b, got, tt.want)
		}
	}
}

// The parts of a comparison by word are the two texts.
func FuzzWords(f *testing.F) {
	f.Add("a cat on grass", "a dog on the grass")
	f.Add("", " \n")
	f.Add("\xff a", "b \xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		before, after := "", ""
		for _, w := range words(a, b) {
			if w.Op != opInsert {
				before += w.Text
			}
			if w.Op != opDelete {
				after += w.Text
			}
		}
		if before != a || after != b {
			t.Errorf("words(%q, %q) says %q and %q", a, b, before, after)
		}
	})
}

// Whatever a file says, comparing it with another gives some text, and none with itself.
func FuzzCompare(f *testing.F) {
	f.Add([]byte(`{"1": {"class_type": "A", "inputs": {"x": 1, "y": ["2", 0]}}}`), []byte(`{"nodes": [], "links": []}`))
	for seed := range uint64(4) {
		flow := difftest.New(rand.New(rand.NewPCG(seed, 0)), seed%2 == 0, 5)
		a := flow.Text()
		flow.Edit(0, 5)
		f.Add(a, flow.Text())
	}
	f.Add([]byte(`{"nodes": [{"id": 1, "type": "s", "inputs": [{"link": 9}]}], "links": [[9, -10, 0, 1, 0]],
		"definitions": {"subgraphs": [{"id": "s", "inputs": [{"name": "a"}], "outputs": [], "nodes": [], "links": []}]}}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		a, err := Parse(one, nil)
		if err != nil {
			return
		}
		if text := Compare(a, a).Text(false); text != "" {
			t.Errorf("a document differs from itself:\n%s", text)
		}
		Describe(a)
		b, err := Parse(two, nil)
		if err != nil {
			return
		}
		d := Compare(a, b)
		if _, err := d.JSON(); err != nil {
			t.Error(err)
		}
		d.Text(true)
		d.HTML()
	})
}

var update = flag.Bool("update", false, "write the expected texts of testdata anew")

// Each file of testdata has two documents and what is said of their difference.
func TestText(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 7 {
		t.Fatalf("testdata has %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var docs [2]*Document
			for i := range docs {
				docs[i] = mustParse(t, archive.Files[i].Data)
			}
			got := Compare(docs[0], docs[1]).Text(false)
			if *update {
				archive.Files[2].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(archive.Files[2].Data), got); d != "" {
				t.Errorf("text (-want +got):\n%s", d)
			}
		})
	}
}

// The page is one file without scripts and outside references, and is XML, so that what documents say cannot break out of it.
func TestHTML(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		a, b := mustParse(t, archive.Files[0].Data), mustParse(t, archive.Files[1].Data)
		a.Name, b.Name = "<old>", "new & other"
		page := Compare(a, b).HTML()
		if n := strings.Count(page, "<svg "); n != 2*len(b.Sheets) {
			t.Errorf("%s: %d drawings", file, n)
		}
		if strings.Contains(page, "<script") || strings.Contains(page, "<old>") || strings.Contains(strings.ReplaceAll(page, "http://www.w3.org/2000/svg", ""), "http") {
			t.Errorf("%s: the page has scripts, addresses or raw text", file)
		}
		body := page[strings.Index(page, "<body>"):strings.Index(page, "</html>")]
		decoder := xml.NewDecoder(strings.NewReader(body))
		for {
			if _, err := decoder.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Errorf("%s: %v", file, err)
				break
			}
		}
	}
}

func TestColor(t *testing.T) {
	a := mustParse(t, []byte(`{"3": {"class_type": "KSampler", "inputs": {"seed": 1}}}`))
	b := mustParse(t, []byte(`{"3": {"class_type": "KSampler", "inputs": {"seed": 2}}}`))
	if got, want := Compare(a, b).Text(true), "\x1b[33mKSampler 3\x1b[0m: seed \x1b[31m1\x1b[0m → \x1b[32m2\x1b[0m\n"; got != want {
		t.Errorf("text is %q, want %q", got, want)
	}
}

func TestDescribe(t *testing.T) {
	doc := mustParse(t, []byte(`{"4": {"class_type": "Loader", "inputs": {}}, "3": {"class_type": "KSampler", "_meta": {"title": "First"},
		"inputs": {"text": "one\ntwo", "seed": 1, "model": ["4", 1]}}}`))
	want := "KSampler 3 \"First\"\n  text =\n  | one\n  | two\n  seed = 1\n  model from Loader 4, output 1\n\nLoader 4\n"
	if d := cmp.Diff(want, strings.ReplaceAll(Describe(doc), "    |", "  |")); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
}
