package models

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// modelExtensions are the endings of model files, compared without case.
var modelExtensions = []string{".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}

// layout is ComfyUI's table of folders in its order: key, subdirectories of a models directory, extensions. An empty
// subdirectory list stands for the key itself.
var layout = []Folder{
	{Key: "checkpoints"},
	{Key: "configs", Extensions: []string{".yaml"}},
	{Key: "loras"},
	{Key: "vae"},
	{Key: "text_encoders", Paths: []string{"text_encoders", "clip"}},
	{Key: "diffusion_models", Paths: []string{"unet", "diffusion_models"}},
	{Key: "clip_vision"},
	{Key: "style_models"},
	{Key: "embeddings"},
	{Key: "diffusers", Extensions: []string{"folder"}},
	{Key: "vae_approx"},
	{Key: "controlnet", Paths: []string{"controlnet", "t2i_adapter"}},
	{Key: "gligen"},
	{Key: "upscale_models"},
	{Key: "custom_nodes", Paths: []string{"../custom_nodes"}, Extensions: []string{}},
	{Key: "hypernetworks"},
	{Key: "photomaker"},
	{Key: "classifiers", Extensions: []string{""}},
	{Key: "model_patches"},
	{Key: "audio_encoders"},
}

// outputFolders are the keys that also search the output directory, where workflows save models.
var outputFolders = []struct{ key, dir string }{
	{"checkpoints", "checkpoints"}, {"text_encoders", "clip"}, {"vae", "vae"},
	{"diffusion_models", "diffusion_models"}, {"loras", "loras"},
}

// Folder is one kind of model: its key, the directories to search in order, and the file extensions that count, lower
// case with their dot. Without extensions every file counts; the extension "" stands for files that have none.
type Folder struct {
	Key        string
	Paths      []string
	Extensions []string
}

// Folders is the table of model folders. The zero value knows none. It is filled first and then only read: its reading
// methods may be called from several goroutines.
type Folders struct {
	list []Folder
	pins Pins
}

// Pins leads names of folders to files by other means than looking into directories. What it knows goes before what
// directories have. Its methods are called from several goroutines at once.
type Pins interface {
	// Names lists names of the folder with a key. Their files need not be there yet.
	Names(key string) []string
	// Path returns the file of a name; false for names that are not known and files that are not there.
	Path(key, name string) (file string, ok bool)
}

// Pin sets what goes before the directories.
func (f *Folders) Pin(p Pins) { f.pins = p }

// With returns the table with other pins, nil for none.
func (f *Folders) With(p Pins) *Folders { return &Folders{f.list, p} }

// NewFolders returns ComfyUI's table for models directories laid out as ComfyUI's own, searched in the order given. A
// directory need not exist.
func NewFolders(roots []string) *Folders {
	f := &Folders{}
	for _, folder := range layout {
		added := Folder{Key: folder.Key, Extensions: folder.Extensions}
		if added.Extensions == nil {
			added.Extensions = modelExtensions
		}
		for _, root := range roots {
			for _, sub := range subdirectories(folder) {
				added.Paths = append(added.Paths, filepath.Join(root, sub))
			}
		}
		f.list = append(f.list, added)
	}
	return f
}

func subdirectories(folder Folder) []string {
	if len(folder.Paths) == 0 {
		return []string{folder.Key}
	}
	return folder.Paths
}

// AddOutput lets the folders that workflows save models into find them below an output directory.
func (f *Folders) AddOutput(dir string) {
	for _, o := range outputFolders {
		f.Add(o.key, filepath.Join(dir, o.dir), false)
	}
}

// Add lets a folder search one more directory: after the others, or before them when first. A directory that is there
// already moves to the front when first and otherwise stays. An unknown key makes a new folder in which every file counts.
func (f *Folders) Add(key, dir string, first bool) {
	folder := f.find(key)
	if folder == nil {
		f.list = append(f.list, Folder{Key: canonical(key)})
		folder = &f.list[len(f.list)-1]
	}
	at := slices.Index(folder.Paths, dir)
	switch {
	case !first && at < 0:
		folder.Paths = append(folder.Paths, dir)
	case first:
		if at >= 0 {
			folder.Paths = slices.Delete(folder.Paths, at, at+1)
		}
		folder.Paths = slices.Insert(folder.Paths, 0, dir)
	}
}

// Keys returns the folders' keys in the order of their registration.
func (f *Folders) Keys() []string {
	keys := make([]string, len(f.list))
	for i, folder := range f.list {
		keys[i] = folder.Key
	}
	return keys
}

// Paths returns the directories that a folder searches, in order; none for an unknown key.
func (f *Folders) Paths(key string) []string {
	if folder := f.find(key); folder != nil {
		return slices.Clone(folder.Paths)
	}
	return nil
}

// Names lists the model files of a folder and its pinned names, sorted by code point, each name once. It looks into subdirectories and
// follows links; directories that cannot be read are left out, and so are .git directories.
func (f *Folders) Names(key string) []string {
	folder := f.find(key)
	if folder == nil {
		return nil
	}
	names := []string{}
	for _, dir := range folder.Paths {
		w := walk{root: dir, folder: folder}
		w.directory(dir, nil)
		names = append(names, w.names...)
	}
	if f.pins != nil {
		names = append(names, f.pins.Names(folder.Key)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Path returns the file of a name: the first directory of the folder that holds a regular file of that name wins. The
// name is read as if its directory were the root of the file system: ".." leads nowhere else. The error is a
// *MissingError.
func (f *Folders) Path(key, name string) (string, error) {
	folder := f.find(key)
	if folder == nil {
		return "", &MissingError{Folder: canonical(key), Name: name}
	}
	if f.pins != nil {
		if file, ok := f.pins.Path(folder.Key, name); ok {
			return file, nil
		}
	}
	inside := filepath.Clean(string(filepath.Separator) + filepath.FromSlash(name))
	for _, dir := range folder.Paths {
		file := filepath.Join(dir, inside)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file, nil
		}
	}
	return "", &MissingError{folder.Key, name, slices.Clone(folder.Paths), nearest(name, f.Names(key))}
}

func (f *Folders) find(key string) *Folder {
	key = canonical(key)
	for i := range f.list {
		if f.list[i].Key == key {
			return &f.list[i]
		}
	}
	return nil
}

// canonical replaces the keys of old versions of ComfyUI.
func canonical(key string) string {
	switch key {
	case "unet":
		return "diffusion_models"
	case "clip":
		return "text_encoders"
	}
	return key
}

// walk lists the files of one directory of a folder.
type walk struct {
	root   string
	folder *Folder
	names  []string
}

// directory adds the files below dir. Links may lead back up: trail holds the directories between the root and dir, and
// one that is its own ancestor is not entered again.
func (w *walk) directory(dir string, trail []string) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || slices.Contains(trail, real) {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	trail = append(slices.Clip(trail), real)
	for _, entry := range entries {
		w.entry(filepath.Join(dir, entry.Name()), trail)
	}
}

func (w *walk) entry(path string, trail []string) {
	info, err := os.Stat(path)
	switch {
	case err != nil || filepath.Base(path) == ".git":
	case info.IsDir():
		w.directory(path, trail)
	case w.folder.holds(path):
		if name, err := filepath.Rel(w.root, path); err == nil {
			w.names = append(w.names, filepath.ToSlash(name))
		}
	}
}

// holds reports whether a file's extension belongs to the folder. As in Python's splitext, leading dots of a name start
// no extension.
func (f *Folder) holds(path string) bool {
	if len(f.Extensions) == 0 {
		return true
	}
	base := strings.TrimLeft(filepath.Base(path), ".")
	return slices.Contains(f.Extensions, strings.ToLower(filepath.Ext(base)))
}
