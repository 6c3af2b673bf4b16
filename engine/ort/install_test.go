package ort_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// shop stands for npm and pip: programs of these names on the PATH that copy
// an archive to where they are told to.
type shop struct {
	bin  string
	pins []ort.Pin
}

const libraryText = "pretend this is a library"

func newShop(t *testing.T) *shop {
	t.Helper()
	var tgz, whl bytes.Buffer
	gz := gzip.NewWriter(&tgz)
	tw := tar.NewWriter(gz)
	zw := zip.NewWriter(&whl)
	for name, text := range map[string]string{"package/readme": "hello", "package/lib.so": libraryText} {
		w, err := zw.Create(name)
		header := &tar.Header{Name: name, Size: int64(len(text)), Typeflag: tar.TypeReg, Mode: 0o644}
		if err := errors.Join(err, tw.WriteHeader(header)); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
		io.WriteString(tw, text)
	}
	if err := errors.Join(tw.Close(), gz.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	s := &shop{bin: t.TempDir()}
	for source, archive := range map[string][]byte{"npm": tgz.Bytes(), "pip": whl.Bytes()} {
		s.pins = append(s.pins, ort.Pin{
			OS: "linux", Arch: "amd64", Source: source, Package: "thing",
			Archive: sum(archive), Member: "package/lib.so", Library: sum([]byte(libraryText)),
		})
	}
	if s.pins[0].Source == "pip" {
		s.pins[0], s.pins[1] = s.pins[1], s.pins[0]
	}
	s.write(t, "thing.tgz", tgz.String())
	s.write(t, "thing.whl", whl.String())
	t.Setenv("PATH", s.bin+":/bin:/usr/bin")
	return s
}

func (s *shop) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.bin, name)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// client puts a program on the PATH that runs script when asked for more than
// its version.
func (s *shop) client(t *testing.T, name, script string) {
	s.write(t, name, "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\nhere=$(dirname \"$0\")\n"+script+"\n")
}

func (s *shop) options() ort.InstallOptions {
	return ort.InstallOptions{OS: "linux", Arch: "amd64", Pins: s.pins}
}

func checkInstalled(t *testing.T, dir string, got *ort.Installed, err error, source string, fresh bool) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	want := &ort.Installed{Path: filepath.Join(dir, ort.LibraryName), Source: source, New: fresh}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	text, err := os.ReadFile(got.Path)
	if err != nil || string(text) != libraryText {
		t.Errorf("library %q, %v", text, err)
	}
	checkEmpty(t, dir, 1)
}

// checkEmpty fails when dir holds more than n files.
func checkEmpty(t *testing.T, dir string, n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != n {
		t.Errorf("%d files left in %s: %v", len(entries), dir, entries)
	}
}

func TestInstall(t *testing.T) {
	s := newShop(t)
	dir := filepath.Join(t.TempDir(), "new", "lib")
	s.client(t, "npm", `[ "$1 $4 $5" = "pack $PWD thing" ] && cp "$here/thing.tgz" .`)
	got, err := ort.Install(t.Context(), dir, s.options())
	checkInstalled(t, dir, got, err, "npm", true)

	s.client(t, "npm", `echo must not be asked again; exit 1`)
	got, err = ort.Install(t.Context(), dir, s.options())
	checkInstalled(t, dir, got, err, "npm", false)
}

// The client runs in a folder of its own, and must be told the same place all the same.
func TestInstallIntoRelativeFolder(t *testing.T) {
	s := newShop(t)
	top := t.TempDir()
	t.Chdir(top)
	s.client(t, "npm", `cp "$here/thing.tgz" "$4/"`)
	got, err := ort.Install(t.Context(), "lib", s.options())
	checkInstalled(t, filepath.Join(top, "lib"), got, err, "npm", true)
}

func TestInstallFallsBackToPip(t *testing.T) {
	s := newShop(t)
	dir := t.TempDir()
	s.write(t, "npm", "#!/bin/sh\nexit 1\n")
	s.write(t, "pip", "#!/bin/sh\nexit 1\n")
	s.client(t, "pip3", `cp "$here/thing.whl" .`)
	got, err := ort.Install(t.Context(), dir, s.options())
	checkInstalled(t, dir, got, err, "pip", true)
}

func TestInstallReplacesOtherBuild(t *testing.T) {
	s := newShop(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ort.LibraryName), []byte("something else"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.client(t, "npm", `cp "$here/thing.tgz" .`)
	got, err := ort.Install(t.Context(), dir, s.options())
	checkInstalled(t, dir, got, err, "npm", true)
}

func TestInstallRefuses(t *testing.T) {
	cases := map[string]struct {
		script string
		change func(*ort.InstallOptions)
		want   string
	}{
		"other archive": {`echo forged > thing.tgz`, nil, "thing.tgz has sha256 "},
		"other library": {`cp "$here/thing.tgz" .`, func(o *ort.InstallOptions) { o.Pins[0].Library = sum(nil) }, ort.LibraryName + " has sha256 "},
		"no member":     {`cp "$here/thing.tgz" .`, func(o *ort.InstallOptions) { o.Pins[0].Member = "absent" }, "unpack absent from thing.tgz"},
		"no archive":    {`true`, nil, "left no archive"},
		"failure":       {`echo the registry is down; exit 7`, nil, "the registry is down"},
		"system":        {``, func(o *ort.InstallOptions) { o.OS = "darwin" }, "no pinned ONNX Runtime for darwin/amd64 from npm; there is one for linux/amd64 from npm, linux/amd64 from pip"},
		"no client":     {``, func(o *ort.InstallOptions) { o.Source = ""; os.Setenv("PATH", "/nonexistent") }, "no working pip, pip3, python3 -m pip on the PATH"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.client(t, "npm", c.script)
			o := s.options()
			o.Source = "npm"
			if c.change != nil {
				c.change(&o)
			}
			dir := t.TempDir()
			_, err := ort.Install(t.Context(), dir, o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			checkEmpty(t, dir, 0)
		})
	}
}

func TestInstallStops(t *testing.T) {
	s := newShop(t)
	s.client(t, "npm", `exec sleep 600`)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	dir := t.TempDir()
	start := time.Now()
	_, err := ort.Install(ctx, dir, s.options())
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Minute {
		t.Errorf("error %v after %v", err, time.Since(start))
	}
	checkEmpty(t, dir, 0)
}

// The table must be complete and the checkout's library one of it.
func TestPins(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range ort.Pins() {
		seen[p.OS+"/"+p.Arch+" "+p.Source] = true
		if len(p.Archive) != 64 || len(p.Library) != 64 || p.Member == "" || !strings.Contains(p.Package, ort.Version) {
			t.Errorf("incomplete: %+v", p)
		}
	}
	for _, want := range []string{"linux/amd64 npm", "linux/amd64 pip", "linux/arm64 npm", "linux/arm64 pip"} {
		if !seen[want] {
			t.Errorf("no pin for %s", want)
		}
	}
	info, err := ort.Inspect(t.Context(), orttest.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.Pin == "other" || info.Version != ort.Version {
		t.Errorf("the checkout's library is not pinned: %+v", info)
	}
	states := map[string]string{}
	for _, p := range info.Providers {
		states[p.Name] = p.State
	}
	if states["CPU"] != "works" {
		t.Errorf("providers %v", states)
	}
}

// emptyFiles returns what makes a file within a folder and returns its path.
func emptyFiles(t *testing.T, dir string) (put func(name string) string) {
	return func(name string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		return path
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	put := emptyFiles(t, dir)
	pinned := put("home/lib/" + ort.LibraryName)
	put("home/lib/libonnxruntime.so.1.31.0")
	older := put("app/lib/libonnxruntime.so.1")
	put("app/bin/comfyrun")
	named := put("x/own.so")
	home := filepath.Join(dir, "home/lib")
	beside := ort.SearchDirs(filepath.Join(dir, "app/bin/comfyrun"), home)
	for _, c := range []struct {
		explicit string
		dirs     []string
		want     string
	}{
		{"", []string{"", home}, pinned},
		{"", beside, older},
		{named, beside, named},
		{home, nil, pinned},
	} {
		if got, err := ort.Find(c.explicit, c.dirs...); err != nil || got != c.want {
			t.Errorf("Find(%q, %v) = %q, %v; want %q", c.explicit, c.dirs, got, err, c.want)
		}
	}
	_, err := ort.Find(filepath.Join(dir, "absent"), home)
	var e *ort.Error
	if !errors.As(err, &e) || e.Code != ort.CodeLibrary ||
		!strings.Contains(err.Error(), "absent") || !strings.Contains(err.Error(), "comfyrun runtime install") {
		t.Errorf("not found: %v", err)
	}
	if _, err := ort.Find("", dir, home+"/none"); err == nil || !strings.Contains(err.Error(), dir+", "+home+"/none") {
		t.Errorf("not found: %v", err)
	}
}
