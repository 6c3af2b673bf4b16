package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// child is a comfyrun process of its own.
type child struct {
	t    testing.TB
	cmd  *exec.Cmd
	url  string // of a server
	logs *lines
}

// lines keeps what a process logs.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(line + "\n")
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs comfyrun with a home and waits until it listens.
func start(t testing.TB, home string, args ...string) *child {
	t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: exec.Command("comfyrun", args...), logs: &lines{}}
	c.cmd.Env = append(os.Environ(), "COMFYRUN_HOME="+home, "COMFYRUN_LIBRARY="+filepath.Join(top, "lib"))
	out, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kill() })
	address := make(chan string, 1)
	go c.follow(out, address)
	select {
	case a, ok := <-address:
		if !ok {
			t.Fatalf("comfyrun %v ended before it listened:\n%s", args, c.logs)
		}
		c.url = "http://" + a
	case <-time.After(2 * time.Minute):
		t.Fatalf("comfyrun %v does not listen:\n%s", args, c.logs)
	}
	return c
}

// follow keeps the log and finds the address in it.
func (c *child) follow(out io.Reader, address chan<- string) {
	defer close(address)
	found := false
	for scan := bufio.NewScanner(out); scan.Scan(); {
		c.logs.add(scan.Text())
		var line struct{ Msg, Address string }
		if err := json.Unmarshal(scan.Bytes(), &line); err == nil && line.Msg == "listening" && !found {
			found = true
			address <- line.Address
		}
	}
}

// kill ends the process at once, as a crash would.
func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
}

// stop asks the process to end and returns its exit code.
func (c *child) stop() int {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	select {
	case <-ended:
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(2 * time.Minute):
		c.t.Fatalf("the process does not end:\n%s", c.logs)
		return -1
	}
}

// get decodes the JSON of a GET into v.
func (c *child) get(path string, v any) {
	c.t.Helper()
	response, err := http.Get(c.url + path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.decode(path, response, v)
}

// post sends JSON and decodes the JSON of the answer into v.
func (c *child) post(path string, body, v any) {
	c.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := http.Post(c.url+path, "application/json", bytes.NewReader(text))
	if err != nil {
		c.t.Fatal(err)
	}
	c.decode(path, response, v)
}

func (c *child) decode(path string, response *http.Response, v any) {
	c.t.Helper()
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %s %s %v", path, response.Status, data, err)
	}
	if v == nil {
		return
	}
	if err := json.Unmarshal(data, v); err != nil {
		c.t.Fatalf("%s: %s: %v", path, data, err)
	}
}

// entry is what a history says of a prompt.
type entry struct {
	Outputs map[string]struct {
		Images []struct{ Filename, Subfolder, Type string }
	}
	Status struct {
		Text      string `json:"status_str"`
		Completed bool
	}
}

// wait returns the history's entry of a prompt when it has finished.
func (c *child) wait(id string) entry {
	c.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var found map[string]entry
		c.get("/history/"+id, &found)
		if e, ok := found[id]; ok {
			return e
		}
	}
	c.t.Fatalf("prompt %s does not end:\n%s", id, c.logs)
	return entry{}
}

// grey is a workflow of two nodes that needs no model.
func grey(level int) map[string]any {
	return map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", level),
		"2": node("PreviewImage", "images", []any{"1", 0}),
	}
}

func node(class string, inputs ...any) map[string]any {
	given := map[string]any{}
	for i := 0; i < len(inputs); i += 2 {
		given[inputs[i].(string)] = inputs[i+1]
	}
	return map[string]any{"class_type": class, "inputs": given}
}

// submit posts a workflow and returns its prompt_id.
func (c *child) submit(workflow any) string {
	c.t.Helper()
	var answer struct {
		ID string `json:"prompt_id"`
	}
	c.post("/prompt", map[string]any{"prompt": workflow}, &answer)
	return answer.ID
}

// tryPrompt posts a request and returns the prompt_id.
func tryPrompt(url string, body []byte) (string, error) {
	response, err := http.Post(url+"/prompt", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct {
		ID string `json:"prompt_id"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", errors.New(response.Status)
	}
	return answer.ID, nil
}

// demoWorkflow is the default workflow, which runs the demo model.
func demoWorkflow(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("../../workflows/default.json")
	if err != nil {
		t.Fatal(err)
	}
	var workflow map[string]any
	if err := json.Unmarshal(text, &workflow); err != nil {
		t.Fatal(err)
	}
	return workflow
}

func TestServeDemo(t *testing.T) {
	workflow := demoWorkflow(t)
	server := start(t, t.TempDir(), "serve", "--listen", "127.0.0.1:0")
	done := server.wait(server.submit(workflow))
	if !done.Status.Completed || done.Status.Text != "success" {
		t.Fatalf("status %+v\n%s", done.Status, server.logs)
	}
	pictures := 0
	for _, output := range done.Outputs {
		for _, image := range output.Images {
			response, err := http.Get(fmt.Sprintf("%s/view?filename=%s&subfolder=%s&type=%s", server.url, image.Filename, image.Subfolder, image.Type))
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || !strings.HasPrefix(string(data), "\x89PNG") {
				t.Errorf("%+v: %s %v", image, response.Status, err)
			}
			pictures++
		}
	}
	if pictures != 1 {
		t.Errorf("outputs %v hold %d pictures", done.Outputs, pictures)
	}
}
