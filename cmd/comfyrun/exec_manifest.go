package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/comfyrun/comfyrun/workflows"
)

// outputFile is something that a node showed: a file, or a text.
type outputFile struct {
	// Path is where the file is; in manifests and receipts, relative to the folder they are in, with slashes.
	Path string `json:"path,omitempty"`
	// Type is output, temp or input: the folder that ComfyUI would have it in.
	Type   string `json:"type,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	Text   string `json:"text,omitempty"`
}

// outputFiles are the outputs of a run by node id.
type outputFiles map[string][]outputFile

// paths lists the files of a type, each once, in the order of the node ids.
func (o outputFiles) paths(kind string) []string {
	var paths []string
	for _, node := range slices.Sorted(maps.Keys(o)) {
		for _, file := range o[node] {
			if file.Type == kind && !slices.Contains(paths, file.Path) {
				paths = append(paths, file.Path)
			}
		}
	}
	return paths
}

// only returns the files of a type, their paths relative to a folder and their sums taken.
func (o outputFiles) only(kind, dir string) (outputFiles, error) {
	kept := outputFiles{}
	for node, files := range o {
		for _, file := range files {
			if file.Type != kind {
				continue
			}
			sum, err := fileSum(file.Path)
			if err != nil {
				return nil, err
			}
			relative, err := filepath.Rel(dir, file.Path)
			if err != nil {
				return nil, fmt.Errorf("name output: %w", err)
			}
			kept[node] = append(kept[node], outputFile{Path: filepath.ToSlash(relative), Type: kind, SHA256: sum})
		}
	}
	return kept, nil
}

func fileSum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("hash file: %w", err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", fmt.Errorf("hash file: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// manifestName is the file in the output folder that ties runs to their inputs and outputs.
const manifestName = "manifest.jsonl"

// manifestLine is what the manifest says about one run that went well; others leave no line.
type manifestLine struct {
	Workflow string `json:"workflow"`
	// Row counts from 1 in the batch file and sweeps of the command.
	Row int `json:"row"`
	// Set is what the row set.
	Set workflows.Value `json:"set"`
	// Digest is that of the workflow with these inputs.
	Digest  string      `json:"digest"`
	Outputs outputFiles `json:"outputs"`
	Receipt string      `json:"receipt,omitempty"`
}

// manifest is a growing list of runs in an output folder.
type manifest struct {
	dir string
	// done holds the last run of each workflow digest.
	done map[string]manifestLine
}

// openManifest reads the manifest of a folder, if it has one. A line that cannot be read, such as the last one after a
// power cut, counts as a run that was not done.
func openManifest(dir string) (*manifest, error) {
	m := &manifest{dir: dir, done: map[string]manifestLine{}}
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	for text := range bytes.Lines(data) {
		var line manifestLine
		if json.Unmarshal(text, &line) == nil {
			m.done[line.Digest] = line
		}
	}
	return m, nil
}

// stands returns the line of a run that need not be repeated: it was done with the same inputs, and the files that it
// made are there and unchanged.
func (m *manifest) stands(digest string) (manifestLine, bool) {
	line, ok := m.done[digest]
	if !ok {
		return line, false
	}
	for _, files := range line.Outputs {
		for _, file := range files {
			path := filepath.FromSlash(file.Path)
			if !filepath.IsLocal(path) {
				return line, false
			}
			if sum, err := fileSum(filepath.Join(m.dir, path)); err != nil || sum != file.SHA256 {
				return line, false
			}
		}
	}
	return line, true
}

// add appends a line and waits until it is on disk. One write per line keeps the lines of several processes apart.
func (m *manifest) add(line manifestLine) (err error) {
	file, err := os.OpenFile(filepath.Join(m.dir, manifestName), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("write manifest: %w", closeErr)
		}
	}()
	text, err := encodeLine(line)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if torn(file) {
		text = append([]byte{'\n'}, text...)
	}
	if _, err = file.Write(text); err == nil {
		err = file.Sync()
	}
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	m.done[line.Digest] = line
	return nil
}

// torn says whether the file's last line has no end.
func torn(file *os.File) bool {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	last := make([]byte, 1)
	_, err = file.ReadAt(last, info.Size()-1)
	return err == nil && last[0] != '\n'
}

// encodeLine writes a value as JSON on one line with its line feed, <, > and & as they are.
func encodeLine(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return b.Bytes(), err
}
