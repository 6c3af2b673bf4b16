package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sample() layer {
	return layer{name: "x", entries: []entry{
		{path: "usr/lib/b", mode: 0o755, data: []byte("b")}, {path: "lib", link: "usr/lib"},
		{path: "tmp", mode: 0o1777, dir: true}, {path: "data", mode: 0o755, owner: user, dir: true}, {path: "usr/lib/a", mode: 0o644, data: []byte("a")},
	}}
}

func TestLayerIsSortedWithItsFolders(t *testing.T) {
	l := sample()
	text, err := l.tar(time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(bytes.NewReader(text)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 1700000000 {
			t.Errorf("%s has the time %v", h.Name, h.ModTime)
		}
		got = append(got, fmt.Sprintf("%c %o %d %s %s", h.Typeflag, h.Mode, h.Uid, h.Name, h.Linkname))
	}
	want := []string{"5 755 65532 data/ ", "2 777 0 lib usr/lib", "5 1777 0 tmp/ ", "5 755 0 usr/ ", "5 755 0 usr/lib/ ", "0 644 0 usr/lib/a ", "0 755 0 usr/lib/b "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLayerRefusesTwoFilesOfOneName(t *testing.T) {
	l := sample()
	l.add(entry{path: "usr/lib/a", data: []byte("other")})
	if _, err := l.tar(time.Time{}); err == nil {
		t.Error("two files of one name are packed")
	}
}

// The same layers give the same image, and another content another one.
func TestImageDigest(t *testing.T) {
	in := inputs{version: "v1", arch: "amd64", created: time.Unix(1700000000, 0).UTC()}
	digest := func(change func(*layer)) string {
		t.Helper()
		l := sample()
		change(&l)
		made, err := assemble(in, []layer{l})
		if err != nil {
			t.Fatal(err)
		}
		return made.digest
	}
	first := digest(func(*layer) {})
	if again := digest(func(*layer) {}); again != first {
		t.Errorf("the same input gives %s, then %s", first, again)
	}
	if other := digest(func(l *layer) { l.entries[0].data = []byte("c") }); other == first {
		t.Error("another file gives the same digest")
	}
	config := in.config().Config
	if config.User != "65532:65532" || len(config.Entrypoint) != 1 || config.Entrypoint[0] != "/usr/local/bin/comfyrun" {
		t.Errorf("it runs %v as %s", config.Entrypoint, config.User)
	}
}

// Two runs write the same bytes, whatever was there before.
func TestArchiveIsReproducible(t *testing.T) {
	in := inputs{version: "v1", arch: "amd64", created: time.Unix(1700000000, 0).UTC()}
	write := func(folder string) []byte {
		t.Helper()
		made, err := assemble(in, []layer{sample()})
		if err == nil {
			err = made.write(folder)
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(folder + ".tar")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	dir := t.TempDir()
	first := write(filepath.Join(dir, "one"))
	if err := os.WriteFile(filepath.Join(dir, "one", "stale"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(write(filepath.Join(dir, "one")), first) || !bytes.Equal(write(filepath.Join(dir, "two")), first) {
		t.Error("the archives differ")
	}
}

func TestBill(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in := inputs{program: program, library: program, version: "v1", created: time.Unix(1700000000, 0).UTC()}
	packages := []debian{{"libc6", "2.36-9+deb12u14", "amd64"}}
	first, err := in.bill(packages)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64"`, `"pkg:golang/github.com/google/go-containerregistry@v0.`, `"2023-11-14T22:13:20Z"`,
		`"SPDXRef-Debian-libc6-2.36-9-deb12u14"`, `"pkg:golang/stdlib@1.`,
	} {
		if !bytes.Contains(first, []byte(want)) {
			t.Errorf("the SBOM lacks %s", want)
		}
	}
	if again, err := in.bill(packages); err != nil || !bytes.Equal(first, again) {
		t.Errorf("the SBOM is another one the second time (%v)", err)
	}
}

func TestRootFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	if err := writeRoot(dir, []layer{sample(), {name: "y", entries: []entry{{path: "usr/lib/c", mode: 0o755, data: []byte("c")}}}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"lib/a": "-rw-r--r--", "usr/lib/b": "-rwxr-xr-x", "lib/c": "-rwxr-xr-x", "tmp": "dtrwxrwxrwx", "data": "drwxr-xr-x"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().String() != want {
			t.Errorf("%s is %v (%v), want %s", name, info, err, want)
		}
	}
	if err := writeRoot(dir, nil); err == nil {
		t.Error("a folder that is there is written to")
	}
}
