package library

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// maxSidecar bounds the bytes of a sidecar.
const maxSidecar = 1 << 20

// nameForm is what a workflow may be called: it is a segment of a URL and a
// word of a shell.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// files are the texts of one name.
type files struct {
	workflow []byte
	sidecar  []byte // nil: there is none
	err      error  // why they cannot be read
}

// digest names the content of both files; the length in front keeps a text from
// moving from one to the other unnoticed.
func (f files) digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n", len(f.workflow))
	h.Write(f.workflow)
	h.Write(f.sidecar)
	return hex.EncodeToString(h.Sum(nil))
}

// folder is the content of a folder by the names of its workflows.
type folder map[string]files

func (f folder) names() []string { return slices.Sorted(maps.Keys(f)) }

const sidecarEnd, workflowEnd = ".params.toml", ".json"

// definitionEnd ends the names of definitions of nodes, which may lie beside the workflows that use them.
const definitionEnd = ".node.json"

// versionFolder follows the link of a mounted ConfigMap or Secret, which is
// replaced as a whole by turning its link "..data": followed once, all files are
// of one version.
func versionFolder(dir string) string {
	if data, err := filepath.EvalSymlinks(filepath.Join(dir, "..data")); err == nil {
		return data
	}
	return dir
}

// stampOf tells two states of a folder apart without reading its files. Empty:
// it cannot be read.
func stampOf(dir string) string {
	dir = versionFolder(dir)
	list, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintln(&b, dir)
	for _, e := range list {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil {
			fmt.Fprintln(&b, e.Name(), info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}

// readFolder reads all workflows of a folder.
func readFolder(dir string) (folder, error) {
	dir = versionFolder(dir)
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read workflows: %w", err)
	}
	found := folder{}
	for _, e := range list {
		name, sidecar := strings.CutSuffix(e.Name(), sidecarEnd)
		if !sidecar {
			var ok bool
			if name, ok = strings.CutSuffix(e.Name(), workflowEnd); !ok {
				continue
			}
		}
		if info, err := os.Stat(filepath.Join(dir, e.Name())); strings.HasPrefix(name, ".") || strings.HasSuffix(e.Name(), definitionEnd) || err == nil && info.IsDir() {
			continue
		}
		f := found[name]
		f.read(dir, e.Name(), sidecar)
		found[name] = f
	}
	for name, f := range found {
		if f.err == nil {
			f.err = f.check(name)
			found[name] = f
		}
	}
	return found, nil
}

func (f *files) read(dir, base string, sidecar bool) {
	into, limit := &f.workflow, workflows.MaxBytes
	if sidecar {
		into, limit = &f.sidecar, maxSidecar
	}
	data, err := readBounded(filepath.Join(dir, base), limit)
	if err != nil {
		f.err = errors.Join(f.err, fmt.Errorf("read %s: %w", base, err))
		return
	}
	*into = data
}

func (f *files) check(name string) error {
	switch {
	case !nameForm.MatchString(name):
		return fmt.Errorf("name %q: a workflow's name is 1 to 100 letters, digits, points, hyphens and underscores, and begins with a letter or digit", name)
	case f.workflow == nil:
		return fmt.Errorf("read %s%s: there is no %s%s beside it", name, sidecarEnd, name, workflowEnd)
	}
	return nil
}

// readBounded reads a file of up to limit bytes. The result is not nil.
func readBounded(file string, limit int) ([]byte, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, plainPath(err)
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	switch {
	case err != nil:
		return nil, plainPath(err)
	case len(data) > limit:
		return nil, fmt.Errorf("is larger than %d bytes", limit)
	}
	return data, nil
}

// plainPath leaves out the path, which is said already: clients see the text.
func plainPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
