package models

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const digestA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestLockRoundTrip(t *testing.T) {
	lock := &Lock{Models: []Entry{
		{Name: "vae/ä b.pt", SHA256: digestA, Pieces: digestA, Labels: []string{"canary", "stable"}, Sources: []string{"s3://bucket/key", "hf://repo@commit/path"}},
		{Name: "checkpoints/sub/x.safetensors", Size: 1 << 40, SHA256: digestA, License: "Apache-2.0", Sources: []string{"embed:x"}},
	}}
	file := filepath.Join(t.TempDir(), "models.lock")
	if err := WriteLock(file, lock); err != nil {
		t.Fatal(err)
	}
	got, err := ReadLock(file)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{lock.Models[1], lock.Models[0]}
	if diff := cmp.Diff(want, got.Models, cmpopts.IgnoreFields(Entry{}, "Line")); diff != "" {
		t.Errorf("lock (-want +got):\n%s", diff)
	}
	first, _ := os.ReadFile(file)
	second, err := got.Encode()
	if err != nil || string(first) != string(second) {
		t.Errorf("Encode, %v, gives\n%s\nwant\n%s", err, second, first)
	}
	if entry, ok := got.Find("vae/ä b.pt"); !ok || entry.Size != 0 {
		t.Errorf("Find = %+v, %v", entry, ok)
	}
	if _, ok := got.Find("vae/other"); ok {
		t.Error("Find found an absent entry")
	}
}

func TestParseLockRefuses(t *testing.T) {
	block := func(name, size, digest, sources string) string {
		return "[[model]]\nname = '" + name + "'\nsize = " + size + "\nsha256 = '" + digest + "'\nsources = " + sources + "\n"
	}
	good := block("vae/x", "1", digestA, "['embed:x']")
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", good + "sizes = 2\n", "line 6, column 1: unknown key model.sizes"},
		{"unknown table", good + "\n[other]\nx = 1\n", "unknown key other"},
		{"syntax", "[[model]\n", "line 1, column 8"},
		{"type", "[[model]]\nname = 3\n", "line 2, column 8"},
		{"twice", good + "\n" + good, `line 7: model "vae/x" occurs twice, first on line 1`},
		{"version", "version = 2\n" + good, "version is 2, and this program knows versions up to 1"},
		{"pieces", good + "pieces = 'x'\n", `line 1: model "vae/x": pieces "x" is not 64`},
		{"label", good + "labels = ['Stable']\n", `line 1: model "vae/x": label "Stable" must be`},
		{"no folder", block("x", "1", digestA, "['embed:x']"), "FOLDER/NAME"},
		{"leaves folder", block("vae/../../x", "1", digestA, "['embed:x']"), "FOLDER/NAME"},
		{"rooted", block("/vae/x", "1", digestA, "['embed:x']"), "FOLDER/NAME"},
		{"backslash", block(`vae\x/y`, "1", digestA, "['embed:x']"), "FOLDER/NAME"},
		{"size", block("vae/x", "-1", digestA, "['embed:x']"), "size is -1"},
		{"digest", block("vae/x", "1", strings.ToUpper(digestA), "['embed:x']"), "64 lower-case hexadecimal"},
		{"no source", block("vae/x", "1", digestA, "[]"), "has no source"},
		{"no scheme", block("vae/x", "1", digestA, "['x.safetensors']"), `source "x.safetensors" has no scheme`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseLock([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q in it", err, tt.want)
			}
		})
	}
}

// commented is a lock that people wrote notes into.
const commented = `# Ours.
version = 1

# The base; ask Ann before you change it.
[[model]]
name = 'checkpoints/x' # the big one
size = 1 # bytes
sha256 = "` + digestA + `"
license = 'MIT' # said so
sources = [
  # the mirror first
  's3://bucket/x#y', # near
  'https://host/x',
]

# a thought about nothing

[[model]]
  name = "vae/y"
  size = 2
  sha256 = '` + digestA + `'
  sources = ['embed:y']
# the end
`

func TestRewriteKeepsComments(t *testing.T) {
	lock, err := ParseLock([]byte(commented))
	if err != nil {
		t.Fatal(err)
	}
	text, err := lock.Encode()
	if err != nil || string(text) != commented {
		t.Errorf("an unchanged lock, %v, becomes\n%s", err, text)
	}
	x, _ := lock.Find("checkpoints/x")
	x.Size, x.Pieces, x.License, x.Sources = 3, digestA, "", []string{"https://host/x"}
	lock.Set(x)
	lock.Set(Entry{Name: "loras/new", SHA256: digestA, Sources: []string{"a:b", "c:d"}})
	got, err := lock.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `# Ours.
version = 1

# The base; ask Ann before you change it.
[[model]]
name = 'checkpoints/x' # the big one
size = 3 # bytes
sha256 = "` + digestA + `"
license = '' # said so
# the mirror first
# near
sources = ['https://host/x']
pieces = '` + digestA + `'

# a thought about nothing

[[model]]
name = 'loras/new'
size = 0
sha256 = '` + digestA + `'
license = ''
sources = [
  'a:b',
  'c:d',
]

[[model]]
  name = "vae/y"
  size = 2
  sha256 = '` + digestA + `'
  sources = ['embed:y']
# the end
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("rewritten lock (-want +got):\n%s", diff)
	}
}

func TestWriteLockKeepsTheOldOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "models.lock")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteLock(file, &Lock{Models: []Entry{{Name: "bad"}}}); err == nil {
		t.Fatal("WriteLock of a bad entry gave no error")
	}
	if text, _ := os.ReadFile(file); string(text) != "old" {
		t.Errorf("file is %q after a failed write", text)
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add([]byte("[[model]]\nname = 'vae/x'\nsize = 1\nsha256 = '" + digestA + "'\nlicense = 'MIT'\nsources = ['embed:x']\n"))
	f.Add([]byte("model = 3"))
	f.Add([]byte(commented))
	f.Fuzz(func(t *testing.T, data []byte) {
		lock, err := ParseLock(data)
		if err != nil {
			return
		}
		text, err := lock.Encode()
		if err != nil {
			t.Fatalf("a lock that parses does not encode: %v", err)
		}
		again, err := ParseLock(text)
		if err != nil {
			t.Fatalf("an encoded lock does not parse: %v\n%s", err, text)
		}
		if diff := cmp.Diff(lock.Models, again.Models, cmpopts.IgnoreFields(Entry{}, "Line"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("models changed:\n%s\n%s", diff, text)
		}
		for i := range lock.Models {
			lock.Models[i].Size++
			lock.Models[i].Sources = append(lock.Models[i].Sources, "embed:more")
		}
		text, err = lock.Encode()
		if err != nil {
			t.Fatalf("a changed lock does not encode: %v", err)
		}
		if again, err = ParseLock(text); err != nil {
			t.Fatalf("a changed lock does not parse: %v\n%s", err, text)
		}
		if diff := cmp.Diff(lock.Models, again.Models, cmpopts.IgnoreFields(Entry{}, "Line"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("changed models differ:\n%s\n%s", diff, text)
		}
	})
}

func TestAliases(t *testing.T) {
	entry := func(name string, labels ...string) Entry { return Entry{Name: name, Labels: labels} }
	lock := Lock{Models: []Entry{
		entry("checkpoints/portrait/1.safetensors", "stable", "old"), entry("checkpoints/portrait/2.safetensors", "canary"),
		entry("checkpoints/portrait/deep/3.safetensors", "stable"), entry("checkpoints/top.safetensors", "stable"),
		entry("loras/style/a.safetensors", "stable"), entry("loras/style/b.safetensors", "stable"),
		entry("vae/x/1.pt", "new"), entry("vae/x@new"),
	}}
	got := map[string]string{}
	for alias, e := range lock.Aliases() {
		got[alias] = e.Name
	}
	want := map[string]string{
		"checkpoints/portrait@stable": "checkpoints/portrait/1.safetensors", "checkpoints/portrait@old": "checkpoints/portrait/1.safetensors",
		"checkpoints/portrait@canary": "checkpoints/portrait/2.safetensors", "checkpoints/portrait/deep@stable": "checkpoints/portrait/deep/3.safetensors",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if e, ok := lock.Find("checkpoints/portrait@canary"); !ok || e.Name != "checkpoints/portrait/2.safetensors" {
		t.Errorf("found %v, %v", e, ok)
	}
	if e, ok := lock.Find("vae/x@new"); !ok || e.Name != "vae/x@new" {
		t.Errorf("an entry of that name: found %v, %v", e, ok)
	}
	if e, ok := lock.Find("loras/style@stable"); ok {
		t.Errorf("an ambiguous label: found %v", e)
	}
}
