package models

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const digestA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestLockRoundTrip(t *testing.T) {
	lock := &Lock{Models: []Entry{
		{"vae/ä b.pt", 0, digestA, "", []string{"s3://bucket/key", "hf://repo@commit/path"}},
		{"checkpoints/sub/x.safetensors", 1 << 40, digestA, "Apache-2.0", []string{"embed:x"}},
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
	if diff := cmp.Diff(want, got.Models); diff != "" {
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
		{"twice", good + good, `model "vae/x" occurs twice`},
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
		if len(again.Models) != len(lock.Models) {
			t.Errorf("%d models became %d", len(lock.Models), len(again.Models))
		}
	})
}
