package models

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
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
	Models []Entry `toml:"model"`
}

// Entry is one locked model file. Where it comes from may change; what it is may not.
type Entry struct {
	Name    string   `toml:"name"`    // folder key and name: "checkpoints/sdxl/base.safetensors"
	Size    int64    `toml:"size"`    // bytes
	SHA256  string   `toml:"sha256"`  // of the content, 64 lower-case hexadecimal digits
	License string   `toml:"license"` // SPDX identifier or a name; may be empty
	Sources []string `toml:"sources"` // URLs, tried in order
}

const lockHeader = "# Model files by content, sorted by name.\n\n"

var sha256Text = regexp.MustCompile(`^[0-9a-f]{64}$`)

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

// ParseLock reads the text of a models.lock. Unknown keys are errors that say where they stand, and so are a name that
// occurs twice or leaves its folder, a size below zero, a digest that is none and an entry without a source.
func ParseLock(data []byte) (*Lock, error) {
	var lock Lock
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := decoder.Decode(&lock); err != nil {
		return nil, positioned(err)
	}
	lock.sort()
	return &lock, lock.check()
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

// Encode writes the lock as TOML, sorted by name: equal locks give equal bytes.
func (l *Lock) Encode() ([]byte, error) {
	sorted := Lock{Models: slices.Clone(l.Models)}
	sorted.sort()
	if err := sorted.check(); err != nil {
		return nil, fmt.Errorf("write model lock: %w", err)
	}
	body, err := toml.Marshal(sorted)
	if err != nil {
		return nil, fmt.Errorf("write model lock: %w", err)
	}
	return append([]byte(lockHeader), body...), nil
}

// WriteLock replaces a models.lock file in one step.
func WriteLock(file string, lock *Lock) error {
	data, err := lock.Encode()
	if err != nil {
		return err
	}
	return replaceFile(file, bytes.NewReader(data))
}

// Find returns the entry of a name.
func (l *Lock) Find(name string) (Entry, bool) {
	i := slices.IndexFunc(l.Models, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, false
	}
	return l.Models[i], true
}

func (l *Lock) sort() {
	slices.SortFunc(l.Models, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
}

func (l *Lock) check() error {
	for i, e := range l.Models {
		if i > 0 && l.Models[i-1].Name == e.Name {
			return fmt.Errorf("model %q occurs twice", e.Name)
		}
		if err := e.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Check reports the first thing that makes an entry unusable.
func (e Entry) Check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("model %q: "+format, append([]any{e.Name}, args...)...)
	}
	folder, name, _ := strings.Cut(e.Name, "/")
	switch {
	case folder == "" || name == "" || path.Clean("/"+e.Name) != "/"+e.Name || strings.ContainsAny(e.Name, "\\\x00"):
		return wrong("name must be FOLDER/NAME with forward slashes and without .. parts")
	case e.Size < 0:
		return wrong("size is %d", e.Size)
	case !sha256Text.MatchString(e.SHA256):
		return wrong("sha256 %q is not 64 lower-case hexadecimal digits", e.SHA256)
	case len(e.Sources) == 0:
		return wrong("has no source")
	}
	for _, source := range e.Sources {
		if scheme(source) == "" {
			return wrong("source %q has no scheme such as https:", source)
		}
	}
	return nil
}

func scheme(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return ""
	}
	return u.Scheme
}
