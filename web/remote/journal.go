package remote

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// journal remembers on disk which webhooks are due, a JSON object a line: one that adds, or one that ends it.
type journal struct {
	path  string
	file  *os.File
	lines int
}

// due is a webhook that has not been delivered.
type due struct {
	ID    string    `json:"id"` // of the prompt
	URL   string    `json:"url,omitempty"`
	Added time.Time `json:"added,omitzero"`
	Ended bool      `json:"ended,omitempty"` // delivered, abandoned or never accepted
}

// openJournal reads what is due and begins a journal with that alone.
func openJournal(path string) (*journal, map[string]due, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	pending := readJournal(data)
	j := &journal{path: path}
	return j, pending, j.rewrite(pending)
}

// readJournal takes what can be read: a line that a crash cut off is passed over.
func readJournal(data []byte) map[string]due {
	pending := map[string]due{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var d due
		if json.Unmarshal(lines.Bytes(), &d) != nil || d.ID == "" {
			continue
		}
		if d.Ended {
			delete(pending, d.ID)
		} else if d.URL != "" {
			pending[d.ID] = d
		}
	}
	return pending
}

// rewrite replaces the file by one without what has ended.
func (j *journal) rewrite(pending map[string]due) error {
	var text bytes.Buffer
	for _, id := range slices.Sorted(maps.Keys(pending)) {
		line, err := json.Marshal(pending[id])
		if err != nil {
			return err
		}
		text.Write(append(line, '\n'))
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return err
	}
	if err := writeFile(j.path, text.Bytes()); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.lines = f, len(pending)
	return f.Chmod(0o600) // a URL may hold a secret of its receiver
}

// add writes a line through to the disk.
func (j *journal) add(d due) error {
	line, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", j.path, err)
	}
	j.lines++
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", j.path, err)
	}
	return nil
}
