package models

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Lock is the content of a models.lock: the model files that a project depends on, sorted by name.
type Lock struct {
	Models []Entry

	text lockLayout // of the file that was read, so that comments outlive a rewrite
}

// Entry is one locked model file. Where it comes from may change; what it is may not.
type Entry struct {
	Name    string   // folder key and name: "checkpoints/sdxl/base.safetensors"
	Size    int64    // bytes
	SHA256  string   // of the content, 64 lower-case hexadecimal digits
	Pieces  string   // sha256 of the text of the file's PieceList; "" when not known
	License string   // SPDX identifier or a name; may be empty
	Labels  []string // such as "stable"; small letters, digits, - and _
	Sources []string // URLs, tried in order
	Line    int      // in the file that was read, from 1; 0 when made otherwise
}

// lockVersion is the version of the form of models.lock that this package reads and writes.
const lockVersion = 1

var (
	sha256Text = regexp.MustCompile(`^[0-9a-f]{64}$`)
	labelText  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
)

// lockText is a models.lock as TOML has it.
type lockText struct {
	Version int         `toml:"version"`
	Models  []entryText `toml:"model"`
}

type entryText struct {
	Name    string   `toml:"name"`
	Size    int64    `toml:"size"`
	SHA256  string   `toml:"sha256"`
	Pieces  string   `toml:"pieces"`
	License string   `toml:"license"`
	Labels  []string `toml:"labels"`
	Sources []string `toml:"sources"`
}

func (t entryText) entry() Entry {
	return Entry{Name: t.Name, Size: t.Size, SHA256: t.SHA256, Pieces: t.Pieces, License: t.License, Labels: t.Labels, Sources: t.Sources}
}

// ReadLock reads a models.lock file.
func ReadLock(file string) (*Lock, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read model lock: %w", err)
	}
	lock, err := ParseLock(data)
	if err != nil {
		return nil, fmt.Errorf("read model lock %s: %w", file, err)
	}
	return lock, nil
}

// ParseLock reads the text of a models.lock. Errors say on which line the mistake is: unknown keys, a version of the form
// that is newer than this program, a name that occurs twice or leaves its folder, a size below zero, a digest that is
// none, an entry without a source.
func ParseLock(data []byte) (*Lock, error) {
	var version struct {
		Version int `toml:"version"`
	}
	if err := toml.Unmarshal(data, &version); err != nil {
		return nil, positioned(err)
	}
	if version.Version > lockVersion || version.Version < 0 {
		return nil, fmt.Errorf("version is %d, and this program knows versions up to %d", version.Version, lockVersion)
	}
	var text lockText
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&text); err != nil {
		return nil, positioned(err)
	}
	lock := &Lock{text: layoutOf(string(data), len(text.Models))}
	for i, m := range text.Models {
		e := m.entry()
		e.Line = lock.text.line(i)
		lock.Models = append(lock.Models, e)
	}
	lock.text.index(lock.Models)
	lock.sort()
	if err := lock.check(); err != nil {
		return nil, err
	}
	return lock, nil
}

// positioned puts the line and column that go-toml knows in front of its message.
func positioned(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		first := unknown.Errors[0]
		line, column := first.Position()
		return fmt.Errorf("line %d, column %d: unknown key %s", line, column, strings.Join(first.Key(), "."))
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		line, column := wrong.Position()
		return fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	return err
}

// WriteLock replaces a models.lock file in one step.
func WriteLock(file string, lock *Lock) error {
	data, err := lock.Encode()
	if err != nil {
		return err
	}
	return replaceFile(file, bytes.NewReader(data))
}

// Find returns the entry of a name, which may also be one of Aliases.
func (l *Lock) Find(name string) (Entry, bool) {
	i := slices.IndexFunc(l.Models, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		e, ok := l.Aliases()[name]
		return e, ok
	}
	return l.Models[i], true
}

// Aliases are names by labels: FOLDER/DIR@LABEL stands for the only entry right in the directory FOLDER/DIR that carries
// the label. A label that several entries of a directory carry, or that makes the name of an entry, makes none.
func (l *Lock) Aliases() map[string]Entry {
	aliases, count := map[string]Entry{}, map[string]int{}
	for _, e := range l.Models {
		dir := path.Dir(e.Name)
		if !strings.Contains(dir, "/") {
			continue // the file is in no directory of its folder
		}
		for _, label := range e.Labels {
			alias := dir + "@" + label
			aliases[alias] = e
			count[alias]++
		}
	}
	for _, e := range l.Models {
		count[e.Name] = 2
	}
	maps.DeleteFunc(aliases, func(alias string, _ Entry) bool { return count[alias] > 1 })
	return aliases
}

// Set puts an entry into the lock, in the place of one of its name if there is one.
func (l *Lock) Set(e Entry) {
	i := slices.IndexFunc(l.Models, func(old Entry) bool { return old.Name == e.Name })
	if i < 0 {
		l.Models = append(l.Models, e)
		l.sort()
		return
	}
	l.Models[i] = e
}

func (l *Lock) sort() {
	slices.SortStableFunc(l.Models, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
}

func (l *Lock) check() error {
	for i, e := range l.Models {
		if i > 0 && l.Models[i-1].Name == e.Name {
			return fmt.Errorf("%s occurs twice, first on line %d", e, l.Models[i-1].Line)
		}
		if err := e.Check(); err != nil {
			return err
		}
	}
	return nil
}

// String names the entry and where it stands.
func (e Entry) String() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: model %q", e.Line, e.Name)
	}
	return fmt.Sprintf("model %q", e.Name)
}

// Split returns the key of the entry's folder and its name in it.
func (e Entry) Split() (folder, name string) {
	folder, name, _ = strings.Cut(e.Name, "/")
	return folder, name
}

// Check reports the first thing that makes an entry unusable.
func (e Entry) Check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s: "+format, append([]any{e}, args...)...)
	}
	folder, name := e.Split()
	switch {
	case folder == "" || name == "" || path.Clean("/"+e.Name) != "/"+e.Name || strings.ContainsAny(e.Name, "\\\x00"):
		return wrong("name must be FOLDER/NAME with forward slashes and without .. parts")
	case e.Size < 0:
		return wrong("size is %d", e.Size)
	case !sha256Text.MatchString(e.SHA256):
		return wrong("sha256 %q is not 64 lower-case hexadecimal digits", e.SHA256)
	case e.Pieces != "" && !sha256Text.MatchString(e.Pieces):
		return wrong("pieces %q is not 64 lower-case hexadecimal digits", e.Pieces)
	case len(e.Sources) == 0:
		return wrong("has no source")
	}
	for _, source := range e.Sources {
		if Scheme(source) == "" {
			return wrong("source %q has no scheme such as https:", source)
		}
	}
	for _, label := range e.Labels {
		if !labelText.MatchString(label) {
			return wrong("label %q must be of small letters, digits, - and _", label)
		}
	}
	return nil
}

// Scheme is the word before the colon of a source, in small letters; "" for what is no URL.
func Scheme(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return ""
	}
	return u.Scheme
}
