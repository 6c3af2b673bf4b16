package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/library"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
	"github.com/comfyrun/comfyrun/web/webtest"
)

// bench is a server with named workflows and, unless told otherwise, a worker.
type bench struct {
	t testing.TB
	*Server
	url string
}

// newBench starts one; change may set more of its options.
func newBench(t testing.TB, working bool, change ...func(*Options)) *bench {
	t.Helper()
	base := webtest.Base(t)
	q, err := queue.Open(t.Context(), queue.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	catalog := webtest.Catalog(t, base)
	get := func() *engine.Catalog { return catalog }
	o := Options{
		Queue: q, Catalog: get, Models: models.NewFolders([]string{filepath.Join(base, "models")}), Version: "test",
		Dirs: Dirs{
			Input: filepath.Join(base, "input"), Output: filepath.Join(base, "output"),
			Temp: filepath.Join(base, "temp"), User: filepath.Join(base, "user"),
		},
		Workflows: filepath.Join("testdata", "workflows"), Ready: &Readiness{},
	}
	for _, f := range change {
		f(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		if !working {
			done <- nil
			return
		}
		w := worker.Worker{Queue: q, Previews: worker.PreviewOptions{Method: "auto"},
			Runners: []*worker.Runner{{Catalog: get, Engine: &engine.Runner{Cache: &engine.Cache{}}}}}
		done <- w.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
		h.Close()
		s.Close()
		q.Close()
	})
	return &bench{t, s, h.URL}
}

// do sends a request; a body that is no reader is sent as JSON.
func (b *bench) do(method, path string, body any, headers ...string) (*http.Response, []byte) {
	b.t.Helper()
	var in io.Reader
	switch body := body.(type) {
	case nil:
	case io.Reader:
		in = body
	case string:
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, in)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, ok := body.(string); ok {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, data
}

// result sends a request and reads its answer as a prompt's result.
func (b *bench) result(method, path string, body any, status int, headers ...string) promptResult {
	b.t.Helper()
	resp, data := b.do(method, path, body, headers...)
	if resp.StatusCode != status {
		b.t.Fatalf("%s %s: status %d, want %d: %s", method, path, resp.StatusCode, status, data)
	}
	var r promptResult
	if err := json.Unmarshal(data, &r); err != nil {
		b.t.Fatalf("%v: %s", err, data)
	}
	return r
}

func TestListNamed(t *testing.T) {
	b := newBench(t, false)
	if _, ready := b.do("GET", "/readyz", nil); !strings.Contains(string(ready), "[+] named workflows read: 1 do not check") {
		t.Errorf("readiness says %s", ready)
	}
	_, data := b.do("GET", "/api/workflows", nil)
	var list struct{ Workflows []namedEntry }
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range list.Workflows {
		got = append(got, fmt.Sprint(w.Name, " ", w.Parameters, " ", w.Error != "", " ", len(w.Digest)))
	}
	want := []string{"broken [] true 0", "draw [seed steps delay preview fail prefix] false 64", "invert [photo] false 64"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if problems := b.workflowProblems(); len(problems) != 1 || !strings.Contains(problems[0], "broken") {
		t.Errorf("problems %q", problems)
	}
	resp, data := b.do("GET", "/workflows/draw", nil)
	if resp.Header.Get("ETag") == "" || !strings.Contains(string(data), `"maximum":200`) {
		t.Errorf("description %s, headers %v", data, resp.Header)
	}
	if resp, _ := b.do("GET", "/workflows/draw/schema", nil); resp.Header.Get("Content-Type") != "application/schema+json" {
		t.Errorf("schema has type %s", resp.Header.Get("Content-Type"))
	}
	if resp, _ := b.do("GET", "/workflows/nope", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("unknown workflow: status %d", resp.StatusCode)
	}
	if resp, _ := b.do("POST", "/workflows/broken", "{}"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("workflow that does not check: status %d", resp.StatusCode)
	}
}

func TestCallNamed(t *testing.T) {
	b := newBench(t, true)
	r := b.result("POST", "/workflows/draw?wait=30s", `{"seed": 18446744073709551615, "prefix": "a/b"}`, http.StatusOK)
	if r.Status != "success" || string(r.Seed) != "18446744073709551615" || r.Workflow.Name != "draw" || len(r.Outputs) != 1 {
		t.Fatalf("result %+v", r)
	}
	want := `{"seed":18446744073709551615,"steps":3,"delay":0,"preview":"none","fail":-1,"prefix":"a/b"}`
	if string(r.Parameters) != want {
		t.Errorf("parameters %s, want %s", r.Parameters, want)
	}
	o := r.Outputs[0]
	resp, data := b.do("GET", o.ContentURL, nil)
	sum := sha256.Sum256(data)
	if hex.EncodeToString(sum[:]) != o.SHA256 || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") || o.Size != int64(len(data)) {
		t.Errorf("output %+v by content: %d bytes, headers %v", o, len(data), resp.Header)
	}
	if _, viewed := b.do("GET", o.URL, nil); !bytes.Equal(viewed, data) {
		t.Error("the output by name is another one")
	}
	if r.Timings.Run == nil || r.Timings.Queued == nil || !strings.Contains(string(r.Timings.Nodes), "FxSteps") {
		t.Errorf("timings %+v", r.Timings)
	}
}

// The same call again is answered from the results that are there, with its outputs all the same.
func TestCallNamedAgain(t *testing.T) {
	b := newBench(t, true)
	first := b.result("POST", "/workflows/draw?wait=30s", `{"seed": 1}`, http.StatusOK)
	second := b.result("POST", "/workflows/draw?wait=30s", `{"seed": 1}`, http.StatusOK)
	if len(first.Outputs) != 1 || len(second.Outputs) != 1 || first.Outputs[0].SHA256 != second.Outputs[0].SHA256 {
		t.Errorf("outputs %+v, then %+v", first.Outputs, second.Outputs)
	}
}

func TestRandomSeedIsReported(t *testing.T) {
	b := newBench(t, true)
	seen := map[string]bool{}
	for range 3 {
		r := b.result("POST", "/workflows/draw?wait=30s", `{}`, http.StatusOK)
		if !strings.Contains(string(r.Parameters), `"seed":`+string(r.Seed)+",") {
			t.Errorf("seed %s, parameters %s", r.Seed, r.Parameters)
		}
		seen[string(r.Seed)] = true
	}
	if len(seen) != 3 {
		t.Errorf("seeds %v are not random", seen)
	}
	_, data := b.do("POST", "/workflows/draw", "")
	var answer struct {
		ID         string `json:"prompt_id"`
		Parameters json.RawMessage
	}
	if err := json.Unmarshal(data, &answer); err != nil || answer.ID == "" || !strings.Contains(string(answer.Parameters), `"seed":`) {
		t.Errorf("answer %s, %v", data, err)
	}
}

func TestParameterProblems(t *testing.T) {
	b := newBench(t, false)
	for _, tt := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"steps": 201}`, 400, `"steps":{"type":"value_bigger_than_max"`},
		{`{"steps": "3"}`, 400, `"type":"invalid_input_type"`},
		{`{"stepps": 3}`, 400, `"allowed":["delay","fail","prefix","preview","seed","steps"]`},
		{`{"preview": "gif"}`, 400, `"type":"value_not_in_list"`},
		{`[1]`, 400, "the body is a JSON object of parameters, not"},
		{`{`, 400, "invalid_body"},
	} {
		resp, data := b.do("POST", "/workflows/draw", tt.body)
		if resp.StatusCode != tt.status || !strings.Contains(string(data), tt.want) {
			t.Errorf("%s: status %d, %s; want %d with %s", tt.body, resp.StatusCode, data, tt.status, tt.want)
		}
	}
	for _, tt := range []struct {
		path    string
		headers []string
		status  int
	}{
		{"/workflows/draw?wait=soon", nil, 400},
		{"/workflows/draw?wait=-1s", nil, 400},
		{"/workflows/draw?cancel_on_disconnect=perhaps", nil, 400},
		{"/workflows/draw", []string{"If-Match", `"00"`}, 412},
		{"/workflows/invert", nil, 400},
	} {
		if resp, data := b.do("POST", tt.path, "{}", tt.headers...); resp.StatusCode != tt.status {
			t.Errorf("%s %v: status %d, want %d: %s", tt.path, tt.headers, resp.StatusCode, tt.status, data)
		}
	}
	for body, want := range map[string]int{"steps=3": 415, `{"steps": 300}`: 400} {
		resp, data := b.do("POST", "/workflows/draw", body, "Content-Type", "application/x-www-form-urlencoded")
		if resp.StatusCode != want {
			t.Errorf("a form holding %s: status %d, want %d: %s", body, resp.StatusCode, want, data)
		}
	}
	if b.Queue.Depth() != 0 {
		t.Errorf("%d refused calls are queued", b.Queue.Depth())
	}
}

func pixel(t *testing.T) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 2, 2))
	for i := range 4 {
		img.Set(i%2, i/2, color.RGBA{10, 20, 30, 255})
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A picture comes as base64, as a data: URL, as a file of a form or by the name of an upload.
func TestPictures(t *testing.T) {
	b := newBench(t, true)
	data := pixel(t)
	text := base64.StdEncoding.EncodeToString(data)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("photo", "anything.png")
	if err != nil {
		t.Fatal(err)
	}
	part.Write(data)
	w.Close()
	var digests []string
	for _, body := range []any{`{"photo": {"data": "` + text + `"}}`, `{"photo": "data:image/png;base64,` + text + `"}`, &form} {
		headers := []string{}
		if _, ok := body.(io.Reader); ok {
			headers = []string{"Content-Type", w.FormDataContentType()}
		}
		r := b.result("POST", "/workflows/invert?wait=30s", body, http.StatusOK, headers...)
		if len(r.Outputs) != 1 {
			t.Fatalf("result %+v", r)
		}
		digests = append(digests, r.Outputs[0].SHA256)
	}
	if digests[0] == "" || digests[0] != digests[1] || digests[1] != digests[2] {
		t.Errorf("three ways of one picture gave %q", digests)
	}
	for _, body := range []string{`{"photo": {"data": "no base64!"}}`, `{"photo": {"data": "` + base64.StdEncoding.EncodeToString([]byte("<svg/>")) + `"}}`, `{"photo": 5}`, `{"photo": "../x.png"}`} {
		if resp, answer := b.do("POST", "/workflows/invert", body); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %d: %s", body, resp.StatusCode, answer)
		}
	}
}

func TestForm(t *testing.T) {
	b := newBench(t, true)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for name, value := range map[string]string{"seed": "9007199254740993", "steps": "", "prefix": "p"} {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	r := b.result("POST", "/workflows/draw?wait=30s", &form, http.StatusOK, "Content-Type", w.FormDataContentType())
	if want := `{"seed":9007199254740993,"steps":3,"delay":0,"preview":"none","fail":-1,"prefix":"p"}`; string(r.Parameters) != want {
		t.Errorf("parameters %s, want %s", r.Parameters, want)
	}
}

func TestPictureItself(t *testing.T) {
	b := newBench(t, true)
	for _, accept := range []string{"image/png", "image/*", "image/*, */*;q=0.1"} {
		resp, data := b.do("POST", "/workflows/draw", `{"seed": 5}`, "Accept", accept)
		h := resp.Header
		if resp.StatusCode != 200 || h.Get("Content-Type") != "image/png" || h.Get("X-Comfyrun-Seed") != "5" || h.Get("X-Comfyrun-Node") != "2" {
			t.Fatalf("%s: status %d, headers %v, %.200s", accept, resp.StatusCode, h, data)
		}
		if _, err := png.Decode(bytes.NewReader(data)); err != nil {
			t.Error(err)
		}
		if r := b.result("GET", "/prompt/"+h.Get("X-Comfyrun-Prompt-Id"), nil, 200); r.Outputs[0].SHA256 != h.Get("X-Comfyrun-Sha256") {
			t.Errorf("the prompt of the header has another output: %+v", r)
		}
	}
	b.result("POST", "/workflows/draw", `{"seed": 5}`, http.StatusNotAcceptable, "Accept", "image/webp")
	r := b.result("POST", "/workflows/draw", `{"seed": 6, "fail": 1}`, http.StatusInternalServerError, "Accept", "image/png")
	if r.Error == nil || r.Error.Node != "1" || !strings.Contains(r.Error.Message, "failed at step 1") {
		t.Errorf("a prompt that fails: %+v", r.Error)
	}
}

func TestWaitIsOver(t *testing.T) {
	b := newBench(t, false)
	resp, data := b.do("POST", "/workflows/draw?wait=10ms", `{}`)
	var r promptResult
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Location") != "/prompt/"+r.PromptID || r.Status != "queued" || *r.Ahead != 0 {
		t.Fatalf("status %d, %s", resp.StatusCode, data)
	}
	second := b.result("POST", "/workflows/draw?wait=0.01", `{}`, http.StatusAccepted)
	if *second.Ahead != 1 {
		t.Errorf("the second is %d behind", *second.Ahead)
	}
	var list promptList
	_, data = b.do("GET", "/prompts?ended=false&limit=1", nil)
	if err := json.Unmarshal(data, &list); err != nil || list.Total != 2 || len(list.Prompts) != 1 || list.Prompts[0].PromptID != r.PromptID {
		t.Errorf("list %s", data)
	}
	if _, err := b.Queue.Cancel(t.Context(), r.PromptID); err != nil {
		t.Fatal(err)
	}
	b.result("GET", "/prompt/"+r.PromptID+"?wait=1s", nil, http.StatusConflict)
	if resp, _ := b.do("GET", "/prompt/none?wait=1s", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("unknown prompt: status %d", resp.StatusCode)
	}
}

const plainPrompt = `{"prompt": {
	"1": {"class_type": "FxSteps", "inputs": {"seed": 7, "steps": 3, "delay_ms": 1, "preview": "none", "fail_at": -1}},
	"2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "plain", "images": ["1", 0]}}}}`

func TestPromptWaits(t *testing.T) {
	b := newBench(t, true)
	r := b.result("POST", "/api/prompt?wait=30s", plainPrompt, http.StatusOK)
	if r.Status != "success" || r.Workflow != nil || string(r.Seed) != "7" || len(r.Outputs) != 1 {
		t.Errorf("result %+v", r)
	}
	resp, _ := b.do("POST", "/prompt", plainPrompt, "Accept", "*/*")
	if resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("a client that waits for nothing got %s", resp.Header.Get("Content-Type"))
	}
	resp, data := b.do("GET", "/prompt/"+r.PromptID+"/workflow", nil)
	if resp.StatusCode != 200 || !strings.Contains(string(data), "FxSteps") {
		t.Errorf("workflow of the prompt: %d %s", resp.StatusCode, data)
	}
}

// A client that goes away leaves its prompt alone, unless it asked for the contrary.
func TestDisconnect(t *testing.T) {
	for _, cancels := range []bool{false, true} {
		t.Run(fmt.Sprint(cancels), func(t *testing.T) {
			b := newBench(t, false)
			ctx, leave := context.WithCancel(t.Context())
			path := fmt.Sprintf("%s/workflows/draw?wait=60s&prompt_id=mine&cancel_on_disconnect=%t", b.url, cancels)
			req, err := http.NewRequestWithContext(ctx, "POST", path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if resp, err := http.DefaultClient.Do(req); err == nil {
					resp.Body.Close()
				}
			}()
			eventually(t, func() bool { return b.Queue.Depth() == 1 })
			leave()
			<-done
			if cancels {
				eventually(t, func() bool { return b.Queue.Depth() == 0 })
				return
			}
			time.Sleep(100 * time.Millisecond)
			if b.Queue.Depth() != 1 {
				t.Error("the prompt of a client that left was cancelled")
			}
		})
	}
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within a minute")
		}
	}
}

func TestPromptList(t *testing.T) {
	b := newBench(t, true)
	var ids []string
	for seed := range 5 {
		ids = append(ids, b.result("POST", "/workflows/draw?wait=30s", fmt.Sprintf(`{"seed": %d}`, seed), 200).PromptID)
	}
	for _, tt := range []struct {
		query string
		want  []string
	}{
		{"limit=2", []string{ids[4], ids[3]}},
		{"limit=2&offset=2", []string{ids[2], ids[1]}},
		{"limit=2&offset=4", []string{ids[0]}},
		{"limit=2&offset=5", nil},
		{"limit=0", nil},
	} {
		_, data := b.do("GET", "/prompts?"+tt.query, nil)
		var list promptList
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range list.Prompts {
			got = append(got, p.PromptID)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || list.Total != 5 {
			t.Errorf("%s: total %d\n%s", tt.query, list.Total, diff)
		}
	}
	for _, query := range []string{"limit=x", "offset=-1", "ended=maybe"} {
		if resp, _ := b.do("GET", "/prompts?"+query, nil); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %d", query, resp.StatusCode)
		}
	}
}

// A server that has answered nothing yet finds outputs in the history; a file that was changed is not shown under its old
// digest.
func TestOutputsByContent(t *testing.T) {
	b := newBench(t, true)
	r := b.result("POST", "/workflows/draw?wait=30s", `{"seed": 3}`, 200)
	o := r.Outputs[0]
	fresh := &outputIndex{}
	if ref, ok := fresh.find(t.Context(), b.Server, o.SHA256); !ok || ref.Filename != o.Filename {
		t.Errorf("found %+v, %t", ref, ok)
	}
	root, err := b.folders[outputFolder].open()
	if err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(root, o.Filename, strings.NewReader("something else")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		o.ContentURL: 404, "/outputs/sha256/" + strings.Repeat("0", 64): 404, "/outputs/sha256/abc": 400, "/outputs/sha256/" + strings.ToUpper(o.SHA256): 400,
	} {
		if resp, _ := b.do("GET", path, nil); resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, want)
		}
	}
}

func TestIdempotentCall(t *testing.T) {
	b := newBench(t, true)
	first := b.result("POST", "/workflows/draw?wait=30s", `{}`, 200, "Idempotency-Key", "k")
	again := b.result("POST", "/workflows/draw", `{}`, 200, "Idempotency-Key", "k")
	if first.PromptID != again.PromptID || string(first.Seed) != string(again.Seed) {
		t.Errorf("a repeated call ran again: %+v, %+v", first, again)
	}
}

func TestWantedPicture(t *testing.T) {
	for accept, want := range map[string]string{
		"": "", "*/*": "", "application/json": "", "image/png": "image/png", "image/*": "image/*", "image/webp, image/png": "image/webp",
		"image/png, application/json": "", "text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8": "",
	} {
		if got := wantedPicture(accept); got != want {
			t.Errorf("Accept %q: %q, want %q", accept, got, want)
		}
	}
}

// The page is where the editor is not, and always below /comfyrun/.
func TestPageFiles(t *testing.T) {
	editor := func(o *Options) { o.Frontend = filepath.Join("testdata", "editor") }
	for _, tt := range []struct {
		path   string
		change []func(*Options)
		ours   bool
	}{
		{"/", nil, true}, {"/comfyrun/", nil, true}, {"/comfyrun", nil, true},
		{"/", []func(*Options){editor}, false}, {"/comfyrun/", []func(*Options){editor}, true},
	} {
		b := newBench(t, false, tt.change...)
		resp, data := b.do("GET", tt.path, nil)
		policy := resp.Header.Get("Content-Security-Policy")
		ours := bytes.Contains(data, []byte("/comfyrun/app.js")) && strings.Contains(policy, "default-src 'none'") && !strings.Contains(policy, "unsafe")
		if resp.StatusCode != 200 || ours != tt.ours {
			t.Errorf("%s: status %d, policy %q, our page: %t, want %t", tt.path, resp.StatusCode, policy, ours, tt.ours)
		}
	}
	b := newBench(t, false)
	for path, want := range map[string]string{
		"app.js": "application/javascript; charset=utf-8", "style.css": "text/css", "icon.svg": "image/svg+xml", "nope.js": "", "..%2Fpage.go": "", "page": "",
	} {
		resp, _ := b.do("GET", "/comfyrun/"+path, nil)
		if got := resp.Header.Get("Content-Type"); resp.StatusCode == 200 && got != want || resp.StatusCode != 200 && want != "" {
			t.Errorf("%s: status %d, type %q, want %q", path, resp.StatusCode, got, want)
		}
	}
}

// Nothing of the page is loaded from elsewhere.
func TestPageNeedsNobodyElse(t *testing.T) {
	files, err := pageFiles.ReadDir("page")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := pageFiles.ReadFile("page/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), `xmlns="http://www.w3.org/2000/svg"`, "")
		for _, word := range []string{"http://", "https://", "style=", "onclick=", "<script>"} {
			if strings.Contains(text, word) {
				t.Errorf("%s holds %s", f.Name(), word)
			}
		}
	}
}

func FuzzReadValues(f *testing.F) {
	f.Add("application/json", `{"seed": 5, "photo": {"data": "aGVsbG8="}}`)
	f.Add("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"steps\"\r\n\r\n5\r\n--x--\r\n")
	f.Add("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a\"\r\n\r\n\x89PNG\r\n\x1a\n\r\n--x--\r\n")
	b := newBench(f, false)
	draw, _ := b.library.Get("draw")
	invert, _ := b.library.Get("invert")
	f.Fuzz(func(t *testing.T, kind, body string) {
		for _, e := range []library.Entry{draw, invert} {
			r := httptest.NewRequest("POST", "/", strings.NewReader(body))
			r.Header.Set("Content-Type", kind)
			values, pictures, err := readValues(r, e.Workflow)
			if err != nil {
				continue
			}
			for _, p := range pictures {
				if p.name != filepath.Base(p.name) || len(p.data) == 0 {
					t.Fatalf("picture %q of %d bytes", p.name, len(p.data))
				}
			}
			e.Workflow.Fill(values)
		}
	})
}
