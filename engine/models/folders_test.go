package models

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree makes empty files below a new directory; "a -> b" makes a link a with the text b.
func tree(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, file := range files {
		link, target, isLink := strings.Cut(file, " -> ")
		path := filepath.Join(root, filepath.FromSlash(link))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if isLink {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(file), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestNames(t *testing.T) {
	a := tree(t,
		"checkpoints/b.safetensors", "checkpoints/a.CKPT", "checkpoints/B.pt", "checkpoints/notes.txt",
		"checkpoints/sub/deep/c.sft", "checkpoints/.git/x.pt", "checkpoints/.safetensors", "checkpoints/.hid.pt",
		"checkpoints/up -> ..", "checkpoints/self -> .", "checkpoints/gone.pt -> nowhere.pt",
		"elsewhere/linked.bin", "checkpoints/link -> ../elsewhere", "checkpoints/alias.pth -> b.safetensors",
		"clip/l.safetensors", "text_encoders/t5.safetensors", "unet/u.safetensors",
		"configs/v1.yaml", "configs/x.safetensors", "classifiers/plain", "classifiers/with.pt", "diffusers/m/unet.bin")
	b := tree(t, "checkpoints/b.safetensors", "checkpoints/z.pt", "vae/v.pt")
	f := NewFolders([]string{a, b, filepath.Join(a, "absent")})
	for _, tt := range []struct {
		key  string
		want []string
	}{
		{"checkpoints", []string{".hid.pt", "B.pt", "a.CKPT", "alias.pth", "b.safetensors", "link/linked.bin",
			"sub/deep/c.sft", "up/clip/l.safetensors", "up/configs/x.safetensors", "up/diffusers/m/unet.bin",
			"up/elsewhere/linked.bin", "up/classifiers/with.pt", "up/text_encoders/t5.safetensors",
			"up/unet/u.safetensors", "z.pt"}},
		{"text_encoders", []string{"l.safetensors", "t5.safetensors"}},
		{"clip", []string{"l.safetensors", "t5.safetensors"}},
		{"unet", []string{"u.safetensors"}},
		{"configs", []string{"v1.yaml"}},
		{"classifiers", []string{"plain"}},
		{"diffusers", []string{}},
		{"loras", []string{}},
		{"vae", []string{"v.pt"}},
		{"nonsense", nil},
	} {
		slices.Sort(tt.want)
		if diff := cmp.Diff(tt.want, f.Names(tt.key)); diff != "" {
			t.Errorf("Names(%q) (-want +got):\n%s", tt.key, diff)
		}
	}
}

func TestPathFirstRootWins(t *testing.T) {
	a := tree(t, "checkpoints/sub/x.pt", "checkpoints/dir.pt/file", "secret.pt")
	b := tree(t, "checkpoints/sub/x.pt", "checkpoints/only.pt", "checkpoints/dir.pt")
	f := NewFolders([]string{a, b})
	for name, want := range map[string]string{
		"sub/x.pt":              a + "/checkpoints/sub/x.pt",
		"./sub//x.pt":           a + "/checkpoints/sub/x.pt",
		"sub/../../../sub/x.pt": a + "/checkpoints/sub/x.pt",
		"/only.pt":              b + "/checkpoints/only.pt",
		"dir.pt":                b + "/checkpoints/dir.pt",
	} {
		if got, err := f.Path("checkpoints", name); got != want {
			t.Errorf("Path(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"", ".", "..", "../secret.pt", "sub", "../../etc/passwd", "x\x00y", "absent.pt"} {
		if got, err := f.Path("checkpoints", name); !errors.Is(err, ErrMissing) {
			t.Errorf("Path(%q) = %q, %v; want ErrMissing", name, got, err)
		}
	}
}

func TestMissingError(t *testing.T) {
	root := tree(t, "checkpoints/sd/v1-5-pruned-emaonly.safetensors", "checkpoints/other.safetensors")
	f := NewFolders([]string{root})
	for _, tt := range []struct{ key, name, nearest string }{
		{"checkpoints", "v1-5-pruned-emaonly-fp16.safetensors", "sd/v1-5-pruned-emaonly.safetensors"},
		{"checkpoints", "V1-5-PRUNED-EMAONLY.ckpt", "sd/v1-5-pruned-emaonly.safetensors"},
		{"checkpoints", "othr.safetensors", "other.safetensors"},
		{"checkpoints", "something-else-entirely.safetensors", ""},
		{"loras", "other.safetensors", ""},
		{"unet", "x.safetensors", ""},
	} {
		_, err := f.Path(tt.key, tt.name)
		var missing *MissingError
		if !errors.As(err, &missing) {
			t.Fatalf("Path(%q, %q): %v; want a MissingError", tt.key, tt.name, err)
		}
		want := &MissingError{canonical(tt.key), tt.name, f.Paths(tt.key), tt.nearest}
		if diff := cmp.Diff(want, missing); diff != "" {
			t.Errorf("Path(%q, %q) (-want +got):\n%s", tt.key, tt.name, diff)
		}
	}
	_, err := f.Path("checkpoints", "othr.safetensors")
	want := `find model "othr.safetensors" in checkpoints: no such file below ` + root + `/checkpoints; nearest name: "other.safetensors"`
	if err.Error() != want {
		t.Errorf("error is\n%s\nwant\n%s", err, want)
	}
	_, err = f.Path("nonsense", "x")
	if want := `find model "x" in nonsense: there is no such folder`; err.Error() != want {
		t.Errorf("error is\n%s\nwant\n%s", err, want)
	}
}

func TestAdd(t *testing.T) {
	f := NewFolders([]string{"/m"})
	f.Add("loras", "/x", false)
	f.Add("loras", "/y", true)
	f.Add("loras", "/x", false) // already there: stays
	f.Add("clip", "/c", true)
	f.Add("mine", "/mine", false)
	f.AddOutput("/out")
	for key, want := range map[string][]string{
		"loras":         {"/y", "/m/loras", "/x", "/out/loras"},
		"text_encoders": {"/c", "/m/text_encoders", "/m/clip", "/out/clip"},
		"mine":          {"/mine"},
		"custom_nodes":  {"/custom_nodes"},
	} {
		if diff := cmp.Diff(want, f.Paths(key)); diff != "" {
			t.Errorf("Paths(%q) (-want +got):\n%s", key, diff)
		}
	}
	f.Add("loras", "/x", true) // already there: moves
	if diff := cmp.Diff([]string{"/x", "/y", "/m/loras", "/out/loras"}, f.Paths("loras")); diff != "" {
		t.Errorf("Paths after moving (-want +got):\n%s", diff)
	}
	keys := f.Keys()
	if keys[0] != "checkpoints" || keys[len(keys)-1] != "mine" {
		t.Errorf("Keys = %v; want registration order, new ones last", keys)
	}
}

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"kitten", "mittens", 2}, {"abc", "abc", 0}, {"flaw", "lawn", 2}} {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// pinMap is pins as a table of files by FOLDER/NAME.
type pinMap map[string]string

func (p pinMap) Names(key string) (names []string) {
	for name := range p {
		if rest, ok := strings.CutPrefix(name, key+"/"); ok {
			names = append(names, rest)
		}
	}
	return names
}

func (p pinMap) Path(key, name string) (string, bool) {
	file := p[key+"/"+name]
	return file, file != ""
}

func TestPins(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "vae"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.pt", "c.pt"} {
		if err := os.WriteFile(filepath.Join(root, "vae", name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	plain := NewFolders([]string{root})
	pinned := plain.With(pinMap{"vae/a.pt": "/x/a", "vae/b.pt": "", "text_encoders/e.pt": "/x/e"})
	if diff := cmp.Diff([]string{"a.pt", "b.pt", "c.pt"}, pinned.Names("vae")); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct{ key, name, want string }{
		{"vae", "a.pt", "/x/a"}, {"vae", "c.pt", filepath.Join(root, "vae", "c.pt")}, {"clip", "e.pt", "/x/e"},
	} {
		if got, err := pinned.Path(c.key, c.name); err != nil || got != c.want {
			t.Errorf("%s/%s is %s, %v; want %s", c.key, c.name, got, err, c.want)
		}
	}
	if _, err := pinned.Path("vae", "b.pt"); !errors.Is(err, ErrMissing) {
		t.Errorf("a pinned name without a file: error is %v", err)
	}
	if got := len(plain.Names("vae")); got != 2 {
		t.Errorf("the table without pins has %d names", got)
	}
	plain.Pin(pinMap{"vae/z.pt": ""})
	if got := len(plain.Names("vae")); got != 3 {
		t.Errorf("with a pin it has %d names", got)
	}
}
