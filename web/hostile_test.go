package web

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// secret is what no answer may hold: it lies outside of every folder of the server.
const secret = "not for clients"

// hostileServer starts a server as a command would, with traps in its folders.
func hostileServer(t *testing.T, o Options) (s *Server, addr, base string) {
	t.Helper()
	s, _, base = recorded(t, o)
	write := func(name, content string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(base, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("secret.txt", secret)
	write("secret.safetensors", secret)
	write("user/other/secret.txt", secret)
	write("input2/secret.txt", secret)
	write("user/default/mine.txt", "mine")
	write("input/bomb.png", string(bombPNG()))
	for link, target := range map[string]string{
		"input/link.txt": "../secret.txt", "input/absolute.txt": filepath.Join(base, "secret.txt"), "input/updir": "..",
		"input/loop": "loop", "output/up": "../input2", "user/default/link.txt": "../other/secret.txt", "user/default/up": "..",
	} {
		if err := os.Symlink(target, filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(base, "input", "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewUnstartedServer(nil)
	h.Config = s.HTTPServer("")
	h.Start()
	t.Cleanup(h.Close)
	return s, strings.TrimPrefix(h.URL, "http://"), base
}

// bombPNG is a small file that says it has ten thousand million pixels.
func bombPNG() []byte {
	var b bytes.Buffer
	b.WriteString("\x89PNG\r\n\x1a\n")
	chunk := func(kind string, data []byte) {
		binary.Write(&b, binary.BigEndian, uint32(len(data)))
		data = append([]byte(kind), data...)
		b.Write(data)
		binary.Write(&b, binary.BigEndian, crc32.ChecksumIEEE(data))
	}
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 100_000), 100_000)
	chunk("IHDR", append(header, 8, 6, 0, 0, 0))
	chunk("IDAT", []byte{0x78, 0x9c, 0x63, 0, 0, 0, 1, 0, 1})
	chunk("IEND", nil)
	return b.Bytes()
}

// raw sends bytes over a connection of its own and reads the answer.
func raw(t *testing.T, addr, request string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(conn, request); err != nil && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "pipe") {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("read the answer to %.80q: %v", request, err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body) // a part is enough
	return response.StatusCode, string(body)
}

// plain is a request without a body.
func plain(method, path string, headers ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: comfy.test\r\nConnection: close\r\n%s\r\n", method, path, headerLines(headers))
}

// withBody is a request with one.
func withBody(method, path, body string, headers ...string) string {
	headers = append(headers, fmt.Sprintf("Content-Length: %d", len(body)))
	return plain(method, path, headers...) + body
}

func headerLines(headers []string) string {
	if len(headers) == 0 {
		return ""
	}
	return strings.Join(headers, "\r\n") + "\r\n"
}

// formOf is an upload: pairs of a part's Content-Disposition parameters and its content.
func formOf(path string, parts ...string) string {
	var b strings.Builder
	for i := 0; i < len(parts); i += 2 {
		fmt.Fprintf(&b, "--b\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n", parts[i], parts[i+1])
	}
	return withBody("POST", path, b.String()+"--b--\r\n", "Content-Type: multipart/form-data; boundary=b")
}

// chunks are n chunks of 4 KiB, and the end.
func chunks(n int) string {
	return strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", n) + "0\r\n\r\n"
}

func manyParts(n int) []string {
	var parts []string
	for range n {
		parts = append(parts, `name="a"`, "")
	}
	return parts
}

func TestHostileRequests(t *testing.T) {
	s, addr, base := hostileServer(t, Options{MaxUpload: 512 << 10})
	for name, rows := range hostile() {
		t.Run(name, func(t *testing.T) {
			for _, r := range rows {
				line := strings.Replace(r.request, " HTTP/1.1\r\nHost: comfy.test\r\nConnection: close\r\n", " ", 1)
				status, body := raw(t, addr, r.request)
				if status != r.status && !(status == 100 && r.status == 500) {
					t.Errorf("%.300q answers %d, not %d: %.200s", line, status, r.status, body)
				}
				if strings.Contains(body, secret) || strings.Contains(body, "root:") {
					t.Errorf("%.120q gives away a secret: %.200s", line, body)
				}
			}
		})
	}
	if status, _ := raw(t, addr, plain("GET", "/view?filename=rgb.png&type=input")); status != 200 {
		t.Errorf("afterwards the server answers %d", status)
	}
	if text := fmt.Sprint(s.logs.Entries()); strings.Contains(text, "panic") {
		t.Errorf("a handler panicked: %s", text)
	}
	checkOutside(t, base)
}

// checkOutside looks for files that requests made where they may not.
func checkOutside(t *testing.T, base string) {
	t.Helper()
	var odd []string
	fs.WalkDir(os.DirFS(base), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && (strings.Contains(name, "evil") && !strings.HasPrefix(name, "user/") || strings.Contains(name, tempPrefix)) {
			odd = append(odd, name)
		}
		return nil
	})
	other, err := os.ReadDir(filepath.Join(base, "user", "other"))
	if err != nil {
		t.Fatal(err)
	}
	if len(odd) > 0 || len(other) != 1 {
		t.Errorf("files were made: %q, %v", odd, other)
	}
	for _, name := range []string{"secret.txt", "user/other/secret.txt", "input2/secret.txt"} {
		if data, err := os.ReadFile(filepath.Join(base, name)); err != nil || string(data) != secret {
			t.Errorf("%s was changed: %q %v", name, data, err)
		}
	}
}

func TestHostileUsers(t *testing.T) {
	_, addr, base := hostileServer(t, Options{MultiUser: true})
	table := `{"..": "a", ".": "b", "": "c", "x/../../other": "d", "other": "good", "a\\b": "e"}`
	if err := os.WriteFile(filepath.Join(base, "user", usersFile), []byte(table), 0o644); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, id := range []string{"..", ".", "", "x/../../other", "other", `a\b`, "default", "other/", "OTHER"} {
		got[id], _ = raw(t, addr, plain("GET", "/settings", "Comfy-User: "+id))
	}
	want := map[string]int{"..": 401, ".": 401, "": 401, "x/../../other": 401, "other": 200, `a\b`: 401, "default": 401, "other/": 401, "OTHER": 401}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
