// Package models finds model files and keeps them.
//
// Vocabulary: a Folder is a key such as "checkpoints" with the directories and file extensions that belong to it; Folders
// is the table of all of them, laid out as ComfyUI lays out its models directory. A name is a file's path below the
// directory that holds it, with forward slashes ("sdxl/base.safetensors"). A Lock is the list of the model files that a
// project depends on, by content; each Entry says where its file may be fetched. A piece is 16 MiB of a file, the unit in
// which it is hashed beside the whole. A Store keeps files by the SHA-256 of their content (a blob) and gives them names.
// Package fetch brings files into a Store.
//
// The package knows nothing of tensors: a model is a file.
package models

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrMissing marks a model that is in none of its folder's directories or in none of its sources.
	ErrMissing = errors.New("model missing")
	// ErrDigest marks a file whose content is not what was locked.
	ErrDigest = errors.New("model content differs")
)

// MissingError says which model was asked for, where it was looked for and which one may have been meant. It is an
// ErrMissing.
type MissingError struct {
	Folder, Name string
	Searched     []string // directories, in order; none when the folder is unknown or has no directory
	Nearest      string   // "" when no name is near
}

// Error names everything that helps to mend the workflow or the folders.
func (e *MissingError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "find model %q in %s: ", e.Name, e.Folder)
	if len(e.Searched) == 0 {
		b.WriteString("there is no such folder")
		return b.String()
	}
	b.WriteString("no such file below " + strings.Join(e.Searched, ", "))
	if e.Nearest != "" {
		fmt.Fprintf(&b, "; nearest name: %q", e.Nearest)
	}
	return b.String()
}

// Is makes errors.Is(err, ErrMissing) hold.
func (e *MissingError) Is(target error) bool { return target == ErrMissing }
