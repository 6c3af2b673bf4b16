//go:build s3

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue/queuetest"
)

// storage starts an object storage server with a bucket "pictures", and returns its URL.
func storage(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pictures"), 0o755); err != nil {
		t.Fatal(err)
	}
	const id, secret = "comfyrun-test", "comfyrun-test-secret"
	t.Setenv("AWS_ACCESS_KEY_ID", id)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	cmd := exec.Command("../../bin/tools/versitygw", "--port", address, "--quiet", "posix", dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+id, "ROOT_SECRET_KEY="+secret)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start versitygw, which make tools builds: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return "http://" + address
		}
	}
	t.Fatal("versitygw does not answer")
	return ""
}

// TestOutputs shows at a server what two workers drew, none of which share a folder with it.
func TestOutputs(t *testing.T) {
	nats := queuetest.URL(t)
	outputs := "s3://pictures/team/one?style=path&endpoint=" + storage(t)
	server := start(t, t.TempDir(), "serve", "--listen", "127.0.0.1:0", "--no-worker", "--nats", nats, "--outputs", outputs)
	for _, name := range []string{"one", "two"} {
		start(t, t.TempDir(), "worker", "--listen", "127.0.0.1:0", "--nats", nats, "--outputs", outputs, "--worker-name", name)
	}
	var ids []string
	for level := range 12 {
		workflow := grey(level << 16)
		workflow["3"] = node("SaveImage", "images", []any{"1", 0}, "filename_prefix", "sub/level")
		ids = append(ids, server.submit(workflow))
	}
	seen := map[string]bool{}
	for _, id := range ids {
		done := server.wait(id)
		for _, node := range []string{"2", "3"} {
			image := done.Outputs[node].Images[0]
			name := image.Type + "/" + image.Subfolder + "/" + image.Filename
			if seen[name] {
				t.Errorf("two pictures are called %s", name)
			}
			seen[name] = true
			response, err := http.Get(fmt.Sprintf("%s/view?filename=%s&subfolder=%s&type=%s", server.url, image.Filename, image.Subfolder, image.Type))
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != http.StatusOK || len(data) < 60 {
				t.Errorf("%s: %s, %d bytes, %v", name, response.Status, len(data), err)
			}
		}
	}
	response, err := http.Get(server.url + "/view?filename=nothing.png&type=output")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("a picture that nobody saved: %s", response.Status)
	}
}
