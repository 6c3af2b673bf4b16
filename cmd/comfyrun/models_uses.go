package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/nodes/definitions"
	"github.com/comfyrun/comfyrun/workflows"
)

// modelFinder finds the model files that workflows name: in the inputs whose choices are the files of a model folder, and as
// embeddings in texts.
type modelFinder struct {
	catalog *engine.Catalog
	defined *definitions.Set
	inputs  map[modelInput]string // folder keys
	texts   map[modelInput]bool
}

// modelInput is an input of a class of nodes.
type modelInput struct{ class, input string }

const probePrefix = "comfyrun-probe-"

// newModelFinder asks the node types themselves which inputs list which folder: it makes a catalogue over folders with
// one file each and looks where those turn up.
func newModelFinder(home Home, defined *nodeFlags) (*modelFinder, error) {
	root, err := os.MkdirTemp("", "comfyrun-models-")
	if err != nil {
		return nil, fmt.Errorf("find model inputs: %w", err)
	}
	defer os.RemoveAll(root)
	folders, err := probeFolders(root)
	if err != nil {
		return nil, fmt.Errorf("find model inputs: %w", err)
	}
	f := &modelFinder{inputs: map[modelInput]string{}, texts: map[modelInput]bool{}}
	if f.catalog, f.defined, err = defined.catalog(home, &nodes.Runtime{Models: folders}); err != nil {
		return nil, err
	}
	for _, t := range f.catalog.Types() {
		for _, in := range t.Inputs {
			f.look(t.Class, in)
		}
	}
	return f, nil
}

// probeFolders makes model folders with one file each that tells its folder.
func probeFolders(root string) (*models.Folders, error) {
	folders := models.NewFolders([]string{root})
	for _, key := range folders.Keys() {
		dir := folders.Paths(key)[0]
		if inside, err := filepath.Rel(root, dir); err != nil || !filepath.IsLocal(inside) {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, probePrefix+key+".safetensors"), nil, 0o600); err != nil {
			return nil, err
		}
	}
	return folders, nil
}

func (f *modelFinder) look(class string, in engine.Input) {
	at := modelInput{class, in.Name}
	if in.Kind == "STRING" {
		f.texts[at] = true
	}
	if in.Choices == nil {
		return
	}
	for _, choice := range in.Choices() {
		if rest, ok := strings.CutPrefix(choice, probePrefix); ok {
			f.inputs[at] = strings.TrimSuffix(rest, ".safetensors")
		}
	}
}

// uses lists the model files that a workflow names, with what its defined nodes name inside of them, in the order of the
// nodes. known are names of FOLDER/NAME form, by which an embedding without an extension is completed.
func (f *modelFinder) uses(g *workflows.Graph, known []string) ([]fileUse, error) {
	g, err := f.defined.WriteOut(g)
	if err != nil {
		return nil, asUsage(err)
	}
	var uses []fileUse
	for _, n := range g.Nodes() {
		for _, m := range n.Inputs {
			text, isText := m.Value.Str()
			at := modelInput{n.Class, m.Key}
			if !isText {
				continue
			}
			if folder, ok := f.inputs[at]; ok {
				for _, file := range filesOf(folder, text) {
					uses = append(uses, fileUse{n.ID, n.Class, m.Key, file.folder, file.name})
				}
			}
			if f.texts[at] {
				for _, name := range embeddingsIn(text, known) {
					uses = append(uses, fileUse{n.ID, n.Class, m.Key, "embeddings", name})
				}
			}
		}
	}
	return uses, nil
}

// filesOf gives the files behind a choice: the one that it names, or the halves of a tiny autoencoder.
func filesOf(folder, choice string) []fileUse {
	if folder == "vae" && slices.Contains(diffusion.TinyVAENames(), choice) {
		return []fileUse{
			{folder: "vae_approx", name: choice + "_encoder.safetensors"}, {folder: "vae_approx", name: choice + "_decoder.safetensors"},
		}
	}
	return []fileUse{{folder: folder, name: choice}}
}

var (
	embeddingReference = regexp.MustCompile(`(?:^|[\s(])embedding:([^\s()]+)`)
	promptWeight       = regexp.MustCompile(`:[0-9.+-]+$`)
)

// embeddingsIn lists the files that a prompt refers to as embedding:NAME.
func embeddingsIn(text string, known []string) []string {
	var names []string
	for _, m := range embeddingReference.FindAllStringSubmatch(text, -1) {
		name := strings.Trim(promptWeight.ReplaceAllString(strings.Trim(m[1], ","), ""), ",")
		if name != "" {
			names = append(names, completeEmbedding(name, known))
		}
	}
	return names
}

// completeEmbedding finds the file of an embedding as prompts do: by its name with or without folder and extension. One that
// is not known is taken to be a safetensors file.
func completeEmbedding(name string, known []string) string {
	for _, candidate := range known {
		file, ok := strings.CutPrefix(candidate, "embeddings/")
		if !ok {
			continue
		}
		for _, have := range []string{file, path.Base(file)} {
			if have == name || strings.TrimSuffix(have, path.Ext(have)) == name {
				return file
			}
		}
	}
	if path.Ext(name) == "" {
		return name + ".safetensors"
	}
	return name
}

// entryName is the file's name in models.lock.
func (u fileUse) entryName() string { return u.folder + "/" + u.name }

// knownNames are the names of FOLDER/NAME form that a lock or the folders have for a folder.
func knownNames(lock *models.Lock, folders *models.Folders, folder string) []string {
	var names []string
	for _, e := range lock.Models {
		names = append(names, e.Name)
	}
	for _, name := range folders.Names(folder) {
		names = append(names, folder+"/"+name)
	}
	return names
}
