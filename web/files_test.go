package web

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// send uploads a file and returns the status and the name that it got.
func send(t testing.TB, s *Server, name, content string, fields ...string) (int, string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, err := w.CreateFormFile("image", name)
	if err != nil {
		t.Fatal(err)
	}
	part.Write([]byte(content))
	for i := 0; i < len(fields); i += 2 {
		w.WriteField(fields[i], fields[i+1])
	}
	w.Close()
	r := httptest.NewRequest("POST", "http://comfy.test/upload/image", &b)
	r.Header.Set("Content-Type", w.FormDataContentType())
	answer := httptest.NewRecorder()
	s.Handler().ServeHTTP(answer, r)
	var stored struct{ Name string }
	json.Unmarshal(answer.Body.Bytes(), &stored) // "" if it was refused
	return answer.Code, stored.Name
}

// Uploads of one name at the same time get names of their own, and nothing is lost.
func TestConcurrentUploads(t *testing.T) {
	s, _, base := recorded(t, Options{})
	const n = 20
	names := make([]string, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if status, name := send(t, s, "same.bin", fmt.Sprint("content ", i)); status == http.StatusOK {
				names[i] = name
			}
		})
	}
	all.Wait()
	for i, name := range names {
		data, err := os.ReadFile(filepath.Join(base, "input", name))
		if err != nil || string(data) != fmt.Sprint("content ", i) {
			t.Errorf("upload %d is %q: %q %v", i, name, data, err)
		}
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != n {
		t.Errorf("names occur twice: %q", names)
	}
}

// A large file passes through the disk; the same content under the same name is one file.
func TestLargeUpload(t *testing.T) {
	s, _, base := recorded(t, Options{})
	content := strings.Repeat("0123456789abcdef", 1<<19) // 8 MiB
	for range 2 {
		if status, name := send(t, s, "large.bin", content); status != 200 || name != "large.bin" {
			t.Fatal(status, name)
		}
	}
	if _, name := send(t, s, "large.bin", content[:len(content)-1]+"x"); name != "large (1).bin" {
		t.Errorf("other content got the name %q", name)
	}
	if data, err := os.ReadFile(filepath.Join(base, "input", "large.bin")); err != nil || string(data) != content {
		t.Errorf("%d bytes are stored, %v", len(data), err)
	}
	entries, err := os.ReadDir(filepath.Join(base, "input"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

// Folders that are removed and made again while the server runs are found.
func TestFolderMadeAgain(t *testing.T) {
	s, _, base := recorded(t, Options{})
	input := filepath.Join(base, "input")
	if err := os.RemoveAll(input); err != nil {
		t.Fatal(err)
	}
	if w := ask(s, "GET", "/view?filename=rgb.png&type=input"); w.Code != http.StatusNotFound {
		t.Errorf("a file that is gone: %d", w.Code)
	}
	if err := os.MkdirAll(input, 0o755); err != nil {
		t.Fatal(err)
	}
	if status, _ := send(t, s, "new.txt", "new"); status != 200 {
		t.Errorf("upload: %d", status)
	}
	if w := ask(s, "GET", "/view?filename=new.txt&type=input"); w.Code != 200 || w.Body.String() != "new" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestViewHeaders(t *testing.T) {
	s, _, base := recorded(t, Options{})
	if err := os.WriteFile(filepath.Join(base, "input", `a"b.svg`), []byte("<svg/>"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := ask(s, "GET", `/view?type=input&filename=a%22b.svg`)
	got := map[string]string{}
	for _, name := range []string{"Content-Type", "Content-Disposition", "X-Content-Type-Options", "Content-Security-Policy"} {
		got[name] = w.Header().Get(name)
	}
	want := map[string]string{
		"Content-Type": "image/svg+xml", "Content-Disposition": `filename="a_b.svg"`, "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	etag := w.Header().Get("ETag")
	if again := ask(s, "GET", `/view?type=input&filename=a%22b.svg`, "If-None-Match: "+etag); etag == "" || again.Code != http.StatusNotModified {
		t.Errorf("the same ETag %q: %d", etag, again.Code)
	}
}

// A lossless WebP has the pixels of its original, under an alpha channel of zero too.
func TestPreviewPixels(t *testing.T) {
	s, _, base := recorded(t, Options{})
	data, err := os.ReadFile(filepath.Join(base, "input", "rgba.png"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := imagefile.Decode(data, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := imagefile.Decode(ask(s, "GET", "/view?type=input&filename=rgba.png&preview=webp;10").Body.Bytes(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A model shows the picture beside it, or else the first one in its metadata.
func TestModelPreviews(t *testing.T) {
	s, _, base := recorded(t, Options{})
	dir := filepath.Join(base, "models", "loras")
	picture, err := os.ReadFile(filepath.Join(base, "input", "rgb.png"))
	if err != nil {
		t.Fatal(err)
	}
	covers, err := json.Marshal([]string{base64.StdEncoding.EncodeToString(picture)})
	if err != nil {
		t.Fatal(err)
	}
	header, err := json.Marshal(map[string]map[string]string{"__metadata__": {"ssmd_cover_images": string(covers)}})
	if err != nil {
		t.Fatal(err)
	}
	model := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	for name, content := range map[string][]byte{
		"cover.safetensors": model, "beside.safetensors": nil, "beside.preview.png": picture, "sub/deep.safetensors": model,
		"broken.safetensors": model[:20], "long.safetensors": binary.LittleEndian.AppendUint64(nil, 1<<40), "none.pt": nil,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]int{}
	for _, name := range []string{"cover.safetensors", "beside.safetensors", "sub/deep.safetensors", "sub%2Fdeep.safetensors", "broken.safetensors", "long.safetensors", "none.pt"} {
		w := ask(s, "GET", "/api/experiment/models/preview/loras/0/"+name)
		got[name] = w.Code
		if w.Code == 200 && w.Header().Get("Content-Type") != "image/webp" {
			t.Errorf("%s is %s", name, w.Header().Get("Content-Type"))
		}
	}
	want := map[string]int{
		"cover.safetensors": 200, "beside.safetensors": 200, "sub/deep.safetensors": 200, "sub%2Fdeep.safetensors": 200,
		"broken.safetensors": 404, "long.safetensors": 404, "none.pt": 404,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFrontendMissing(t *testing.T) {
	s, _, base := recorded(t, Options{})
	o := s.Options
	o.Frontend = filepath.Join(base, "nothing")
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a folder that is missing: %v", err)
	}
}

func TestClose(t *testing.T) {
	s, _, _ := recorded(t, Options{Frontend: filepath.Join("testdata", "editor")})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A picture that WebP cannot hold is an error; JPEG can.
func TestPreviewTooWide(t *testing.T) {
	s, _, base := recorded(t, Options{})
	const width = 17_000
	var wide bytes.Buffer
	if err := imagefile.WritePNG(&wide, imagefile.Picture{Width: width, Height: 1, RGB: make([]byte, 3*width)}, imagefile.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "input", "wide.png"), wide.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for preview, want := range map[string]int{"webp": 500, "jpeg": 200} {
		if w := ask(s, "GET", "/view?type=input&filename=wide.png&preview="+preview); w.Code != want {
			t.Errorf("%s: %d", preview, w.Code)
		}
	}
	if text := fmt.Sprint(s.logs.Entries()); strings.Contains(text, "panic") {
		t.Error(text)
	}
}
